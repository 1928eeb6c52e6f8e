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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import requests
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from plugin.dicom.header import (
    FOR_PRESENTATION,
    FOR_PROCESSING,
    RADIOGRAPH_CLASSES,
    UNREADABLE,
    description_of,
    image_ref_of,
    integer,
    is_own,
    radiographs_among,
    read_part10,
    study_description_of,
    text,
    tolerant,
)
from plugin.dicom.pixels import radiograph_of
from plugin.dicom.stored import stored_result
from plugin.dicomweb import StudySearch, search_studies, web_client
from plugin.endpoint import Endpoint, session_of
from plugin.errors import ConformanceError, InputError, MissingError, SightlineError, TransientError
from plugin.patience import asked_wait_s
from plugin.ports import StoredResult
from plugin.values import Accession, ImageDescription, ImageRef, PatientRef, Radiograph, StudyDescription, StudyRef

#: What a search asks for besides UID, accession number and patient: issuers, modalities, date and description.
_SEARCHED: Final = ("00080051", "00100021", "00080061", "00080020", "00081030")
#: Wildcards of a search (PS3.4 C.2.2.2.4), and what separates values: a value with one would find others.
_WILD: Final = re.compile(r"[*?\\]")
#: A file larger than this is not read: no radiograph is.
MAX_FILE_BYTES: Final = 1024**3


