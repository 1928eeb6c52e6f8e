"""``sightline adopt``: take over a published pair of encoders into a folder that the service can use."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from model.encoders.loading import CheckpointError
from model.encoders.published import adopt
from model.sources import Pinned, SourceError, sha256_of
from plugin.errors import InputError


def run(source: str, *, encoder: str, out: Path, digests: Path | None, cache: Path, offline: bool) -> None:
    """Write the folder, and say how to use it.

    Parameters
    ----------
    digests : what ``sha256sum`` writes for the files of *source*; needed when they are not on this machine.

    Raises
    ------
    InputError
        If a file is missing, is not the expected one, or does not fit the others.
    """
    try:
        pinned = () if digests is None else pinned_of(digests.read_text(encoding="utf-8"))
        manifest = adopt(source, encoder, out, pinned=pinned, cache=cache, offline=offline)
    except OSError as error:
        raise InputError(f"{digests} cannot be read: {error.strerror}") from error
    except (SourceError, CheckpointError) as error:
        raise InputError(str(error)) from error
    console = Console()
    console.print(f"{manifest.name}: SIGHTLINE_MODEL_DIR={out}", highlight=False, soft_wrap=True)
    console.print(
        f"SIGHTLINE_MODEL_SHA256={sha256_of(out / 'manifest.json')}, if it is served from elsewhere", soft_wrap=True
    )


def pinned_of(listing: str) -> tuple[Pinned, ...]:
    """The files of a listing that ``sha256sum`` wrote.

    Raises
    ------
    model.sources.SourceError
        If a line has no digest, or a name leads out of the folder.
    """
    rows = (line.split(maxsplit=1) for line in listing.splitlines() if line.strip())
    return tuple(Pinned(row[-1].removeprefix("*").removeprefix("./").strip(), row[0]) for row in rows)
