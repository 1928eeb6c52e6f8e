"""``sightline doctor``: name what is missing or misconfigured, and how to mend it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from plugin.doctor import examine
from plugin.settings import load_settings


def run() -> int:
    """Print one row per check; 0 when nothing is to be mended, else 1."""
    table = Table("what", "seen", "to mend", title="sightline doctor")
    ill = 0
    for finding in examine(load_settings()):
        ill += not finding.ok
        table.add_row(finding.what, finding.detail, finding.mend, style=None if finding.ok else "bold red")
    console = Console()
    console.print(table)
    console.print("Nothing to mend." if not ill else f"{ill} to mend.")
    return 1 if ill else 0
