"""``sightline keys``: the keys by which Sightline proves itself to FHIR servers."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from plugin.fhir.keys import KeyKind, make_key


def new(path: Path, *, kind: KeyKind) -> int:
    """Make a private key in the new file *path*."""
    key = make_key(path, kind)
    Console().print(f"{path}: private key for {key.algorithm}, key id {key.key_id}", soft_wrap=True, highlight=False)
    return 0
