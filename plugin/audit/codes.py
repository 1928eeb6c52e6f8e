"""What kinds of records are called in audit messages (DICOM PS3.15 A.5.3), and in the AuditEvent made like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plugin.audit.record import AuditRecord, Kind

Code = tuple[str, str]
"""A code of DCM and its meaning."""


@dataclass(frozen=True, slots=True)
class Event:
    """How a kind of record is told; *action*: C, R, U, D or E."""

    id: Code
    action: str
    type: Code | None = None


EVENTS: Final = {
    Kind.READ: Event(("110110", "Patient Record"), "R"),
    Kind.CHANGE: Event(("110110", "Patient Record"), "U"),
    Kind.LOGIN: Event(("110114", "User Authentication"), "E", ("110122", "Login")),
    Kind.LOGOUT: Event(("110114", "User Authentication"), "E", ("110123", "Logout")),
    Kind.REFUSED: Event(("110113", "Security Alert"), "E"),
    Kind.EXPORT: Event(("110106", "Export"), "R"),
    Kind.ERASE: Event(("110105", "DICOM Study Deleted"), "D"),
    Kind.TRAIL: Event(("110113", "Security Alert"), "E"),
}
NOBODY: Final = "unknown"
SOURCE: Final = "sightline"


def outcome_of(record: AuditRecord) -> str:
    """0 success, 4 it was allowed and came to nothing, 8 it was refused, or the trail itself failed."""
    if record.ok:
        return "0"
    return "8" if record.kind in (Kind.REFUSED, Kind.TRAIL) else "4"