class Client(StudySearch, Protocol):
    """The part of dicomweb-client's protocol that the adapter speaks."""

    def retrieve_study_metadata(self, study_instance_uid: str) -> list[dict[str, Any]]:
        """DICOM JSON of each instance of the study."""

    def retrieve_instance(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> Dataset:
        """One instance with its pixel data."""

    def store_instances(self, datasets: Sequence[Dataset], study_instance_uid: str | None = None) -> Dataset:
        """Store instances; the answer lists failures in FailedSOPSequence (PS3.18 10.5.3)."""


class DicomwebArchive:
    """An :class:`plugin.ports.ImageArchive` over any dicomweb-client client.

    Parameters
    ----------
    remover : removes one instance for good; None: nothing is ever removed.
    """

    def __init__(self, client: Client, *, remover: Callable[[ImageRef], None] | None = None) -> None:
        self._client = client
        self._remover = remover

    def describe(self, study: StudyRef) -> tuple[ImageDescription, ...]:
        """Every radiograph of the study, in the order of their SOP Instance UIDs."""
        candidates = self._metadata(study, lambda kind: kind in RADIOGRAPH_CLASSES)
        found = (description_of(dataset) for dataset in radiographs_among(candidates))
        return tuple(sorted(found, key=lambda description: description.image.sop_instance_uid))

    def search(
        self, *, study: StudyRef | None = None, accession_number: str = "", patient_id: str = ""
    ) -> tuple[StudyDescription, ...]:
        """The studies that agree with everything given; what an archive returns besides is left out."""
        uid = study.study_instance_uid if study else ""
        asked = {"StudyInstanceUID": uid, "AccessionNumber": accession_number, "PatientID": patient_id}
        filters = {name: value.strip() for name, value in asked.items() if value.strip()}
        if not filters or any(map(_WILD.search, filters.values())):
            return ()
        with answered(), tolerant():
            hits = search_studies(self._client, filters, _SEARCHED)
            found = {described.study: described for hit in hits for described in _described(hit)}
        return tuple(found[ref] for ref in sorted(found) if _agrees(found[ref], filters))

    def results(self, study: StudyRef) -> tuple[StoredResult, ...]:
        """Every instance of the study that Sightline wrote, in the order of their SOP Instance UIDs."""
        with tolerant():
            candidates = self._metadata(study, lambda kind: kind not in (*FOR_PRESENTATION, FOR_PROCESSING))
            found = (stored_result(dataset) for dataset in candidates if is_own(dataset))
            return tuple(sorted(found, key=lambda result: result.image.sop_instance_uid))

    def _metadata(self, study: StudyRef, wanted: Callable[[str], bool]) -> tuple[Dataset, ...]:
        """The instances whose SOP class is *wanted*; the others, which may be large, are not read."""
        with answered(), tolerant():
            answer = self._client.retrieve_study_metadata(study.study_instance_uid)
            if not answer:
                raise MissingError("The archive has no such study, or it holds no instances.")
            classes = ((_class_of(instance), instance) for instance in answer)
            return tuple(_from_json(instance) for kind, instance in classes if not kind or wanted(kind))

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
            try:
                answer = self._client.store_instances(datasets, study_instance_uid=study.study_instance_uid)
            except requests.HTTPError as error:
                answer = _told_of_failures(error)
        _check_stored(answer, datasets)

    def remove(self, results: tuple[ImageRef, ...]) -> None:
        """Remove rejected results for good, where the archive is set up for that."""
        if self._remover is not None:
            with answered():
                for image in results:
                    self._remover(image)


def _described(hit: dict[str, Any]) -> Iterator[StudyDescription]:
    """The study of a hit; none when it has no UID that could be asked for."""
    try:
        yield study_description_of(_from_json(hit))
    except (InputError, ValueError):
        return


def _agrees(found: StudyDescription, filters: Mapping[str, str]) -> bool:
    """Whether *found* is what was asked for: archives pass over filters that they do not know, or match parts."""
    told = {
        "StudyInstanceUID": found.study.study_instance_uid,
        "AccessionNumber": found.accession.number if found.accession else "",
        "PatientID": found.patient.patient_id.strip() if found.patient else "",
    }
    return all(told[name] == value for name, value in filters.items())


def _class_of(instance: dict[str, Any]) -> str:
    """SOP Class UID in DICOM JSON (PS3.18 F.2); "" where it is missing or broken."""
    element = instance.get("00080016")
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


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


#: Failure reasons (PS3.18 table I.2-2, PS3.4 B.2.3) in words.
_REASONS: Final = {
    0x0110: "processing failure",
    0x0111: "there already",
    0x0122: "SOP class not supported",
    0x0124: "not permitted",
    0xC122: "transfer syntax not supported",
}
_STORED_BEFORE: Final = 0x0111


def _told_of_failures(error: requests.HTTPError) -> Dataset:
    """The store response in an error answer, which says for each instance what failed (409; PS3.18 10.5.3.1).

    Raises
    ------
    requests.HTTPError
        If the answer tells no failure.
    """
    if error.response is None:
        raise error
    try:
        answer = Dataset.from_json(error.response.json())
    except (*UNREADABLE, requests.JSONDecodeError):
        raise error from None
    if not answer.get("FailedSOPSequence"):
        raise error
    return answer


def _check_stored(answer: Dataset, sent: Sequence[Dataset]) -> None:
    """Hold the store response against what was sent, whatever the status was.

    Raises
    ------
    TransientError
        If instances failed for a reason that may pass, or are not spoken of although others are.
    InputError, ConformanceError
        If an instance is refused for good.
    """
    told = {item.get("ReferencedSOPInstanceUID") for item in answer.get("ReferencedSOPSequence") or ()}
    failed = [item for item in answer.get("FailedSOPSequence") or () if _reason(item) != _STORED_BEFORE]
    if failed:
        raise _failure([_reason(item) for item in failed], [text(item, "ReferencedSOPClassUID") for item in failed])
    others = [_reason(item) for item in answer.get("OtherFailuresSequence") or ()]
    if others:
        raise _failure(others, [])
    told |= {item.get("ReferencedSOPInstanceUID") for item in answer.get("FailedSOPSequence") or ()}
    forgotten = [dataset for dataset in sent if dataset.SOPInstanceUID not in told] if told else []
    if forgotten:
        raise TransientError(f"The archive said nothing about {len(forgotten)} of {len(sent)} instances; try again.")


def _reason(failure: Dataset) -> int:
    return integer(failure, "FailureReason")


def _failure(reasons: list[int], classes: list[str]) -> SightlineError:
    """What failed as an error: out of resources and processing failures may pass, anything else does not."""
    named = ", ".join(sorted({_REASONS.get(reason, f"reason {reason:04X}") for reason in reasons}))
    of = f" of SOP class {', '.join(sorted(set(classes)))}" if any(classes) else ""
    if any(0xA700 <= reason <= 0xA7FF or reason in (0, 0x0110) for reason in reasons):
        return TransientError(f"The archive did not store {len(reasons)} instance(s){of} ({named}); try again later.")
    if set(reasons) == {0x0124}:
        return InputError(f"The archive refused {len(reasons)} instance(s){of} ({named}); check the credentials.")
    return ConformanceError(f"The archive refused {len(reasons)} instance(s){of} ({named}).")


@contextmanager
def answered(*, storing: bool = False) -> Iterator[None]:
    """Errors of the client as ours: what may pass is transient, what the archive refuses is not."""
    try:
        yield
    except SightlineError:
        raise
    except requests.HTTPError as error:
        status, headers = (500, {}) if error.response is None else (error.response.status_code, error.response.headers)
        raise _refusal(status, headers, storing=storing) from error
    except requests.RequestException as error:
        raise TransientError(f"The archive does not answer ({type(error).__name__}); try again later.") from error
    except UNREADABLE as error:
        raise InputError(
            f"The archive's answer is not DICOM ({type(error).__name__}); check its address and the instance."
        ) from error


def _refusal(status: int, headers: Mapping[str, str], *, storing: bool) -> SightlineError:
    if status >= 500 or status in (408, 425, 429):
        return TransientError(f"The archive answered {status}; try again later.", retry_after_s=asked_wait_s(headers))
    if status in (401, 403):
        return InputError(f"The archive answered {status}: not permitted; check the credentials in the settings.")
    if storing:
        return ConformanceError(f"The archive refused to store the instances ({status}).")
    if status == 404:
        return MissingError("The archive has no such study or instance (404).")
    return InputError(f"The archive refused the request ({status}); check its address and the reference.")


# Files -----------------------------------------------------------------------------------------------------------


#: Path, modification time in nanoseconds and size: what changes when a file does.
Stamp = tuple[Path, int, int]


@dataclass(frozen=True, slots=True)
class FileIndex:
    """What lies in some folders: for each file the instance it holds, or why it is not usable.

    *told* is what each instance says of its study.
    """

    entries: dict[Stamp, ImageRef | str] = field(default_factory=dict)
    told: dict[Stamp, StudyDescription] = field(default_factory=dict)

    @property
    def files(self) -> dict[ImageRef, Path]:
        """One file per instance; of several files of one instance the first by path."""
        found: dict[ImageRef, Path] = {}
        for (path, _, _), entry in self.entries.items():
            if isinstance(entry, ImageRef):
                found.setdefault(entry, path)
        return found

    @property
    def studies(self) -> tuple[StudyDescription, ...]:
        """Each study once, as the first of its files by path describes it, with the modalities of all of them."""
        found: dict[StudyRef, StudyDescription] = {}
        for told in self.told.values():
            first = found.get(told.study, told)
            found[told.study] = replace(first, modalities=tuple(sorted({*first.modalities, *told.modalities})))
        return tuple(found.values())

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
    before = known or FileIndex()
    index = FileIndex()
    for stamp in _files_under(paths):
        if stamp in before.entries:
            index.entries[stamp] = before.entries[stamp]
            if stamp in before.told:
                index.told[stamp] = before.told[stamp]
            continue
        try:
            header = _read_file(stamp[0], header_only=True)
            index.entries[stamp], index.told[stamp] = image_ref_of(header), study_description_of(header)
        except InputError as error:
            index.entries[stamp] = str(error)
    return index


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


@lru_cache(maxsize=128)
def _header_of(path: Path, changed_ns: int) -> dict[str, Any]:
    """DICOM JSON of a file as it was *changed_ns*; kept, since a study is looked at several times for each job."""
    del changed_ns  # part of the key
    with tolerant():
        return _read_file(path, header_only=True).to_json_dict(suppress_invalid_tags=True)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # gone meanwhile; reading it says so
        return 0


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
        return [_header_of(path, _changed_ns(path)) for path in paths]

    def search_for_studies(
        self,
        *,
        limit: int | None = None,
        offset: int | None = None,
        fields: list[str] | None = None,
        search_filters: dict[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """DICOM JSON of each study that agrees with the filters, without a limit: there is no network between."""
        del fields, limit  # of the protocol; all is told at once
        self._refreshed()
        found = (study for study in self._index.studies if _agrees(study, search_filters or {}))
        return [_study_json(study) for study in found] if not offset else []

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


def _study_json(study: StudyDescription) -> dict[str, Any]:
    """DICOM JSON of a study as QIDO-RS answers it (PS3.18 table 10.6.3-3), whatever the file holds."""
    accession, patient = study.accession or Accession(""), study.patient or PatientRef("")
    issuer = {"00400032": {"vr": "UT", "Value": [accession.issuer]}}
    told: dict[str, tuple[str, list[Any]]] = {
        "0020000D": ("UI", [study.study.study_instance_uid]),
        "00080050": ("SH", [accession.number]),
        "00080051": ("SQ", [issuer] if accession.issuer else []),
        "00100020": ("LO", [patient.patient_id]),
        "00100021": ("LO", [patient.issuer]),
        "00080061": ("CS", list(study.modalities)),
        "00080020": ("DA", [study.date]),
        "00081030": ("LO", [study.description]),
    }
    return {tag: {"vr": vr, "Value": values} for tag, (vr, values) in told.items() if any(values)}


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


def orthanc_remover(endpoint: Endpoint) -> Callable[[ImageRef], None]:
    """Removes an instance by Orthanc's own REST interface at *endpoint*: its DICOMweb has no DELETE (405)."""
    root, session = endpoint.url.rstrip("/"), session_of(endpoint)

    def remove(image: ImageRef) -> None:
        found = session.post(f"{root}/tools/lookup", data=image.sop_instance_uid, timeout=endpoint.timeout_s)
        found.raise_for_status()
        for resource in found.json():
            if resource["Type"] == "Instance":
                gone = session.delete(f"{root}/instances/{resource['ID']}", timeout=endpoint.timeout_s)
                if gone.status_code != 404:
                    gone.raise_for_status()

    return remove


def web_archive(endpoint: Endpoint, *, orthanc: Endpoint | None = None) -> DicomwebArchive:
    """An archive over DICOMweb.

    Parameters
    ----------
    endpoint : the service root, under which ``studies`` lies ("http://127.0.0.1:8042/dicom-web").
    orthanc : Orthanc's own REST interface, by which rejected results are removed; None: they stay.

    Raises
    ------
    InputError
        If its address is not an HTTP address.
    """
    return DicomwebArchive(web_client(endpoint), remover=orthanc_remover(orthanc) if orthanc else None)
