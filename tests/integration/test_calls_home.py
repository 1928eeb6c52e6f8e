"""A full run asks the servers of the settings, and nobody else: no library calls home."""

from __future__ import annotations

from pathlib import Path

import pytest
from hospital import Person, run_hospital, run_service, wait_for

# By dicomweb-client's file client, behind the archive.
pytestmark = pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")

UID = "1.2.826.0.1.3680043.8.498.77"
TEXT = "FINDINGS: Left-sided pacemaker in place. There is no pleural effusion.\n\nIMPRESSION: Pacemaker."


def test_a_full_run_connects_to_the_servers_of_the_settings_alone(tmp_path: Path) -> None:
    """With the engine that brings telemetry; PyTorch exports the graph for it."""
    pytest.importorskip("openvino")
    with run_hospital(tmp_path) as hospital:
        hospital.admit(UID, Person(), text=TEXT)
        with run_service(hospital, engine="openvino") as service:
            wait_for(lambda: service.jobs().get(UID, {}).get("state") == "done")
            assert "acemaker" in service.http.get(f"/studies/{UID}/page").text

    assert service.connected() > set()
    assert service.connected() == hospital.peers
