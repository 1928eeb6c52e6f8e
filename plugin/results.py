"""Where the results of studies and reports are kept as files: all of them, or none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from plugin.errors import InputError, TransientError
from plugin.identity import derived_id, sha256_hex
from plugin.locking import locked
from plugin.values import Report, ReportRef, ReportStatus, StudyRef


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One file of a result: a plain name ("evidence.json") and its content."""

    name: str
    content: bytes

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or Path(self.name).name != self.name or "\\" in self.name:
            raise ValueError("a result file has a plain name, without a folder")


def write_results(out: Path, files: tuple[ResultFile, ...]) -> tuple[Path, ...]:
    """Write *files* into the folder *out*, all or nothing; the same files again leave the same bytes.

    Everything is written beside *out* first. A new folder appears with one rename; in a folder that is there already
    each file is replaced by a rename, and put back as it was when one of them fails. Other files in it are left alone.

    Returns
    -------
    tuple of Path
        The written files, in the order of *files*.

    Raises
    ------
    InputError
        If *out* is a file or cannot be written; nothing is changed.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the results.")
    try:
        with _staged(out.absolute(), files) as staged:
            if out.exists():
                _replace_all(staged, out, files)
            else:
                staged.rename(out)
    except OSError as error:
        raise InputError(f"The results cannot be written to {out}: {error.strerror}. Nothing was changed.") from error
    return tuple(out / file.name for file in files)


@contextlib.contextmanager
def _staged(out: Path, files: tuple[ResultFile, ...]) -> Iterator[Path]:
    """A folder with *files* on the same disk as *out*, gone afterwards."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out if out.exists() else out.parent))
    try:
        staged.chmod(0o755 & ~_umask())
        for file in files:
            with (staged / file.name).open("xb") as stream:
                stream.write(file.content)
                stream.flush()
                os.fsync(stream.fileno())
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def _replace_all(staged: Path, out: Path, files: tuple[ResultFile, ...]) -> None:
    """Move every staged file over its predecessor in *out*; the predecessors return if one move fails."""
    before = staged / ".before"
    before.mkdir()
    with contextlib.ExitStack() as undo:
        for file in files:
            target = out / file.name
            if target.exists():
                shutil.copy2(target, before / file.name)
                undo.callback(os.replace, before / file.name, target)
            else:
                undo.callback(target.unlink, missing_ok=True)
            (staged / file.name).replace(target)
        undo.pop_all()


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report version that results of a study are kept of.

    Parameters
    ----------
    created : time stamp of the results; one without a zone is taken as UTC.
    """

    ref: ReportRef
    status: ReportStatus
    created: datetime

    @property
    def order(self) -> tuple[bool, bool, datetime, str]:
        """The greatest governs its study: no withdrawn report, a final one before a preliminary one, the newest."""
        created = self.created if self.created.tzinfo else self.created.replace(tzinfo=UTC)
        return not self.status.withdrawn, self.status.final, created, self.ref.report_id


def kept_report(report: Report, *, created: datetime) -> KeptReport:
    """What is kept of *report* beside its results of *created*."""
    return KeptReport(report.ref, report.status, created)


@dataclass(frozen=True, slots=True)
class Pointer:
    """The file ``newest`` of a report: the names of its folders, and what changes whenever it does."""

    study: str
    folder: str
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class ResultFolder:
    """Results of the service as ``<path>/<study UID>/<report>/<version>/<file>``.

    The file ``newest`` beside the versions says which one is shown, and of which report. A version is named after its
    content, so the same results again change nothing, and those of an amended report stand beside their predecessors.
    A reader never sees a version that is not whole.

    Parameters
    ----------
    patience_s : how long :meth:`alone` waits for another worker.
    """

    path: Path
    patience_s: float = 60.0

    def write(self, study: StudyRef, report: KeptReport, files: tuple[ResultFile, ...]) -> tuple[Path, ...]:
        """Keep *files* as the newest results of *study* and *report*; returns where they are.

        Raises
        ------
        TransientError
            If the disk refuses; the earlier results stay the newest.
        """
        folder = self._folder(study, report.ref.report_id)
        version = derived_id("result", *(part for file in files for part in (file.name, sha256_hex(file.content))))
        try:
            if not (folder / version).is_dir():
                write_results(folder / version, files)
            _point(folder, _Newest(version, report))
        except (InputError, OSError) as error:
            raise TransientError("The results cannot be written; is the disk full or read-only?") from error
        return tuple(folder / version / file.name for file in files)

    def read(self, study: StudyRef, name: str, report: str | None = None) -> bytes | None:
        """The content of file *name* of the newest results of a report, or None when there is none to show.

        Parameters
        ----------
        report : id of the report; None: of the one that governs the study.
        """
        shown = [each for each in self.reports(study) if not each.status.withdrawn]
        wanted = next((each for each in shown if report in (None, each.ref.report_id)), None)
        return None if wanted is None else self.remembered(study, wanted.ref.report_id, name)

    def remembered(self, study: StudyRef, report: str, name: str) -> bytes | None:
        """As :meth:`read`, of a withdrawn report, too: what has to be taken back, never what is shown."""
        folder = self._folder(study, report)
        newest = _newest(folder)
        try:
            return None if newest is None else (folder / newest.version / ResultFile(name, b"").name).read_bytes()
        except FileNotFoundError:
            return None

    def versions(self, study: StudyRef, report: str, name: str) -> Iterator[bytes]:
        """The contents of file *name* of every version that is kept of a report, the newest results first."""
        folder = self._folder(study, report)
        newest = _newest(folder)
        others = sorted(each.name for each in _folders(folder))
        for version in sorted(others, key=lambda each: newest is None or each != newest.version):
            with contextlib.suppress(FileNotFoundError):
                yield (folder / version / ResultFile(name, b"").name).read_bytes()

    def reports(self, study: StudyRef) -> tuple[KeptReport, ...]:
        """Every report of *study* with results: first the one that governs, the withdrawn ones last."""
        folders = sorted((self.path / study.study_instance_uid).glob("*/newest"))
        found = [newest.report for path in folders if (newest := _newest(path.parent)) is not None]
        return tuple(sorted(found, key=lambda kept: kept.order, reverse=True))

    def pointers(self) -> Iterator[Pointer]:
        """What says which results are shown, of every report, withdrawn ones, too; another one after every change."""
        for study in _folders(self.path):
            for report in _folders(study.path):
                try:
                    found = (Path(report.path) / "newest").stat()
                except OSError:  # of an earlier version, or being written for the first time
                    continue
                yield Pointer(study.name, report.name, found.st_mtime_ns, found.st_ino)

    def pointed(self, pointer: Pointer) -> KeptReport | None:
        """The report that results are kept of there; None when it is gone by now, or none of this version's."""
        newest = _newest(self.path / pointer.study / pointer.folder)
        return None if newest is None else newest.report

    def withdraw(self, study: StudyRef, report: str) -> None:
        """Show no results of *study* and *report* any more; what was written stays on the disk.

        Raises
        ------
        TransientError
            If the disk refuses.
        """
        folder = self._folder(study, report)
        newest = _newest(folder)
        if newest is None or newest.report.status.withdrawn:
            return
        try:
            _point(folder, replace(newest, report=replace(newest.report, status=ReportStatus.ENTERED_IN_ERROR)))
        except (InputError, OSError) as error:
            raise TransientError("The results cannot be withdrawn; is the disk read-only?") from error

    def studies(self) -> tuple[StudyRef, ...]:
        """Every study with results to show, in the order of their UIDs."""
        studies = sorted({newest.parent.parent.name for newest in self.path.glob("*/*/newest")})
        return tuple(
            study for study in map(StudyRef, studies) if any(not each.status.withdrawn for each in self.reports(study))
        )

    @contextlib.contextmanager
    def alone(self, study: StudyRef, *, patience_s: float | None = None) -> Iterator[None]:
        """While the block runs, no other worker on this disk writes about *study*.

        Raises
        ------
        UnavailableError
            If another one is at it for longer than *patience_s*, by default the folder's.
        TransientError
            If the disk refuses.
        """
        patience_s = self.patience_s if patience_s is None else patience_s
        with locked(self.path / ".locks" / study.study_instance_uid, patience_s=patience_s):
            yield

    def _folder(self, study: StudyRef, report: str) -> Path:
        return self.path / study.study_instance_uid / derived_id("report", report)


