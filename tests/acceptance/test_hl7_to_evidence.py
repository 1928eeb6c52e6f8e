"""A site with nothing but a RIS that speaks HL7 v2: a result goes in over MLLP, the evidence of its study comes out."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from hl7.client import MLLPClient
from hl7_input import MSH, OBR, field, obx, oru
from servers import free_port, run_sightline, sightline

from plugin.fhir.reading import report_from_file

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def evidence(http: httpx.Client, study: str, *, text: str) -> dict[str, Any]:
    """The study's evidence, once it is about a report of this *text*."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        answer = http.get(f"/studies/{study}/evidence")
        if answer.status_code == 200 and answer.json()["report"]["text"] == text:
            return dict(answer.json())
        time.sleep(0.3)
    jobs = http.get("/jobs").text
    pytest.fail(f"there is no such evidence in five minutes; jobs: {jobs[:2000]}")


def result(lines: str, *, patient: str, study: str, accession: str, control: str, status: str, at: str) -> bytes:
    msh = field(field(MSH, 10, control), 7, at)
    obr = field(field(field(OBR, 3, accession), 18, accession), 25, status)
    observations = [obx(line) for line in lines.split("\n")]
    return oru(obr, *observations, f"ZDS|{study}", msh=msh, pid=f"PID|1||{patient}^^^HOSPITAL^MR")


def test_a_result_becomes_evidence_and_its_correction_another(tmp_path: Path) -> None:
    sightline("synth", "--out", str(tmp_path / "synthetic"), "--seed", "18")
    (made,) = (tmp_path / "synthetic").glob("study-*")
    (twin,) = report_from_file(made / "report.json")
    assert twin.patient is not None
    about = {"patient": twin.patient.patient_id, "study": twin.study_instance_uids[0]}
    (tmp_path / "archive").mkdir()
    for image in made.glob("*.dcm"):
        shutil.copy(image, tmp_path / "archive" / image.name)
    mllp = free_port()
    settings = {
        "archive_dir": str(tmp_path / "archive"),
        "reports_dir": str(tmp_path / "reports"),
        "reports_every_s": "3600",  # what is in time comes by being woken
        "reports_backlog": "true",
        "mllp_port": str(mllp),
    }
    text = twin.text.strip().replace("\r\n", "\n")
    corrected = f"{text}\nADDENDUM: Small right pleural effusion."

    with (
        run_sightline(tmp_path / "work", port=free_port(), settings=settings, name="hl7") as http,
        MLLPClient("127.0.0.1", mllp) as ris,
    ):
        first = result(text, **about, accession="A-1", control="1", status="F", at="20260301100000+0000")
        assert b"MSA|AA|1" in ris.send_message(first)
        found = evidence(http, about["study"], text=text)
        second = result(corrected, **about, accession="A-1", control="2", status="C", at="20260301110000+0000")
        assert b"MSA|AA|2" in ris.send_message(second)
        later = evidence(http, about["study"], text=corrected)

    assert (found["report"]["status"], later["report"]["status"]) == ("final", "corrected")
    assert found["report"]["report_id"] == later["report"]["report_id"]
    assert any(placement["regions"] for phrase in found["phrases"] for placement in phrase["placements"])
    kept = {phrase["text"]: phrase["tracking_uid"] for phrase in found["phrases"]}
    assert kept.items() <= {phrase["text"]: phrase["tracking_uid"] for phrase in later["phrases"]}.items()
    assert "Geheim" not in json.dumps([path.read_text() for path in (tmp_path / "reports").rglob("*.json")])
