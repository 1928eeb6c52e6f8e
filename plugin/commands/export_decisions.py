"""``sightline export-decisions``: what radiologists decided about regions, as training data."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from plugin.audit.record import AuditRecord, Kind
from plugin.audit.trail import Trail
from plugin.deidentify.decisions import WithoutIdentity
from plugin.deidentify.pseudonyms import Pseudonyms, key_in
from plugin.exporting import export
from plugin.results import ResultFolder
from plugin.settings import load_settings
from plugin.wiring import audit_folder, make_archive, make_decision_book


def run(out: Path, *, deidentify: bool = False, key_file: Path | None = None) -> int:
    """Write them to the file *out*, and the images beside it."""
    settings = load_settings()
    console = Console()
    disguise = WithoutIdentity(Pseudonyms(key_in(key_file))) if deidentify else None
    with console.status("Exporting"):
        told = export(
            make_decision_book(settings),
            ResultFolder(settings.data_dir / "results"),
            make_archive(settings),
            out,
            disguise=disguise,
        )
    who = f"{getpass.getuser()} on this machine"
    Trail(audit_folder(settings)).append(
        [AuditRecord(datetime.now(UTC), Kind.EXPORT, f"sightline export-decisions, {told.written} decisions", who=who)]
    )
    console.print(f"{told.written} decisions in {out}", soft_wrap=True, highlight=False)
    for reason, number in sorted(told.left_out.items()):
        console.print(f"{number} left out: {reason}", highlight=False)
    return 0
