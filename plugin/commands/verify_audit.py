"""``sightline verify-audit``: whether the audit trail is whole and unchanged."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from plugin.audit.record import problems
from plugin.audit.trail import Trail
from plugin.errors import InputError


def run(folder: Path, *, head: str) -> int:
    """Say what is wrong, or the number and hash of the last record; 0 when nothing is wrong, else 1.

    Raises
    ------
    InputError
        If there is no trail, or it cannot be read.
    """
    console, trail = Console(soft_wrap=True, highlight=False), Trail(folder)
    if not trail.files:
        raise InputError(f"{folder} holds no audit trail")
    try:
        found = tuple(problems(trail.lines(), head=head))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    if found:
        console.print(*found, sep="\n")
        return 1
    last = trail.last
    if last is not None:
        console.print(f"{last.number} records, each following the one before. The last is {last.hash}")
    return 0
