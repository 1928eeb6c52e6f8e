"""The programs that the other acceptance tests stand on."""

from __future__ import annotations

import httpx
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
