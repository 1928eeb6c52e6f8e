"""The pinned version of a data set: ``VERSION.json`` with the SHA-256 of every file.

    python -m model.data.pins FOLDER

writes it for a folder, to be done before the folder goes to a bucket.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.progress import track

VERSION_FILE = "VERSION.json"
PIN_FILES = (VERSION_FILE, "SHA256SUMS.txt")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class DataError(ValueError):
    """A data set cannot be used: says what is wrong with which file, what was expected, and what to do.

    Names files and lines, never a patient.
    """


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def version_of(digests: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the sorted lines ``digest  name``, as ``sha256sum`` writes them.

    Parameters
    ----------
    digests : (name, digest) of every file.
    """
    return digest_of("".join(sorted(f"{digest}  {name}\n" for name, digest in digests)).encode())


def parse_pins(content: bytes, name: str) -> dict[str, str]:
    """Digest of each file, from VERSION.json or SHA256SUMS.txt, told apart by what stands there.

    Raises
    ------
    DataError
        If it is neither, or VERSION.json was changed by hand; *name* is for the message.
    """
    text = content.decode("utf-8", errors="replace")
    pins = _json_pins(text, name) if text.lstrip().startswith("{") else _sums(text)
    if not pins or any(Path(file).is_absolute() or ".." in Path(file).parts for file in pins):
        raise DataError(f"{name} lists no files by their SHA-256: expected VERSION.json or the output of sha256sum")
    return pins


def write_pins(folder: Path, *, digests: Mapping[str, str] | None = None) -> str:
    """Write VERSION.json into *folder* for the files of *digests* (all files when None), and return the version.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    """
    if digests is None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in PIN_FILES]
        digests = {
            path.relative_to(folder).as_posix(): digest_of(path.read_bytes())
            for path in track(files, description="Pinning", transient=True)
        }
    version = version_of(digests.items())
    staging = folder / f".{VERSION_FILE}.part"
    staging.write_text(json.dumps({"version": version, "files": dict(sorted(digests.items()))}, indent=0) + "\n")
    staging.replace(folder / VERSION_FILE)
    return version


def _json_pins(text: str, name: str) -> dict[str, str]:
    try:
        held = json.loads(text)
        pins = {str(file): str(digest) for file, digest in held["files"].items()}
        version = str(held["version"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    if not all(map(_DIGEST.fullmatch, pins.values())) or version != version_of(pins.items()):
        raise DataError(f"{name} does not agree with itself: its version is not that of its list; pin the data anew")
    return pins


def _sums(text: str) -> dict[str, str]:
    lines = [_LINE.fullmatch(line) for line in text.splitlines() if line.strip()]
    return {line[2].removeprefix("./"): line[1].lower() for line in lines if line} if all(lines) else {}


def main() -> None:
    """The command of the module's docstring."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m model.data.pins FOLDER")
    print(write_pins(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
