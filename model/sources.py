"""Files from a folder, a bucket or a model hub, each known by its SHA-256 before it is fetched. Offline first.

An address is a path, ``file://``, ``gs://bucket/name``, ``s3://bucket/name`` or ``hf://owner/name[@revision]/file``.
Local files are used where they lie. Others are kept in a cache under their digest: one that is there is used with no
network, so a cache that was filled elsewhere and carried in is all that an offline site needs. Credentials and
endpoints are those of fsspec and of its file systems (``FSSPEC_S3_ENDPOINT_URL``, ``AWS_*``, ``HF_TOKEN``,
``GOOGLE_APPLICATION_CREDENTIALS``); nothing of them is kept here.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec

REMOTE = ("gs", "hf", "memory", "s3")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")


class SourceError(ValueError):
    """A file cannot be had: says what is missing, where it was looked for, and how to provide it."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file of a folder, known before it is read.

    Parameters
    ----------
    name : within the folder, with ``/`` between parts.
    sha256 : 64 hexadecimal digits, lower case.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.name:
            raise SourceError("a file's name stays within its folder")
        _check_digest(self.sha256)


def fetch(source: str, *, sha256: str | None, cache: Path, offline: bool = False) -> Path:
    """The file at *source*, on this machine; read-only for the caller.

    Safe to call from several threads and processes at once: a file appears in *cache* whole or not at all.

    Parameters
    ----------
    sha256 : expected digest; None is allowed for local files only.
    cache : folder for what comes from elsewhere; made when needed.
    offline : use no network; then only local and cached files can be had.

    Raises
    ------
    SourceError
        If the file is not there, cannot be fetched, or is not the one of *sha256*.
    """
    if sha256 is not None:
        _check_digest(sha256)
    scheme = _scheme(source)
    if scheme == "file":
        return _local(_local_path(source), sha256)
    if sha256 is None:
        raise SourceError(f"{source} is not on this machine: it is taken only with its SHA-256")
    kept = cached_path(source, sha256=sha256, cache=cache)
    if kept.is_file() and sha256_of(kept) == sha256:
        return kept
    if offline:
        raise SourceError(
            f"{source} is not in the cache and the network is not to be used: looked for {kept}; "
            "put the file there, or allow the network once"
        )
    return _download(source, sha256, kept)


def fetch_folder(source: str, files: tuple[Pinned, ...], *, cache: Path, offline: bool = False) -> Path:
    """The folder at *source*, on this machine, in which at least *files* are as pinned.

    Raises
    ------
    SourceError
        As :func:`fetch`, for the first file that cannot be had.
    """
    if _scheme(source) == "file":
        folder = _local_path(source)
        for file in files:
            _local(folder / file.name, file.sha256)
        return folder
    listing = "\n".join(f"{file.sha256}  {file.name}" for file in sorted(files, key=lambda file: file.name))
    folder = cache / "folders" / hashlib.sha256(listing.encode()).hexdigest()
    for file in files:
        kept = fetch(f"{source.rstrip('/')}/{file.name}", sha256=file.sha256, cache=cache, offline=offline)
        _link(kept, folder / file.name)
    return folder


def cached_path(source: str, *, sha256: str, cache: Path) -> Path:
    """Where the file of *source* is kept; the place to carry it to by hand when there is no network."""
    return cache / sha256[:2] / f"{sha256}{PurePosixPath(source).suffix}"


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_digest(sha256: str) -> None:
    if not _DIGEST.fullmatch(sha256):
        raise SourceError("a SHA-256 has 64 hexadecimal digits in lower case")


def _scheme(source: str) -> str:
    found = _SCHEME.match(source)
    scheme = found[1] if found else "file"
    if scheme not in ("file", *REMOTE):
        raise SourceError(f"{scheme}:// is not supported; use a path, file://, gs://, hf:// or s3://")
    return scheme


def _local_path(source: str) -> Path:
    return Path(source.removeprefix("file://")).expanduser()


def _local(path: Path, sha256: str | None) -> Path:
    if not path.is_file():
        raise SourceError(f"there is no file {path}; put it there, or name another place")
    if sha256 is not None and sha256_of(path) != sha256:
        raise SourceError(f"{path} is not the expected file (SHA-256 differs from {sha256}); replace the file")
    return path


def _download(source: str, sha256: str, kept: Path) -> Path:
    """Fetch beside *kept*, compare, and only then give it its name."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=kept.parent) as folder:
        fetched = Path(folder) / "file"
        try:
            files, path = fsspec.core.url_to_fs(source)
            files.get_file(path, str(fetched))
        except ImportError as error:
            raise SourceError(f"{source} needs a package that is not installed: {error}") from error
        except FileNotFoundError as error:
            raise SourceError(f"there is no file {source}; check its name, or name another place") from error
        except Exception as error:  # each file system has errors of its own
            raise SourceError(
                f"{source} cannot be fetched ({type(error).__name__}); check network and credentials, "
                f"or put the file at {kept}"
            ) from error
        if sha256_of(fetched) != sha256:
            raise SourceError(f"{source} is not the expected file (SHA-256 differs from {sha256})")
        fetched.replace(kept)
    return kept


def _link(kept: Path, name: Path) -> None:
    """Give *kept* a second name, in one step, without copying."""
    if name.is_file() and name.samefile(kept):
        return
    name.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".linking-", dir=name.parent) as folder:
        linked = Path(folder) / "file"
        os.link(kept, linked)
        linked.replace(name)
