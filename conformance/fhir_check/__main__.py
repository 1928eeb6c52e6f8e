"""Checks files: prints what is wrong with each. Exit code 1 when anything is, 2 when a file is no FHIR resource."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from fhir_check import Checker, checker
from fhir_check.definitions import Json


def main() -> int:
    """See the module."""
    given = _arguments()
    try:
        resources = {path: _read(path) for path in given.files}
    except ValueError as error:
        print(error)
        return 2
    check = _check(given, checker("R5" if given.r5 else "R4"), list(resources.values()))
    wrong = 0
    for path, resource in resources.items():
        lines = check(resource)
        wrong += bool(lines)
        print(f"{path.name}: {len(lines)} errors", *lines, sep="\n  ")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m fhir_check", description=__doc__)
    how = arguments.add_mutually_exclusive_group()
    how.add_argument("--written", action="store_true", help="also hold it to our profile of its type")
    how.add_argument(
        "--imr",
        action="store_true",
        help="also hold multimedia reports to IHE IMR; ImagingSelection files are regions",
    )
    arguments.add_argument("--page", type=Path, help="with --imr: the rendered report, where it is not inside")
    arguments.add_argument("--r5", action="store_true", help="FHIR R5, not R4")
    arguments.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a resource or Bundle as JSON")
    return arguments.parse_args()


def _read(path: Path) -> Json:
    try:
        resource = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read ({type(error).__name__})") from None
    if not isinstance(resource, dict) or "resourceType" not in resource:
        raise ValueError(f"{path.name}: no FHIR resource")
    return resource


def _check(given: argparse.Namespace, one: Checker, resources: list[Json]) -> Callable[[Json], list[str]]:
    if given.written:
        return one.written
    if not given.imr:
        return one.check
    selections = [each for each in resources if each["resourceType"] == "ImagingSelection"]
    page = given.page.read_bytes() if given.page else None

    def multimedia(resource: Json) -> list[str]:
        if resource["resourceType"] == "ImagingSelection":
            return checker("R5").written(resource)
        urls = [form["url"] for form in resource.get("presentedForm", ()) if "url" in form]
        pages = dict.fromkeys(urls, page) if page is not None else {}
        return one.multimedia(resource, selections=selections, pages=pages)

    return multimedia


if __name__ == "__main__":
    sys.exit(main())
