"""``sightline stack`` for real: up, looked at through its one entrance, up again, down, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from servers import NPM, ORTHANC_PLUGINS, free_port, require, sightline

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def three_free_ports() -> int:
    """The first of three ports in a row that nothing listens on now."""
    import socket

    while True:
        first = free_port()
        try:
            for port in (first, first + 1, first + 2):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first


def processes(folder: Path) -> dict[str, int]:
    """The process ids that the stack has recorded, by name."""
    records = (folder / "pids").glob("*.json")
    return {record.stem: json.loads(record.read_text(encoding="utf-8"))["pid"] for record in records}


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for its parent to ask (proc(5), field 3 of stat)."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return said.rpartition(")")[2].split()[0] != "Z"


def test_the_stack_comes_up_with_an_example_and_goes_down_again(tmp_path: Path) -> None:
    require("Orthanc", "node", *ORTHANC_PLUGINS, str(NPM / "node_modules"))
    folder, port = tmp_path / "stack", three_free_ports()
    where = ("--dir", str(folder), "--port", str(port))

    try:
        told = sightline("stack", "up", *where)
        started = processes(folder)
        links = [word for line in told.splitlines() for word in line.split() if word.startswith("http")]
        viewer, _, page, *_ = links
        with httpx.Client() as http:
            opened = http.get(viewer)
            study = opened.headers["location"].partition("StudyInstanceUIDs=")[2].partition("&")[0]
            at = f"http://127.0.0.1:{port}"

            assert opened.status_code == 307
            assert "initialSeriesInstanceUID=2.25." in opened.headers["location"]
            assert "<title>OHIF Viewer</title>" in http.get(f"{at}{opened.headers['location']}").text
            assert "sightline.panelModule.report" in http.get(f"{at}/app-config.js").text
            assert 'class="open" href="../../viewer">' in http.get(page, follow_redirects=True).text
            modalities = {
                series["00080060"]["Value"][0] for series in http.get(f"{at}/dicom-web/studies/{study}/series").json()
            }
            assert {"SEG", "SR"} < modalities
            assert http.get(f"{at}/dicom-web/studies").status_code == 403
            assert http.get(f"http://127.0.0.1:{port + 1}/system").status_code == 401

        assert "runs already" in sightline("stack", "up", *where)
        assert processes(folder) == started
        assert "runs" in sightline("stack", "status", *where)
    finally:
        ended = sightline("stack", "down", *where)

    assert ended.count("ended") == 3
    assert processes(folder) == {}
    assert not any(map(is_alive, started.values()))
