"""One entry to every data set: recognises its form by what lies there. docs/training-data.md describes the forms."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from model.data.jsonl import read_jsonl
from model.data.mscxr import read_mscxr
from model.data.nih import read_nih, recognise_nih
from model.data.pins import DataError
from model.data.regions import read_regions, recognise_regions
from model.data.sample import DataSet
from model.data.split import PARTS
from model.data.store import BucketStore, FolderStore, Store
from model.data.twin import read_twin

_TWIN = re.compile(r"twin:(\d+)-(\d+)(?:@(\d+))?")
_MSCXR = ("MS_CXR*.csv", "MS_CXR*.json")
_LOOKED_FOR = (
    "a .jsonl file; a folder from `sightline prepare` (train.jsonl, val.jsonl, test.jsonl); "
    "MS-CXR (MS_CXR*.csv or .json beside MIMIC-CXR-JPG's folder files); "
    "NIH (images with manifest.csv or Data_Entry_2017*.csv, and a table of boxes); "
    "a folder with one .jsonl; or twin:START-STOP"
)


def open_dataset(
    where: str, *, cache: Path | None = None, version: str | None = None, offline: bool = False
) -> DataSet:
    """The data set at *where*.

    Parameters
    ----------
    where : a path or a URI (``s3://``, ``gs://``, ``file://``) of a file or a folder, or ``twin:START-STOP`` with
        ``@SIZE`` in pixels if wanted. ``#train``, ``#val`` or ``#test`` behind it takes this part of a prepared folder
        or of MS-CXR.
    cache : folder for what comes from elsewhere or is rendered; ``~/.cache/sightline/data`` when None.
    version : refuse data of any other version.
    offline : of a bucket, use only what the cache holds.

    Raises
    ------
    DataError
        If there is nothing of a known form, saying what was looked for; if the data are not of their form, not as
        pinned, or not of *version*.
    """
    try:
        opened = _open(where, cache or Path.home() / ".cache" / "sightline" / "data", offline=offline)
    except OSError as error:
        raise DataError(
            f"{where} cannot be read ({error.strerror or type(error).__name__}): check its place"
        ) from error
    if version is not None and opened.version != version:
        raise DataError(f"{where} is version {opened.version}, and {version} was asked for: these are other data")
    return opened


def _open(where: str, cache: Path, *, offline: bool) -> DataSet:
    if twin := _TWIN.fullmatch(where):
        start, stop, size = twin.groups()
        return read_twin(range(int(start), int(stop)), cache=cache, size=int(size or 512))
    place, _, part = where.removeprefix("file://").partition("#")
    if "://" in place:
        root, name = _split_uri(place)
        return _read(BucketStore(root, cache=cache, offline=offline), name, part, where=where)
    path = Path(place).expanduser()
    if path.is_dir():
        return _read(FolderStore(path), "", part, where=where)
    if not path.is_file():
        raise DataError(f"there is nothing at {where}; looked for {_LOOKED_FOR}")
    return _read(FolderStore(path.parent), path.name, part, where=where)


def _split_uri(uri: str) -> tuple[str, str]:
    """Root and name of a file in it; the name is empty where *uri* is a folder."""
    uri = uri.rstrip("/")
    root, _, name = uri.rpartition("/")
    return (root, name) if PurePosixPath(name).suffix in (".jsonl", ".csv", ".json") else (uri, "")


def _read(store: Store, name: str, part: str, *, where: str) -> DataSet:
    """The data set of the file *name*, or of whatever lies at the root when it is empty."""
    if name:
        if name.endswith(".jsonl"):
            return read_regions(store, name) if recognise_regions(store.read(name)) else read_jsonl(store, name)
        if name.endswith((".csv", ".json")):
            return read_mscxr(store, name, split=part)
        raise DataError(f"no data set at {where}; looked for {_LOOKED_FOR}")
    names = store.names()
    prepared = [f"{each}.jsonl" for each in PARTS if f"{each}.jsonl" in names and part in ("", each)]
    if prepared:
        return read_jsonl(store, *prepared)
    published = [each for pattern in _MSCXR for each in names if fnmatch(each, pattern)]
    if published:
        return read_mscxr(store, published[0], split=part)
    if recognise_nih(names):
        return read_nih(store)
    lines = [each for each in names if each.endswith(".jsonl")]
    if len(lines) == 1:
        return _read(store, lines[0], part, where=where)
    raise DataError(f"no data set at {where}; looked for {_LOOKED_FOR}")
