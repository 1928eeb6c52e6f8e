"""What Sightline is made of when it runs: a CycloneDX bill of materials, and a list of licences, of what is installed.

``python conformance/sbom.py FOLDER`` writes ``sbom.cdx.json`` and ``licences.md`` of the distribution and everything
that it requires, directly or not, without what is installed beside it for developers. It asks nobody.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = "sightline-cxr"
EXTRAS: Final = ("buckets",)
"""What the image is built with."""
_LONGEST: Final = 100
_CLASSIFIER: Final = re.compile(r"License :: (?:OSI Approved :: )?(.+)")


def installed(root: str, extras: tuple[str, ...]) -> dict[str, Distribution]:
    """*root* and every distribution that it requires here, by canonical name."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(root, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # only where a marker of another requirement asks for it
            continue
        for wanted in map(Requirement, found[name].requires or ()):
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(wanted.name), each) for each in ("", *wanted.extras)]
    return found


def licence_of(package: Distribution) -> str:
    """The licence as the package tells it: expression, short text, or classifiers; "" when it tells none."""
    told = package.metadata
    short = told.get("License") or ""
    named = (_CLASSIFIER.fullmatch(each) for each in told.get_all("Classifier") or ())
    kinds = " AND ".join(dict.fromkeys(match[1] for match in named if match))
    return told.get("License-Expression") or (short if 0 < len(short) < _LONGEST and "\n" not in short else kinds)


def bill_of(packages: dict[str, Distribution]) -> Bom:
    """*packages* as CycloneDX; what they require is told, too."""
    make = LicenseFactory()
    components = {
        name: Component(
            name=name,
            version=package.version,
            type=ComponentType.APPLICATION if name == ROOT else ComponentType.LIBRARY,
            bom_ref=f"{name}@{package.version}",
            purl=PackageURL("pypi", name=name, version=package.version),
            licenses=[make.make_from_string(licence)] if (licence := licence_of(package)) else [],
        )
        for name, package in packages.items()
    }
    bom = Bom(components=[component for name, component in components.items() if name != ROOT])
    bom.metadata.component = components[ROOT]
    for name, package in packages.items():
        required = {canonicalize_name(Requirement(each).name) for each in package.requires or ()} & components.keys()
        bom.register_dependency(components[name], [components[each] for each in sorted(required - {name})])
    return bom


def licence_list(packages: dict[str, Distribution]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield from ("| package | version | licence |", "|---|---|---|")
    for name, package in sorted(packages.items()):
        yield f"| {name} | {package.version} | {licence_of(package) or 'not told'} |"


def main(folder: Path) -> None:
    """Write both files into *folder*."""
    packages = installed(ROOT, EXTRAS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sbom.cdx.json").write_text(JsonV1Dot6(bill_of(packages)).output_as_string(indent=1), encoding="utf-8")
    (folder / "licences.md").write_text("\n".join(licence_list(packages)) + "\n", encoding="utf-8")
    print(f"{len(packages)} packages: {folder / 'sbom.cdx.json'}, {folder / 'licences.md'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
