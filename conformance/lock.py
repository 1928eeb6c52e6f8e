"""Locks what the image installs: the wheels for Linux on x86-64 and Python 3.11, each by its SHA-256.

``python conformance/lock.py requirements.lock`` takes the versions that are installed here (and tested with), and asks
pip which wheels they are. PyTorch is left out: which build of it is right is the site's choice (``TORCH``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

import sbom
from packaging.requirements import Requirement

PROJECT: Final = Path(__file__).resolve().parents[1] / "pyproject.toml"
LEFT_OUT: Final = "torch"
BUILT_WITH: Final = "setuptools"
_HEAD: Final = (
    "# Made by `make lock`: the versions that were tested with, for Linux on x86-64 and Python 3.11; not for editing.\n"
)


def wanted() -> tuple[str, ...]:
    """What runs and what builds our own package, with what PyTorch requires besides; without PyTorch."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    asked = (
        *project["dependencies"],
        *(each for extra in sbom.EXTRAS for each in project["optional-dependencies"][extra]),
    )
    beside = (name for name in sbom.installed(LEFT_OUT, ()) if name != LEFT_OUT and not name.startswith("nvidia"))
    return (*(each for each in asked if Requirement(each).name != LEFT_OUT), *beside, BUILT_WITH)


def as_installed() -> Iterator[str]:
    """Every version that is installed here, as a constraint."""
    for package in distributions():
        if "+" not in package.version and not package.read_text("direct_url.json"):
            yield f"{package.name}=={package.version}\n"


def locked(names: tuple[str, ...]) -> Iterator[str]:
    """A line with the hash of its wheel for each of *names* and all that they require."""
    with tempfile.TemporaryDirectory() as folder:
        told, constraints = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        constraints.write_text("".join(as_installed()), encoding="utf-8")
        how = ("--dry-run", "--ignore-installed", "--only-binary", ":all:", "--quiet", "--python-version", "3.11")
        where = ("--target", folder, "--report", str(told), "--constraint", str(constraints))
        subprocess.run([sys.executable, "-m", "pip", "install", *how, *where, *names], check=True)  # noqa: S603 - pip
        for found in json.loads(told.read_text(encoding="utf-8"))["install"]:
            about, digest = found["metadata"], found["download_info"]["archive_info"]["hashes"]["sha256"]
            yield f"{about['name']}=={about['version']} --hash=sha256:{digest}\n"


if __name__ == "__main__":
    lines = sorted(locked(wanted()), key=str.lower)
    Path(sys.argv[1]).write_text(_HEAD + "".join(lines), encoding="utf-8")
    print(f"{len(lines)} packages")
