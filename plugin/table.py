"""What was found and written, as a table in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.values import Region, State
from plugin.values import Evidence, GroundedPhrase, Placement

_STATES = {
    State.FOUND: "",
    State.REGION_ONLY: "the area the report names",
    State.NOT_FOUND: "not found in the image",
    State.NOT_GROUNDABLE: "cannot say",
}


def print_evidence(evidence: Evidence, written: tuple[Path, ...], *, console: Console) -> None:
    """One row per phrase (and image, when there are several), the warnings, and the files."""
    table = Table("phrase", "assertion", "region (x, y of the box, in pixels)", "probability", title="Found")
    for grounded in evidence.phrases:
        for where, probability in rows_of(grounded, images=len(evidence.images)):
            table.add_row(grounded.phrase.text, grounded.phrase.assertion.value, where, probability)
    console.print(table)
    for warning in evidence.warnings:
        console.print(f"Note: {warning}", markup=False)
    for folder in dict.fromkeys(path.parent for path in written):
        console.print(f"Written to {folder}", soft_wrap=True, markup=False, highlight=False)
    for path in written:
        console.print(f"{path.stat().st_size:>11,} bytes  {path.name}", markup=False, highlight=False)


def rows_of(grounded: GroundedPhrase, *, images: int) -> list[tuple[str, str]]:
    """(where, probability) for each placement of the phrase, or the reason why it has none."""
    if not grounded.placements:
        return [(f"none: {grounded.phrase.not_groundable_reason}", "")]
    return [
        (f"{f'image {number}: ' if images > 1 else ''}{_where(placement)}", f"{placement.probability:.0%}")
        for number, placement in enumerate(grounded.placements, start=1)
    ]


def _where(placement: Placement) -> str:
    boxes = "; ".join(map(_box, placement.regions))
    said = placement.reason or _STATES[placement.state]
    return ", ".join(part for part in (boxes or "none", said) if part)


def _box(region: Region) -> str:
    left, top, right, bottom = (round(edge) for edge in region.box)
    return f"{left}-{right}, {top}-{bottom}"
