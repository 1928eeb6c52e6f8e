"""``sightline prepare``: images, phrases and regions of any known form as a folder that trains well."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.data.opening import open_dataset
from model.data.pins import DataError
from model.data.prepare import Prepared, Settings, prepare
from model.data.split import PARTS
from plugin.errors import InputError

_NAMED = 10  # broken images that are named one by one


def run(*, source: str, out: Path, size: int, split: tuple[float, ...], seed: int, cache: Path | None = None) -> None:
    """Prepare *source* into *out* and say what was made; docs/training-data.md.

    Raises
    ------
    InputError
        If the source is no data set, the settings cannot be, or *out* cannot be written or holds another preparation.
    """
    try:
        settings = Settings(size=size, split=split, seed=seed)  # type: ignore[arg-type]  # it refuses other lengths
        made = prepare(open_dataset(source, cache=cache), out, settings)
    except DataError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"--out cannot be written ({error.strerror or 'unknown reason'}): check it") from None
    _tell(made, out)


def _tell(made: Prepared, out: Path) -> None:
    table = Table("part", "samples", "patients")
    for part in PARTS:
        table.add_row(part, str(made.samples[part]), str(made.patients[part]))
    console = Console()
    console.print(table)
    console.print(f"version {made.version}", highlight=False)
    console.print(f"Look at {out / 'contact-sheet.png'} before you train.", highlight=False)
    if made.broken:
        print(f"{len(made.broken)} images were left out:", file=sys.stderr)
        for image, reason in made.broken[:_NAMED]:
            print(f"  {image}: {reason}", file=sys.stderr)
