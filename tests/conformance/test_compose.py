"""docker-compose.yml keeps its promises: nothing open but the entrance, nobody root, every setting a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from servers import ROOT

from plugin.settings import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = {"sightline": ROOT / "Dockerfile", "orthanc": ROOT / "orthanc" / "Dockerfile"}
FILES = (ROOT / "docker-compose.yml", ROOT / "Dockerfile", ROOT / "orthanc" / "Dockerfile", ROOT / ".env.example")


def instructions(service: str) -> dict[str, str]:
    """The last of each kind of instruction in the Dockerfile that builds *service*."""
    lines = DOCKERFILES[service].read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return {line.split()[0]: line.partition(" ")[2] for line in lines if re.match(r"[A-Z]+ ", line)}


def test_only_sightline_is_published_and_only_on_this_machine() -> None:
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}

    assert {name for name, ports in published.items() if ports} == {"sightline"}
    assert all(port.startswith("127.0.0.1:") for port in published["sightline"])


def test_everything_but_the_entrance_is_cut_off_from_the_outside() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert {name for name, service in SERVICES.items() if service["networks"] != ["inside"]} == {"sightline"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    user = service.get("user") or instructions(name)["USER"]

    assert user not in {"root", "0"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"fhir"}))
def test_a_service_has_a_health_check(name: str) -> None:
    """All but HAPI's image, which holds no program that could ask."""
    assert SERVICES[name].get("healthcheck") or instructions(name)["HEALTHCHECK"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_and_names_no_registry(name: str) -> None:
    image = SERVICES[name].get("image") or instructions(name)["FROM"]
    repository, _, tag = image.partition(":")

    assert tag not in {"", "latest"}
    assert "." not in repository.partition("/")[0]


def test_what_is_kept_lies_in_named_volumes() -> None:
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}

    assert mounted == set(COMPOSE["volumes"])


def test_every_sightline_variable_is_a_setting() -> None:
    used = {name for path in FILES for name in re.findall(r"\bSIGHTLINE_([A-Z_]+)", path.read_text(encoding="utf-8"))}

    assert used
    assert used <= {name.upper() for name in Settings.model_fields}


def test_every_orthanc_variable_is_read_by_its_configuration() -> None:
    read = set(re.findall(r"\$\{(ORTHANC_\w+)", (ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8")))

    assert set(SERVICES["orthanc"]["environment"]) <= read


def test_every_secret_comes_from_the_environment_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    offered = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE))
    secrets = {
        value
        for service in SERVICES.values()
        for key, value in service["environment"].items()
        if key.endswith(("PASSWORD", "TOKEN"))
    }

    assert asked == offered
    assert secrets
    assert all(re.fullmatch(r"\$\{\w+:\?.+\}", secret) for secret in secrets)


def test_both_sides_of_the_archive_agree() -> None:
    sightline, orthanc = SERVICES["sightline"]["environment"], SERVICES["orthanc"]["environment"]
    root = json.loads((ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))["DicomWeb"]["Root"]

    assert sightline["SIGHTLINE_ARCHIVE_URL"] == f"http://{orthanc['ORTHANC_HOST']}{root}".rstrip("/")
    assert sightline["SIGHTLINE_ARCHIVE_USER"] == orthanc["ORTHANC_USERNAME"]
    assert sightline["SIGHTLINE_ARCHIVE_PASSWORD"] == orthanc["ORTHANC_PASSWORD"]
    assert orthanc["ORTHANC_SIGHTLINE_URL"] == f"http://sightline:{sightline['SIGHTLINE_PORT']}"
    assert "sightline" in sightline["SIGHTLINE_ALLOWED_HOSTS"].split(",")


def test_the_image_of_orthanc_holds_the_packages_that_are_tested() -> None:
    installed = set((ROOT / "orthanc" / "Dockerfile").read_text(encoding="utf-8").split())
    tested = (ROOT / "tests" / "install-debian-packages").read_text(encoding="utf-8")

    assert (
        set(re.findall(r"\borthanc(?:-\w+)?\b", re.findall(r"PACKAGES=\((.*?)\)", tested, re.DOTALL)[0])) <= installed
    )


def test_docker_reads_the_file_the_same_way() -> None:
    """Compose's own reading where it is installed, without an engine; elsewhere the rules above stand alone."""
    command = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return
    environment = os.environ | {"ARCHIVE_PASSWORD": "a", "FHIR_DB_PASSWORD": "b"}

    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
