"""docker-compose.yml keeps its promises: nothing open but the entrance, nobody root, every setting a real one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from servers import ROOT

from plugin.errors import InputError
from plugin.settings import Settings, load_settings
from plugin.wiring import make_access

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = {
    "sightline": ROOT / "Dockerfile",
    "worker": ROOT / "Dockerfile",
    "orthanc": ROOT / "orthanc" / "Dockerfile",
}
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
    image = instructions(name)["FROM"] if "build" in SERVICES[name] else SERVICES[name]["image"]
    repository, _, tag = image.partition(":")

    assert tag not in {"", "latest"}
    assert "." not in repository.partition("/")[0]


def test_what_is_kept_lies_in_named_volumes() -> None:
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}

    assert mounted == set(COMPOSE["volumes"])


def test_every_sightline_variable_is_a_setting() -> None:
    used = {name for path in FILES for name in re.findall(r"\bSIGHTLINE_([A-Z_]+)", path.read_text(encoding="utf-8"))}

    assert used
    assert {name.removesuffix("_FILE") for name in used} <= {name.upper() for name in Settings.model_fields}


def test_every_orthanc_variable_is_read_by_its_configuration() -> None:
    configuration = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "orthanc").glob("*.json"))
    read = set(re.findall(r"\$\{(ORTHANC_\w+)", configuration))

    assert set(SERVICES["orthanc"]["environment"]) <= read
    assert set(re.findall(r"\b(ORTHANC_\w+)=", instructions("orthanc")["CMD"])) <= read


def test_no_secret_stands_in_the_environment() -> None:
    """Neither here nor in .env: each comes from a file of its own, and whoever uses one is given that file."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    offered = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE))
    variables = {key for service in SERVICES.values() for key in service["environment"]}

    assert asked == offered
    assert not [name for name in variables if name.endswith(("PASSWORD", "TOKEN", "SECRET"))]
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    assert "secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_given_exactly_the_secrets_that_it_reads(name: str) -> None:
    service = SERVICES[name]
    given = {each if isinstance(each, str) else each["target"] for each in service.get("secrets", [])}
    told = [*service["environment"].values(), *(instructions(name).values() if "build" in service else ())]
    told += [COMPOSE["configs"][each["source"]]["content"] for each in service.get("configs", [])]

    read = {secret for text in told for secret in re.findall(r"/run/secrets/(\w+)", text)}

    # Spring takes every file of the folder as the property of its name.
    assert given == (read or {"spring.datasource.password"})


def test_the_documentation_makes_every_secret() -> None:
    told = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    random = [name for name in COMPOSE["secrets"] if name != "sightline_login_secret"]  # that one the issuer gives
    assert re.search(rf"for name in {' '.join(random)}; do", told)
    assert "secrets/sightline_login_secret" in told


def test_both_sides_of_the_archive_agree() -> None:
    sightline, orthanc = SERVICES["sightline"]["environment"], SERVICES["orthanc"]["environment"]
    root = json.loads((ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))["DicomWeb"]["Root"]

    assert sightline["SIGHTLINE_ARCHIVE_URL"] == f"http://{orthanc['ORTHANC_HOST']}{root}".rstrip("/")
    assert sightline["SIGHTLINE_ARCHIVE_USER"] == orthanc["ORTHANC_USERNAME"]
    assert sightline["SIGHTLINE_ARCHIVE_PASSWORD_FILE"] in instructions("orthanc")["CMD"]
    assert sightline["SIGHTLINE_EVENT_SECRET_FILE"] == orthanc["ORTHANC_SIGHTLINE_SECRET_FILE"]
    assert orthanc["ORTHANC_SIGHTLINE_URL"] == f"http://sightline:{sightline['SIGHTLINE_PORT']}"
    assert "sightline" in sightline["SIGHTLINE_ALLOWED_HOSTS"].split(",")


def test_it_does_not_start_without_a_login_or_with_the_password_of_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in SERVICES["sightline"]["environment"].items() if not name.endswith("_FILE")}
    for name, value in given.items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    with pytest.raises(InputError, match="set SIGHTLINE_LOGIN_ISSUER"):
        make_access(load_settings())

    monkeypatch.setenv("SIGHTLINE_LOGIN_ISSUER", "https://login.example")
    make_access(load_settings())
    monkeypatch.setenv("SIGHTLINE_ARCHIVE_PASSWORD", "orthanc")
    with pytest.raises(InputError, match="SIGHTLINE_ARCHIVE_PASSWORD can be guessed"):
        make_access(load_settings())


def test_service_and_worker_are_one_program_on_one_queue() -> None:
    service, worker = SERVICES["sightline"], SERVICES["worker"]

    assert {key: worker[key] for key in ("image", "environment", "volumes", "secrets")} == {
        key: service[key] for key in ("image", "environment", "volumes", "secrets")
    }
    assert (service["command"], worker["command"]) == (["sightline", "serve", "--no-work"], ["sightline", "work"])


def test_orthancs_index_is_in_postgresql() -> None:
    """The one change that the image makes to the configuration of the tests, and what both sides call the database."""
    dockerfile = (ROOT / "orthanc" / "Dockerfile").read_text(encoding="utf-8")
    (change,) = re.findall(r"sed -i ('.*')", dockerfile)
    original = ROOT / "orthanc" / "orthanc.json"
    changed = subprocess.run(
        ["sh", "-c", f"sed {change} {original}"], capture_output=True, text=True, check=True
    ).stdout
    database = json.loads((ROOT / "orthanc" / "postgresql.json").read_text(encoding="utf-8"))["PostgreSQL"]
    created = COMPOSE["configs"]["orthanc_database"]["content"]

    before, after = json.loads(original.read_text(encoding="utf-8")), json.loads(changed)
    assert set(after.pop("Plugins")) - set(before.pop("Plugins")) == {
        "/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so"
    }
    assert after == before
    assert database["EnableIndex"] is True
    assert f"CREATE USER {database['Username']} " in created
    assert f"CREATE DATABASE {database['Database']} OWNER {database['Username']};" in created


def test_the_image_of_the_service_holds_the_viewer_that_is_tested() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert "plugin/stack/npm/package-lock.json" in dockerfile
    assert f"@ohif/app/dist {SERVICES['sightline']['environment']['SIGHTLINE_VIEWER_DIR']}" in dockerfile


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

    answer = subprocess.run(command, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr
