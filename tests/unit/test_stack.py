"""The native stack: what it starts, what it ends, and what it says is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from plugin.commands import stack
from plugin.errors import InputError, TransientError
from plugin.settings import Settings
from plugin.stack import plan as planning
from plugin.stack.example import send, wait_for_results
from plugin.stack.plan import NPM, ROOT, Plan, missing
from plugin.stack.processes import Part, is_running, start, stop

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
UID = "1.2.3"


@pytest.fixture
def part(tmp_path: Path):
    """A program that waits; ended by its own process id at the end of the test."""
    sleeper = Part("sleeper", SLEEPER, tmp_path)
    yield sleeper
    stop(sleeper)


def said(part: Part) -> bool:
    return "up" in part.log.read_text(encoding="utf-8")


def test_a_part_is_started_once_and_ended_once(part: Part) -> None:
    assert start(part, ready=lambda: said(part))
    assert is_running(part)
    assert not start(part, ready=lambda: False)

    assert stop(part)

    assert not is_running(part)
    assert not stop(part)


def test_a_process_that_took_over_the_number_is_not_ended(part: Part) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        part.record.parent.mkdir(parents=True)
        part.record.write_text(json.dumps({"pid": stranger.pid, "began": "1"}), encoding="utf-8")

        assert not is_running(part)
        assert not stop(part)

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"pid": "x", "began": "1"}', '{"pid": 1, "began": null}'])
def test_a_damaged_record_is_no_process(part: Part, record: str) -> None:
    part.record.parent.mkdir(parents=True)
    part.record.write_text(record, encoding="utf-8")

    assert not is_running(part)


def test_a_part_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    broken = Part("broken", (sys.executable, "-c", "raise SystemExit('no port')"), tmp_path)

    with pytest.raises(TransientError, match=r"broken\.log"):
        start(broken, ready=lambda: False)

    assert "no port" in broken.log.read_text(encoding="utf-8")


def test_a_part_that_is_never_ready_is_ended(part: Part) -> None:
    with pytest.raises(TransientError):
        start(part, ready=lambda: False, timeout_s=0.2)

    assert not is_running(part)


def test_orthanc_is_configured_for_this_machine_alone(tmp_path: Path) -> None:
    plan = Plan(tmp_path, 9000)

    settings = plan.orthanc_configuration("secret")

    assert settings["RemoteAccessAllowed"] is False
    assert settings["AuthenticationEnabled"] is True
    assert settings["RegisteredUsers"] == {"sightline": "secret"}
    assert (settings["HttpPort"], settings["DicomWeb"]["Host"]) == (9001, "127.0.0.1:9001")
    assert settings["Sightline"]["Url"] == "http://127.0.0.1:9000"
    assert Path(settings["PythonScript"]) == ROOT / "orthanc" / "sightline.py"


def test_the_service_is_given_real_settings_and_no_password_on_a_command_line(tmp_path: Path) -> None:
    plan = Plan(tmp_path, 9000)

    parts = plan.parts("secret")

    names = {name.removeprefix("SIGHTLINE_").lower() for name in parts[2].environment if name.startswith("SIGHTLINE_")}
    assert names <= set(Settings.model_fields)
    assert not any("secret" in word for part in parts for word in part.command)
    assert [part.name for part in parts] == ["orthanc", "fhir", "sightline"]


def test_what_is_missing_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(planning, "which", lambda _: None)
    monkeypatch.setattr(planning, "OHIF", tmp_path / "none")

    told = "\n".join(missing(lambda _: 0))

    assert "apt-get install orthanc" in told
    assert "nodejs" in told
    assert "npm" in told
    monkeypatch.setattr(planning, "ROOT", tmp_path)
    assert "checkout" in "\n".join(missing(lambda _: 0))


def test_an_old_node_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "which", lambda name: f"/usr/bin/{name}")

    assert any("Node 20" in sentence for sentence in missing(lambda _: 18))
    assert not any("Node 20" in sentence for sentence in missing(lambda _: 20))


def test_a_stack_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stack, "missing", lambda _: iter(["Orthanc: apt-get install orthanc"]))

    with pytest.raises(InputError, match="apt-get install orthanc"):
        stack.up(folder=tmp_path / "s", port=9000)

    assert not (tmp_path / "s").exists()


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stack, "missing", lambda _: iter([]))
    monkeypatch.setattr(stack, "_install", lambda _: None)
    with stack.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InputError, match=f"port {port}, for orthanc"):
            stack.up(folder=tmp_path, port=port - 1)

    password = tmp_path / "orthanc-password"
    assert password.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "orthanc.json").stat().st_mode & 0o777 == 0o600
    assert password.read_text(encoding="utf-8") in (tmp_path / "orthanc.json").read_text(encoding="utf-8")


def test_what_was_never_started_is_neither_running_nor_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.status(folder=tmp_path, port=9000) == 1
    assert stack.down(folder=tmp_path, port=9000) == 0
    assert capsys.readouterr().out.count("was not running") == 3


def test_packages_are_installed_once_as_the_lock_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=len(ran) - 1, stderr="no network")

    console = stack.Console(quiet=True)
    monkeypatch.setattr(stack.subprocess, "run", run)
    monkeypatch.setattr(stack, "OHIF", tmp_path / "none")

    stack._install(console)
    with pytest.raises(InputError, match="no network"):
        stack._install(console)

    assert "ci" in ran[0]
    assert "--ignore-scripts" in ran[0]
    assert (NPM / "package-lock.json").is_file()


def example(folder: Path) -> Path:
    (folder / "report.json").write_text(
        json.dumps({"entry": [{"resource": {"resourceType": "Patient", "id": "p"}}]}), encoding="utf-8"
    )
    (folder / "a.dcm").write_bytes(b"image")
    return folder


def test_the_report_goes_before_the_images_that_start_the_work(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200)

    transport = httpx.MockTransport(answer)
    with (
        httpx.Client(base_url="http://o/", transport=transport) as orthanc,
        httpx.Client(base_url="http://f/fhir/", transport=transport) as fhir,
    ):
        send(example(tmp_path), orthanc=orthanc, fhir=fhir)

    assert asked == ["PUT /fhir/Patient/p", "POST /instances"]


def test_a_server_that_does_not_take_the_example_is_told(tmp_path: Path) -> None:
    with (
        httpx.Client(base_url="http://x/", transport=httpx.MockTransport(lambda _: httpx.Response(500))) as client,
        pytest.raises(TransientError, match="not taken"),
    ):
        send(example(tmp_path), orthanc=client, fhir=client)


def waiting(*rounds: tuple[int, list[dict[str, str]]]) -> list[str]:
    """What is told while the service answers *rounds* of (status of the evidence, jobs)."""
    left = list(rounds)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/jobs":
            return httpx.Response(200, json=left.pop(0)[1])
        if left[0][0] == 0:
            left.pop(0)
            raise httpx.ReadError("busy")
        return httpx.Response(left[0][0])

    told: list[str] = []
    with httpx.Client(base_url="http://s", transport=httpx.MockTransport(answer)) as service:
        wait_for_results(UID, service=service, tell=told.append)
    return told


def test_results_are_waited_for_with_every_new_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    job = {"study_instance_uid": UID, "state": "queued"}

    told = waiting((404, []), (404, [job]), (0, []), (404, [job]), (404, [job | {"state": "running"}]), (200, []))

    assert told[1:] == ["queued", "running"]
    assert "Orthanc" in told[0]


def test_a_failed_job_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)

    with pytest.raises(TransientError, match="no report"):
        waiting((404, [{"study_instance_uid": UID, "state": "failed", "error": "no report"}]))


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        httpx.Client(base_url="http://s", transport=httpx.MockTransport(lambda _: httpx.Response(404))) as service,
        pytest.raises(TransientError, match="in time"),
    ):
        wait_for_results(UID, service=service, tell=print, timeout_s=0)
