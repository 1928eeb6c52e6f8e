"""Receiving HL7 v2 as the settings say it, and what the doctor says of it."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hl7.client import MLLPClient
from hl7_input import oru
from pydantic import ValidationError
from queues import MemoryQueue

from plugin.doctor import mllp
from plugin.errors import InputError
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.settings import Settings
from plugin.wiring import make_mllp


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "127.0.0.1:0"),
        ({"fhir_url": "http://127.0.0.1:9/fhir"}, "at the FHIR server"),
        ({"mllp_host": "192.0.2.1"}, "cannot be used"),
    ],
)
def test_the_doctor_says_whether_results_can_be_received(settings: dict[str, Any], says: str) -> None:
    found = mllp(Settings(mllp_port=0, **settings))

    assert says in found.detail
    assert found.ok is (settings == {})


def test_the_settings_make_the_listener() -> None:
    listener = make_mllp(Settings(mllp_port=0, mllp_senders="10.0.0.0/8, 192.0.2.7"))

    assert listener is not None
    assert [str(each) for each in listener.senders] == ["10.0.0.0/8", "192.0.2.7/32"]
    assert make_mllp(Settings()) is None


def test_results_need_the_folder_of_reports() -> None:
    with pytest.raises(InputError, match="SIGHTLINE_FHIR_URL"):
        make_mllp(Settings(mllp_port=0, fhir_url="http://127.0.0.1:9/fhir"))


def test_results_are_received_while_the_service_runs(tmp_path: Path) -> None:
    listener = make_mllp(Settings(mllp_port=0, reports_dir=tmp_path))
    assert listener is not None
    services = Services(
        queue=MemoryQueue(),
        results=ResultFolder(tmp_path / "results"),
        work=lambda _: nullcontext(()),
        intake=None,  # type: ignore[arg-type] - not asked
        grounder=None,  # type: ignore[arg-type]
        read_report=None,  # type: ignore[arg-type]
        read_dicom=None,  # type: ignore[arg-type]
    )

    with TestClient(create_app(services, work=False, beside=(listener,))), MLLPClient(*listener.address) as client:
        assert b"MSA|AA|MSG-1" in client.send_message(oru())

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.address, timeout=1)
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_nothing_is_made_before_a_report_comes(tmp_path: Path) -> None:
    make_mllp(Settings(mllp_port=0, reports_dir=tmp_path / "reports"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"mllp_senders": "here"}, {"hl7_charset": "klingon"}, {"hl7_accession": "OBR-4"}, {"mllp_port": -1}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)
