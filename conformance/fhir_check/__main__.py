"""Checks files: prints what is wrong with each. Exit code 1 when anything is, 2 when a file is no JSON object."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fhir_check import checker


def main() -> int:
    """See the module."""
    arguments = argparse.ArgumentParser(prog="python -m fhir_check", description=__doc__)
    arguments.add_argument("--written", action="store_true", help="also hold it to our profile of its type")
    arguments.add_argument("--r5", action="store_true", help="FHIR R5, not R4")
    arguments.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a resource or Bundle as JSON")
    given = arguments.parse_args()
    one = checker("R5" if given.r5 else "R4")
    code = 0
    for path in given.files:
        try:
            resource = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"{path.name}: cannot be read ({type(error).__name__})")
            return 2
        if not isinstance(resource, dict):
            print(f"{path.name}: not a FHIR resource")
            return 2
        lines = one.written(resource) if given.written else one.check(resource)
        code = max(code, bool(lines))
        print(f"{path.name}: {len(lines)} errors", *lines, sep="\n  ")
    return code


if __name__ == "__main__":
    sys.exit(main())
