"""Where received reports are kept: as FHIR bundles in the folder of reports, a file for each version."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

from plugin.errors import TransientError
from plugin.hl7v2.reports import ReceivedReport
from plugin.identity import sha256_hex
from plugin.values import ReportStatus

_STAMP = "%Y%m%dT%H%M%S%f"
_WITHDRAWN = (ReportStatus.CANCELLED, ReportStatus.ENTERED_IN_ERROR)


@dataclass(frozen=True, slots=True)
class Inbox:
    """A file for each version: ``<report>.<when sent>-<hash of content>-<hash of control ID>.json``.

    They lie in 256 folders by the first characters of the report, all made at once: a report's versions are a short
    list however many reports there are, and whoever looks through the folders sees none come later. Several threads may
    keep reports at once; one process at a time.
    """

    folder: Path
    _lock: Lock = field(default_factory=Lock)

    def keep(self, report: ReceivedReport, *, now: datetime) -> bool:
        """Write the report to disk; False when it was there already.

        A message that came before, or says what the newest one says, changes nothing. One that was sent earlier than
        the newest becomes an earlier version. *now* stands in for a time of sending that is not told.

        Raises
        ------
        TransientError
            If it cannot be written now.
        """
        with self._lock:
            try:
                return self._keep(report, report.sent or now)
            except OSError as error:
                raise TransientError(f"The report cannot be written to disk ({error.strerror}).") from None

    def _keep(self, report: ReceivedReport, sent: datetime) -> bool:
        folder, prefix = self.folder / report.report_id[:2], f"{report.report_id}."
        if not folder.is_dir():
            self._make_folders()
        there = sorted(path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.json"))
        content = report.content_sha256[:16]
        name = f"{content}-{sha256_hex(report.control_id.encode())[:8]}"
        if any(each.endswith(name) for each in there) or (there and content in there[-1]):
            return False
        stamp = _free(sent.astimezone(UTC), {each.split("-")[0] for each in there})
        version = f"{stamp:{_STAMP}}-{name}"
        earlier = [each for each in there if each < version]
        before = json.loads((folder / f"{prefix}{earlier[-1]}.json").read_bytes()) if earlier else None
        _write_atomically(folder / f"{prefix}{version}.json", _bundle(report, stamp, version, before=before))
        return True

    def _make_folders(self) -> None:
        for number in range(256):
            (self.folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)


def _free(stamp: datetime, taken: set[str]) -> datetime:
    """The first moment from *stamp* on at which nothing was sent: of two messages of one second the later one wins."""
    while f"{stamp:{_STAMP}}" in taken:
        stamp += timedelta(microseconds=1)
    return stamp


def _bundle(report: ReceivedReport, stamp: datetime, version: str, *, before: Any) -> bytes:
    *others, last = report.resources
    meta = {"versionId": version, "lastUpdated": stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")}
    if before and "presentedForm" not in last and last["status"] not in _WITHDRAWN:
        # A change of status alone does not send the text again (OBX-11 "U").
        forms = before["entry"][-1]["resource"].get("presentedForm")
        last = last | ({"presentedForm": forms} if forms else {})
    resources = [*others, last | {"meta": meta}]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode()


def _write_atomically(target: Path, content: bytes) -> None:
    """All or nothing, also when the machine stops: the file appears under its name when it is complete, and on disk."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(target)
            _sync(target.parent)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _sync(folder: Path) -> None:
    """The name of a new file is on disk, too, as far as the system can tell it to be."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