def _folders(path: Path | str) -> list[os.DirEntry[str]]:
    """The folders in *path* by name, but for those of our own keeping."""
    try:
        with os.scandir(path) as found:
            folders = [each for each in found if each.is_dir() and not each.name.startswith(".")]
    except FileNotFoundError:
        return []
    return sorted(folders, key=lambda each: each.name)


@dataclass(frozen=True, slots=True)
class _Newest:
    """The content of a file ``newest``."""

    version: str
    report: KeptReport


def _point(folder: Path, newest: _Newest) -> None:
    kept = newest.report
    content = {
        "version": newest.version,
        "report_id": kept.ref.report_id,
        "report_version": kept.ref.version,
        "status": kept.status,
        "created": kept.created.isoformat(),
    }
    write_results(folder, (ResultFile("newest", json.dumps(content).encode()),))


def _newest(folder: Path) -> _Newest | None:
    """What the file ``newest`` of *folder* says; None when there is none, or none of this form."""
    try:
        content = json.loads((folder / "newest").read_text(encoding="utf-8"))
        kept = KeptReport(
            ReportRef(content["report_id"], content["report_version"]),
            ReportStatus(content["status"]),
            datetime.fromisoformat(content["created"]),
        )
        return _Newest(ResultFile(content["version"], b"").name, kept)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
