"""``sightline export-decisions``: what radiologists decided about regions, as training data."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from plugin.exporting import export
from plugin.results import ResultFolder
from plugin.settings import load_settings
from plugin.wiring import make_archive, make_decision_book


def run(out: Path) -> int:
    """Write them to the file *out*, and the images beside it."""
    settings = load_settings()
    console = Console()
    with console.status("Exporting"):
        told = export(
            make_decision_book(settings), ResultFolder(settings.data_dir / "results"), make_archive(settings), out
        )
    console.print(f"{told.written} decisions in {out}", soft_wrap=True, highlight=False)
    for reason, number in sorted(told.left_out.items()):
        console.print(f"{number} left out: {reason}", highlight=False)
    return 0
