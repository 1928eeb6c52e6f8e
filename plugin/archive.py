"""The image archive: one adapter over dicomweb-client's protocol, for a DICOMweb server and for folders of files.

Over HTTP the client is dicomweb-client's ``DICOMwebClient``, as :mod:`plugin.dicomweb` makes it. Over files it is
:class:`FileClient` here, which keeps the same promise: dicomweb-client's own ``DICOMfileClient`` was measured and
refuses Implicit VR Little Endian (the default transfer syntax), big-endian and deflated files, cannot be used from a
second thread, writes in place, and takes exactly one folder. The adapter works over that one too, and the contract
test runs it.
"""

from __future__ import annotations

import os
import re
import stat
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
from plugin.dicomweb import web_client
from plugin.endpoint import Endpoint
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
        with answered(), tolerant():
            answer = self._client.retrieve_study_metadata(study.study_instance_uid)
            datasets = tuple(_from_json(instance) for instance in answer)
        if not datasets:
            raise InputError("The archive has no such study, or it holds no instances.")
        found = (description_of(dataset) for dataset in radiographs_among(datasets))
        return tuple(sorted(found, key=lambda description: description.image.sop_instance_uid))

    def read(self, image: ImageRef) -> Radiograph:
        """One image, decoded and windowed."""
        with answered(), tolerant():
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
        with answered(storing=True):
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
def answered(*, storing: bool = False) -> Iterator[None]:
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


#: Path, modification time in nanoseconds and size: what changes when a file does.
Stamp = tuple[Path, int, int]


@dataclass(frozen=True, slots=True)
class FileIndex:
    """What lies in some folders: for each file the instance it holds, or why it is not usable."""

    entries: dict[Stamp, ImageRef | str] = field(default_factory=dict)

    @property
    def files(self) -> dict[ImageRef, Path]:
        """One file per instance; of several files of one instance the first by path."""
        found: dict[ImageRef, Path] = {}
        for (path, _, _), entry in self.entries.items():
            if isinstance(entry, ImageRef):
                found.setdefault(entry, path)
        return found

    @property
    def unusable(self) -> tuple[str, ...]:
        """For each file that holds no usable instance, why."""
        return tuple(entry for entry in self.entries.values() if isinstance(entry, str))


def index_of(paths: tuple[Path, ...], *, known: FileIndex | None = None) -> FileIndex:
    """Every DICOM instance among *paths*, files or folders searched to any depth, whatever the files are called.

    Files that *known* lists and that did not change since are not read again.

    Raises
    ------
    InputError
        If a path does not exist.
    """
    before = known.entries if known else {}
    entries: dict[Stamp, ImageRef | str] = {}
    for stamp in _files_under(paths):
        entries[stamp] = before[stamp] if stamp in before else _entry(stamp[0])
    return FileIndex(entries)


def _entry(path: Path) -> ImageRef | str:
    try:
        return image_ref_of(_read_file(path, header_only=True))
    except InputError as error:
        return str(error)


def _files_under(paths: tuple[Path, ...]) -> Iterator[Stamp]:
    for path in paths:
        if not path.exists():
            raise InputError("A given path of the study does not exist.")
        for entry in sorted(path.rglob("*")) if path.is_dir() else [path]:
            try:
                status = entry.stat()
            except OSError:  # gone since the folder was listed, or a link to nowhere
                continue
            if stat.S_ISREG(status.st_mode) and not entry.name.startswith("."):
                yield entry, status.st_mtime_ns, status.st_size


def _read_file(path: Path, *, header_only: bool = False) -> Dataset:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"A file is larger than {MAX_FILE_BYTES // 2**20} MiB; no radiograph is.")
        return read_part10(path.read_bytes(), header_only=header_only)
    except OSError as error:
        raise InputError(f"A file cannot be read ({type(error).__name__}); check its permissions.") from error


class FileClient:
    """dicomweb-client's protocol over DICOM files; safe to use from several threads.

    Files that appear later are found: the folders are looked through again for each study asked for.
    """

    def __init__(self, paths: tuple[Path, ...], *, store_in: Path | None = None) -> None:
        self._paths = paths
        self._store_in = store_in
        self._lock = Lock()
        self._index = FileIndex()
        self._refreshed()

    def retrieve_study_metadata(self, study_instance_uid: str) -> list[dict[str, Any]]:
        """DICOM JSON of each instance of the study, without pixel data."""
        files = self._refreshed().items()
        paths = [path for image, path in files if image.study.study_instance_uid == study_instance_uid]
        if not paths:
            raise _http_error(404)
        with tolerant():
            return [_read_file(path, header_only=True).to_json_dict(suppress_invalid_tags=True) for path in paths]

    def retrieve_instance(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> Dataset:
        """One instance with its pixel data."""
        wanted = study_instance_uid, series_instance_uid, sop_instance_uid
        for files in (self._index.files, self._refreshed()):
            for image, path in files.items():
                if (image.study.study_instance_uid, image.series_instance_uid, image.sop_instance_uid) == wanted:
                    return _read_file(path)
        raise _http_error(404)

    def store_instances(self, datasets: Sequence[Dataset], study_instance_uid: str | None = None) -> Dataset:
        """Write one file per instance, each whole or not at all; an instance that is there stays as it is."""
        if self._store_in is None:
            raise InputError("This archive is read-only: name a folder for the results.")
        del study_instance_uid  # of the protocol; each data set names its study
        present = self._refreshed()
        for dataset in datasets:
            image = image_ref_of(dataset)
            modality = re.sub("[^A-Z]", "", text(dataset, "Modality").upper()) or "OT"
            path = self._store_in / f"{modality}-{image.sop_instance_uid}.dcm"
            if image not in present and not path.exists():
                _write_whole(path, dataset)
        return Dataset()

    def _refreshed(self) -> dict[ImageRef, Path]:
        results = (self._store_in,) if self._store_in is not None and self._store_in.exists() else ()
        with self._lock:
            self._index = index_of(tuple(dict.fromkeys((*self._paths, *results))), known=self._index)
            return self._index.files


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
    return DicomwebArchive(FileClient(paths, store_in=store_in))


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


def web_archive(endpoint: Endpoint) -> DicomwebArchive:
    """An archive over DICOMweb.

    Parameters
    ----------
    endpoint : the service root, under which ``studies`` lies ("http://127.0.0.1:8042/dicom-web").

    Raises
    ------
    InputError
        If its address is not an HTTP address.
    """
    return DicomwebArchive(web_client(endpoint))
