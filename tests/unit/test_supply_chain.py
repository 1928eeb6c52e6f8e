"""What Sightline is made of is told, and known mistakes are looked for: bill of materials, licences, bandit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import sbom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import ROOT

#: Those that tell no licence in their metadata; told here after a look at their sources.
LOOKED_AT = {"conllu": "MIT", "nmslib-metabrainz": "Apache-2.0"}
#: Licences that ask more of whoever passes the whole on than Apache-2.0 does.
STRICT = re.compile(r"(?<!L)GPL|AGPL|SSPL|Commons Clause|Proprietary", re.IGNORECASE)


def test_the_bill_of_materials_is_valid_and_tells_what_runs_and_nothing_else(tmp_path: Path) -> None:
    sbom.main(tmp_path)
    told = (tmp_path / "sbom.cdx.json").read_text(encoding="utf-8")
    names = {component["name"] for component in json.loads(told)["components"]}

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told) is None
    assert {"pydicom", "torch", "scispacy", "fastapi", "numpy", "s3fs"} <= names
    assert not names & {"pytest", "ruff", "bandit", "openvino"}
    assert json.loads(told)["metadata"]["component"]["name"] == "sightline-cxr"


def test_every_licence_is_known_and_none_is_strict() -> None:
    packages = sbom.installed(sbom.ROOT, sbom.EXTRAS)
    licences = {name: sbom.licence_of(package) or LOOKED_AT.get(name, "") for name, package in packages.items()}

    assert {name for name, licence in licences.items() if not licence} == set()
    assert {name: licence for name, licence in licences.items() if STRICT.search(licence)} == {}


def test_bandit_finds_no_known_mistake() -> None:
    folders = ("plugin", "nlp", "model", "orthanc", "conformance")
    run = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_the_lock_holds_everything_that_is_required_by_hash_and_names_no_registry() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==([\w.+!]+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    locked = {canonicalize_name(each[1]): each[2] for each in found if each}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [Requirement(each) for each in (*project["dependencies"], *project["optional-dependencies"]["buckets"])]

    assert None not in found
    unlocked = [str(each) for each in asked if each.name != "torch" and canonicalize_name(each.name) not in locked]
    assert not unlocked, "run `make lock`"
    outdated = [
        str(each)
        for each in asked
        if each.name != "torch" and locked[canonicalize_name(each.name)] not in each.specifier
    ]
    assert not outdated, "run `make lock`"


def test_the_image_is_built_from_the_lock() -> None:
    steps = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if "pip install" in line]

    assert "--require-hashes --no-deps -r requirements.lock" in steps[0]
    assert all("--no-build-isolation" in step for step in steps[2:])
    assert len(steps) == 3
