"""Where the results of a study are kept as files: all of them, or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plugin.errors import InputError, TransientError
from plugin.identity import derived_id, sha256_hex
from plugin.values import StudyRef


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
class ResultFolder:
    """Results of the service as ``<path>/<study UID>/<version>/<file>``; the file ``newest`` names the newest version.

    A version is named after its content, so the same results again change nothing, and those of an amended report stand
    beside their predecessors. A reader never sees a version that is not whole.
    """

    path: Path

    def write(self, study: StudyRef, files: tuple[ResultFile, ...]) -> tuple[Path, ...]:
        """Keep *files* as the newest results of *study*; returns where they are.

        Raises
        ------
        TransientError
            If the disk refuses; the earlier results stay the newest.
        """
        folder = self.path / study.study_instance_uid
        version = derived_id("result", *(part for file in files for part in (file.name, sha256_hex(file.content))))
        try:
            if not (folder / version).is_dir():
                write_results(folder / version, files)
            write_results(folder, (ResultFile("newest", version.encode()),))
        except (InputError, OSError) as error:
            raise TransientError("The results cannot be written; is the disk full or read-only?") from error
        return tuple(folder / version / file.name for file in files)

    def read(self, study: StudyRef, name: str) -> bytes | None:
        """The content of file *name* of the newest results, or None when there is none."""
        folder = self.path / study.study_instance_uid
        wanted = ResultFile(name, b"").name
        try:
            return (folder / (folder / "newest").read_text(encoding="utf-8") / wanted).read_bytes()
        except FileNotFoundError:
            return None

    def withdraw(self, study: StudyRef) -> None:
        """Show no results of *study* any more; what was written stays on the disk.

        Raises
        ------
        TransientError
            If the disk refuses.
        """
        try:
            (self.path / study.study_instance_uid / "newest").unlink(missing_ok=True)
        except OSError as error:
            raise TransientError("The results cannot be withdrawn; is the disk read-only?") from error

    def studies(self) -> tuple[StudyRef, ...]:
        """Every study with results, in the order of their UIDs."""
        return tuple(StudyRef(newest.parent.name) for newest in sorted(self.path.glob("*/newest")))
