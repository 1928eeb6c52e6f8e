"""One entry to every data set: recognises its form by what lies there."""

from __future__ import annotations

from pathlib import Path

from model.data.jsonl import read_jsonl
from model.data.sample import DataSet
from model.data.store import DataError, FolderStore


def open_dataset(where: str, *, cache: Path | None = None) -> DataSet:  # noqa: ARG001 (remote data come next)
    """The data set at *where*.

    Parameters
    ----------
    where : a ``.jsonl`` file; docs/training-data.md lists the forms.
    cache : folder for what comes from elsewhere.

    Raises
    ------
    DataError
        If there is nothing of a known form; says what was looked for.
    """
    path = Path(where)
    if path.suffix != ".jsonl" or not path.is_file():
        raise DataError(f"no data set at {where}: expected a .jsonl file")
    return read_jsonl(FolderStore(path.parent), path.name)
