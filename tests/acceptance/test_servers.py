"""The programs that the other acceptance tests stand on."""

from __future__ import annotations

import io

import httpx
import pydicom.examples
import pytest
from playwright.sync_api import Browser
from servers import OrthancServer

pytestmark = pytest.mark.acceptance


def test_orthanc_answers_on_dicomweb_with_the_projects_plugins(orthanc: OrthancServer) -> None:
    orthanc.reset()

    with orthanc.http() as http:
        plugins = http.get("/plugins").json()
        studies = httpx.get(f"{orthanc.dicomweb_url}/studies", headers=orthanc.headers)

    assert {"dicom-web", "gdcm"} <= set(plugins)
    assert studies.json() == []


def test_orthanc_refuses_a_caller_without_credentials(orthanc: OrthancServer) -> None:
    assert httpx.get(f"{orthanc.dicomweb_url}/studies").status_code == httpx.codes.UNAUTHORIZED


def test_chromium_renders_a_page(chromium: Browser) -> None:
    context = chromium.new_context()
    page = context.new_page()

    page.set_content("<h1>Sightline</h1>")

    assert page.inner_text("h1") == "Sightline"
    context.close()


def test_orthanc_survives_a_request_for_jpeg_ls_frames(orthanc: OrthancServer) -> None:
    """With GDCM on its defaults Orthanc 1.10 ends here; orthanc.json restricts it."""
    orthanc.reset()
    dataset = pydicom.examples.ct
    file = io.BytesIO()
    dataset.save_as(file)
    series = f"studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    frames = f"{series}/instances/{dataset.SOPInstanceUID}/frames/1"

    with orthanc.http() as http:
        http.post("/instances", content=file.getvalue()).raise_for_status()
        http.get(f"/dicom-web/{frames}", headers={"Accept": 'multipart/related; type="image/jls"'})
        alive = http.get("/system").status_code

    assert alive == httpx.codes.OK
    orthanc.reset()
