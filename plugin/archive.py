"""The image archive: one adapter over dicomweb-client's protocol, for a DICOMweb server and for folders of files.

Over HTTP the client is dicomweb-client's ``DICOMwebClient``. Over files it is :class:`FileClient` here, which keeps the
same promise: dicomweb-client's own ``DICOMfileClient`` was measured and refuses Implicit VR Little Endian (the default
transfer syntax), big-endian and deflated files, cannot be used from a second thread, writes in place, and takes exactly
one folder. The adapter works over that one too, and the contract test runs it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from plugin.dicom.header import (
    RADIOGRAPH_CLASSES,
    UNREADABLE,
    description_of,
    image_ref_of,
    radiographs_among,
    read_part10,
    text,
    tolerant,
)
from plugin.dicom.pixels import radiograph_of
from plugin.errors import ConformanceError, InputError, SightlineError, TransientError
from plugin.values import ImageDescription, ImageRef, Radiograph, StudyRef

#: A file larger than this is not read: no radiograph is.
MAX_FILE_BYTES: Final = 1024**3


class Client(Protocol):
    """The part of dicomweb-client's protocol that the adapter speaks."""

    def retrieve_study_metadata(self, study_instance_uid: str) -> list[dict[str, Any]]:
        """DICOM JSON of each instance of the study."""

    def retrieve_instance(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> Dataset:
        """One instance with its pixel data."""

    def store_instances(self, datasets: Sequence[Dataset], study_instance_uid: str | None = None) -> Dataset:
        """Store instances; the answer lists failures in FailedSOPSequence (PS3.18 10.5.3)."""


class DicomwebArchive:
    """An :class:`plugin.ports.ImageArchive` over any dicomweb-client client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def describe(self, study: StudyRef) -> tuple[ImageDescription, ...]:
        """Every radiograph of the study, in the order of their SOP Instance UIDs."""
        with _answered(), tolerant():
            answer = self._client.retrieve_study_metadata(study.study_instance_uid)
            datasets = tuple(_from_json(instance) for instance in answer)
        if not datasets:
            raise InputError("The archive has no such study, or it holds no instances.")
        found = (description_of(dataset) for dataset in radiographs_among(datasets))
        return tuple(sorted(found, key=lambda description: description.image.sop_instance_uid))

    def read(self, image: ImageRef) -> Radiograph:
        """One image, decoded and windowed."""
        with _answered(), tolerant():
            dataset = self._client.retrieve_instance(
                image.study.study_instance_uid, image.series_instance_uid, image.sop_instance_uid
            )
        return radiograph_of(dataset)

    def store(self, study: StudyRef, instances: tuple[bytes, ...]) -> None:
        """Store DICOM files; one already stored counts as stored."""
        if not instances:
            return
        datasets = [read_part10(instance) for instance in instances]
        for dataset in datasets:
            if image_ref_of(dataset).study != study:
                raise ConformanceError("An instance to be stored belongs to another study.")
        with _answered(storing=True):
            answer = self._client.store_instances(datasets, study_instance_uid=study.study_instance_uid)
        failed = [text(item, "FailureReason") for item in answer.get("FailedSOPSequence") or ()]
        # A7xx means out of resources (PS3.18 table I.2-2); anything else will not change by trying again.
        if any(0xA700 <= int(reason or 0) <= 0xA7FF for reason in failed):
            raise TransientError("The archive is out of resources; try again later.")
        if failed:
            raise ConformanceError(f"The archive refused {len(failed)} instance(s), reasons {', '.join(failed)}.")


def _from_json(instance: dict[str, Any]) -> Dataset:
    """Metadata as a data set; elements that break their VR are left out, one by one."""
    dataset = Dataset()
    for tag, element in instance.items():
        try:
            dataset.update(Dataset.from_json({tag: element}, bulk_data_uri_handler=lambda _uri: None))
        except UNREADABLE:
            continue
    if not dataset:
        raise ValueError("not one element")
    return dataset


@contextmanager
def _answered(*, storing: bool = False) -> Iterator[None]:
    """Errors of the client as ours: what may pass is transient, what the archive refuses is not."""
    try:
        yield
    except SightlineError:
        raise
    except requests.HTTPError as error:
        raise _refusal(error.response.status_code if error.response is not None else 500, storing=storing) from error
    except requests.RequestException as error:
        raise TransientError(f"The archive does not answer ({type(error).__name__}); try again later.") from error
    except UNREADABLE as error:
        raise InputError(
            f"The archive's answer is not DICOM ({type(error).__name__}); check its address and the instance."
        ) from error


def _refusal(status: int, *, storing: bool) -> SightlineError:
    if status >= 500 or status in (408, 425, 429):
        return TransientError(f"The archive answered {status}; try again later.")
    if status in (401, 403):
        return InputError(f"The archive answered {status}: not permitted; check the credentials in the settings.")
    if storing:
        return ConformanceError(f"The archive refused to store the instances ({status}).")
    if status == 404:
        return InputError("The archive has no such study or instance (404).")
    return InputError(f"The archive refused the request ({status}); check its address and the reference.")


# Files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileIndex:
    """What lies in some folders.

    Parameters
    ----------
    files : one file per instance; of several files with one SOP Instance UID the first by path.
    unusable : how many files were not DICOM or lack identity, by reason.
    """

    files: dict[ImageRef, Path] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()


def index_of(paths: tuple[Path, ...]) -> FileIndex:
    """Every DICOM instance among *paths*, files or folders searched to any depth, whatever the files are called.

    Raises
    ------
    InputError
        If a path does not exist.
    """
    files: dict[ImageRef, Path] = {}
    unusable = []
    for path in _files_under(paths):
        try:
            files.setdefault(image_ref_of(_read_file(path, header_only=True)), path)
        except InputError as error:
            unusable.append(str(error))
    return FileIndex(files, tuple(unusable))


def _files_under(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise InputError("A given path of the study does not exist.")
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (entry for entry in found if entry.is_file() and not entry.name.startswith("."))


def _read_file(path: Path, *, header_only: bool = False) -> Dataset:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"A file is larger than {MAX_FILE_BYTES // 2**20} MiB; no radiograph is.")
        return read_part10(path.read_bytes(), header_only=header_only)
    except OSError as error:
        raise InputError(f"A file cannot be read ({type(error).__name__}); check its permissions.") from error


class FileClient:
    """dicomweb-client's protocol over DICOM files; safe to use from several threads."""

    def __init__(self, index: FileIndex, *, store_in: Path | None = None) -> None:
        self._files = dict(index.files)
        self._store_in = store_in
        self._lock = Lock()

    def retrieve_study_metadata(self, study_instance_uid: str) -> list[dict[str, Any]]:
        """DICOM JSON of each instance of the study, without pixel data."""
        paths = [path for image, path in self._all() if image.study.study_instance_uid == study_instance_uid]
        if not paths:
            raise _http_error(404)
        with tolerant():
            return [_read_file(path, header_only=True).to_json_dict(suppress_invalid_tags=True) for path in paths]

    def retrieve_instance(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> Dataset:
        """One instance with its pixel data."""
        wanted = study_instance_uid, series_instance_uid, sop_instance_uid
        for image, path in self._all():
            if (image.study.study_instance_uid, image.series_instance_uid, image.sop_instance_uid) == wanted:
                return _read_file(path)
        raise _http_error(404)

    def store_instances(self, datasets: Sequence[Dataset], study_instance_uid: str | None = None) -> Dataset:
        """Write one file per instance, each whole or not at all; an instance that is there stays as it is."""
        if self._store_in is None:
            raise InputError("This archive is read-only: name a folder for the results.")
        del study_instance_uid  # of the protocol; each data set names its study
        for dataset in datasets:
            image = image_ref_of(dataset)
            modality = re.sub("[^A-Z]", "", text(dataset, "Modality").upper()) or "OT"
            path = self._store_in / f"{modality}-{image.sop_instance_uid}.dcm"
            if not path.exists():
                _write_whole(path, dataset)
            with self._lock:
                self._files.setdefault(image, path)
        return Dataset()

    def _all(self) -> tuple[tuple[ImageRef, Path], ...]:
        with self._lock:
            return tuple(self._files.items())


def _write_whole(path: Path, dataset: Dataset) -> None:
    """Through a temporary file in the same folder, so that a reader never sees half an instance."""
    content = BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content.getvalue())
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TransientError(f"The folder for results cannot be written ({type(error).__name__}).") from error


def _http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


# Factories -------------------------------------------------------------------------------------------------------


def folder_archive(paths: tuple[Path, ...], *, store_in: Path | None = None) -> DicomwebArchive:
    """An archive over files and folders, which are only read; results go to *store_in*.

    Raises
    ------
    InputError
        If a path does not exist.
    """
    sources = (*paths, store_in) if store_in is not None and store_in.exists() else paths
    return DicomwebArchive(FileClient(index_of(sources), store_in=store_in))


def studies_in(paths: tuple[Path, ...]) -> tuple[StudyRef, ...]:
    """The studies among *paths* that hold an instance which can be a radiograph, in the order of their UIDs.

    Raises
    ------
    InputError
        If a path does not exist.
    """
    return _radiograph_studies(index_of(paths))


def sole_study_in(paths: tuple[Path, ...]) -> StudyRef:
    """The one study with radiographs among *paths*.

    Raises
    ------
    InputError
        If there is none, or more than one; the message says what was found.
    """
    index = index_of(paths)
    studies = _radiograph_studies(index)
    if len(studies) == 1:
        return studies[0]
    if studies:
        raise InputError(f"The files belong to {len(studies)} studies; give the files of one study at a time.")
    reasons = "".join(f" {count} file(s): {reason}" for reason, count in Counter(index.unusable).most_common(3))
    raise InputError(
        f"No chest radiograph study (CR or DX) among {len(index.files)} DICOM instances and"
        f" {len(index.unusable)} other files.{reasons}"
    )


def _radiograph_studies(index: FileIndex) -> tuple[StudyRef, ...]:
    return tuple(sorted({image.study for image in index.files if image.sop_class_uid in RADIOGRAPH_CLASSES}))


def web_archive(
    url: str, *, headers: dict[str, str] | None = None, token: str | None = None, timeout_s: float = 30.0
) -> DicomwebArchive:
    """An archive over DICOMweb.

    Parameters
    ----------
    url : the service root, under which ``studies`` lies ("http://127.0.0.1:8042/dicom-web").
    token : a bearer token, sent as Authorization header.
    timeout_s : for a connection, and between two parts of an answer.

    Raises
    ------
    InputError
        If *url* is not an HTTP address.
    """
    sent = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        client = DICOMwebClient(url.rstrip("/"), headers=sent, timeout=timeout_s)
    except ValueError as error:
        raise InputError(
            "The address of the archive is not an HTTP address; expected http(s)://host:port/path."
        ) from error
    client.set_http_retry_params(retry=False)  # the job queue retries
    return DicomwebArchive(client)
