"""The trail on disk: a file for each month, only ever written at its end; shared by processes of one machine.

A record is on the disk (fsync) before :meth:`Trail.append` returns. A line that a crash left half written was never
told to anybody, and is cut off by the next writer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

from plugin.audit.record import BEGINNING, AuditRecord, Link, chained, link_of
from plugin.errors import TransientError
from plugin.locking import locked

_BACK = 1 << 16


@dataclass(frozen=True, slots=True)
class Trail:
    """The trail in *folder*.

    Raises
    ------
    TransientError
        From :meth:`append`, if the disk refuses; nothing of it is kept then.
    """

    folder: Path

    def append(self, records: Sequence[AuditRecord]) -> tuple[Link, ...]:
        """Keep *records* behind all others, on the disk before this returns."""
        if not records:
            return ()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.folder / ".lock"):
                return self._append(records)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "its last record is damaged"
            raise TransientError(f"the audit trail cannot be written ({why})") from error

    def _append(self, records: Sequence[AuditRecord]) -> tuple[Link, ...]:
        for file in self.files[-1:]:
            _cut_half_line(file)
        last = self.last
        links = tuple(chained(records, after=(last.number, last.hash) if last else (0, BEGINNING)))
        newest = self.files[-1].stem if self.files else ""
        month = max(f"{links[-1].record.at:%Y-%m}", newest)  # a clock that went back opens no old file
        self._write(self.folder / f"{month}.jsonl", links)
        return links

    def _write(self, path: Path, links: Sequence[Link]) -> None:
        new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            content = "".join(f"{link.line}\n" for link in links).encode()
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if new:
            _sync(self.folder)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, the oldest first."""
        return tuple(sorted(self.folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9].jsonl")))

    @property
    def last(self) -> Link | None:
        """The last record, or None.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        for file in reversed(self.files):
            if line := _last_line(file):
                return link_of(line)
        return None

    def lines(self) -> Iterator[tuple[str, str]]:
        """(file and line number, line) of every record in order."""
        for file in self.files:
            with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
                for number, line in enumerate(lines, start=1):
                    yield f"{file.name} line {number}", line.removesuffix("\n")

    def after(self, number: int) -> Iterator[Link]:
        """The whole records behind number *number*, in order; files that hold earlier ones alone are passed over."""
        files = self.files
        firsts = [_first_number(file) for file in files]
        begin = max((at for at, first in enumerate(firsts) if first is not None and first <= number + 1), default=0)
        for file in files[begin:]:
            with file.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # being written
                    link = link_of(line.decode())
                    if link.number > number:
                        yield link


def _write_all(descriptor: int, content: bytes) -> None:
    while content:  # one that is full takes a part, then refuses
        content = content[os.write(descriptor, content) :]


def _first_number(file: Path) -> int | None:
    with file.open("rb") as lines, contextlib.suppress(ValueError):
        return link_of(lines.readline().decode()).number
    return None


def _last_line(file: Path) -> str:
    with file.open("rb") as stream:
        end, content = stream.seek(0, os.SEEK_END), b""
        while end > 0 and b"\n" not in content[:-1]:
            begin = max(0, end - _BACK)
            stream.seek(begin)
            content = stream.read(end - begin) + content
            end = begin
    return content.rstrip(b"\n").rpartition(b"\n")[2].decode()


def _cut_half_line(file: Path) -> None:
    with file.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        whole = _end_of_whole_lines(stream, end)
        if whole < end:
            stream.truncate(whole)
            os.fsync(stream.fileno())


def _end_of_whole_lines(stream: BufferedRandom, end: int) -> int:
    while end > 0:
        begin = max(0, end - _BACK)
        stream.seek(begin)
        at = stream.read(end - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
