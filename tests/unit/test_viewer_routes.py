"""The viewer beside the service: its files, links that open a study lit, and DICOMweb for one study at a time."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from evidence import kept_of, make_evidence
from fastapi.testclient import TestClient
from memory import Site
from queues import MemoryQueue
from urllib3 import HTTPResponse

from plugin.dicom.instance import series_of
from plugin.endpoint import Endpoint
from plugin.errors import InputError
from plugin.flow import Outputs, outputs_of
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.viewer import Viewer
from plugin.service.viewer.proxy import is_allowed, named_studies
from plugin.settings import Settings
from plugin.values import StudyRef
from plugin.wiring import make_viewer

EVIDENCE = make_evidence()
UID = EVIDENCE.study.study_instance_uid
ARCHIVE = "http://archive.test:8042/dicom-web"
Answers = list[requests.Response | Exception]


def services(folder: Path) -> Services:
    nothing: Any = None
    intake = Site(folder.parent / "data").intake
    return Services(MemoryQueue(), ResultFolder(folder), nothing, intake, nothing, nothing, nothing)


@pytest.fixture(scope="module")
def outputs() -> Outputs:
    return outputs_of(EVIDENCE)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[list[requests.PreparedRequest], Answers]:
    """What the archive was asked, and what it will answer, one after the other."""
    seen: list[requests.PreparedRequest] = []
    answers: Answers = []

    def send(_: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        seen.append(request)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        answer.request, answer.url = request, str(request.url)
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return seen, answers


def answered(status: int, content: bytes = b"", **headers: str) -> requests.Response:
    """An answer of the archive."""
    answer = requests.Response()
    answer.status_code = status
    answer.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    answer.raw = HTTPResponse(BytesIO(content), preload_content=False)
    return answer


@pytest.fixture
def http(tmp_path: Path, outputs: Outputs) -> Iterator[TestClient]:
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text("<title>OHIF</title>", encoding="utf-8")
    (dist / "app.js").write_text("1", encoding="utf-8")
    ResultFolder(tmp_path / "results").write(EVIDENCE.study, kept_of(EVIDENCE), outputs.files)
    viewer = Viewer(dist, Endpoint(ARCHIVE, {"Authorization": "Basic secret"}), series_of)
    app = create_app(services(tmp_path / "results"), work=False, viewer=viewer, allowed_hosts=("testserver",))
    with TestClient(app, follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize(("show", "number"), [("seg", 0), ("sr", -1)])
def test_a_study_opens_with_its_regions_or_its_report(
    http: TestClient, outputs: Outputs, show: str, number: int
) -> None:
    answer = http.get(f"/studies/{UID}/viewer", params={"show": show})

    series = outputs.instances[number].series_instance_uid
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/viewer?StudyInstanceUIDs={UID}&initialSeriesInstanceUID={series}"


def test_a_study_without_results_opens_as_it_is(http: TestClient) -> None:
    assert http.get("/studies/1.2.3/viewer").headers["location"] == "/viewer?StudyInstanceUIDs=1.2.3"


def test_the_series_of_the_results_are_told(http: TestClient, outputs: Outputs) -> None:
    told = http.get(f"/studies/{UID}/series").json()

    assert told["segmentations"] == [outputs.instances[0].series_instance_uid]
    assert told["reports"] == [outputs.instances[-1].series_instance_uid]
    assert http.get("/studies/1.2.3/series").status_code == 404


def test_pages_link_to_the_viewer_only_where_there_is_one(http: TestClient, tmp_path: Path) -> None:
    plain = TestClient(create_app(services(tmp_path / "results"), work=False, allowed_hosts=("testserver",)))

    assert '<a class="open" href="../../viewer">' in http.get(f"/studies/{UID}/radiologist", follow_redirects=True).text
    assert f'<a href="/studies/{UID}/viewer">' in http.get("/").text
    assert 'class="open"' not in plain.get(f"/studies/{UID}/radiologist", follow_redirects=True).text
    assert "/viewer" not in plain.get("/").text
    assert plain.get("/viewer").status_code == 404


def test_the_viewer_and_our_parts_of_it_are_served(http: TestClient) -> None:
    page = http.get("/viewer", params={"StudyInstanceUIDs": UID})

    assert page.text == "<title>OHIF</title>"
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert http.get("/app.js").text == "1"
    assert "sightline.js" in http.get("/app-config.js").text
    assert http.get("/sightline/sightline.js").headers["content-type"].startswith("text/javascript")
    assert http.get("/sightline/routes.py").status_code == 404
    assert http.get("/../secret").status_code == 404


def test_the_archive_is_read_with_its_password_and_the_browsers_wish(
    http: TestClient, asked: tuple[list[requests.PreparedRequest], Answers]
) -> None:
    seen, answers = asked
    answers.append(answered(206, b"pixels", content_type="image/jls", set_cookie="a=b"))

    answer = http.get(f"/dicom-web/studies/{UID}/series/1.2/instances/1.3/frames/1", headers={"Accept": "image/jls"})

    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (206, b"pixels", "image/jls")
    assert "set-cookie" not in answer.headers
    assert str(seen[0].url) == f"{ARCHIVE}/studies/{UID}/series/1.2/instances/1.3/frames/1"
    assert seen[0].headers["authorization"] == "Basic secret"
    assert seen[0].headers["accept"] == "image/jls"
    assert "cookie" not in seen[0].headers


@pytest.mark.parametrize("answer", [answered(401), answered(302, location="/x"), requests.ConnectionError("no")])
def test_an_archive_that_refuses_or_is_silent_is_told_as_such(
    http: TestClient, asked: tuple[list[requests.PreparedRequest], Answers], answer: requests.Response | Exception
) -> None:
    asked[1].append(answer)

    told = http.get(f"/dicom-web/studies/{UID}/series")

    assert told.status_code == 503
    assert "secret" not in told.text


@pytest.mark.parametrize(
    ("resource", "query", "allowed"),
    [
        ("studies", {"StudyInstanceUID": "1.2"}, True),
        ("studies", {"00100020": "P1"}, True),
        ("studies", {}, False),
        ("studies", {"PatientID": "*"}, False),
        ("studies", {"PatientID": ""}, False),
        ("studies", {"limit": "10"}, False),
        ("studies", {"StudyInstanceUID": "1.2", "0020000D": "*"}, False),
        ("studies", {"StudyInstanceUID": "1.2", "0020000d": ""}, False),
        ("studies", {"StudyInstanceUID": "1.2", "0010,0020": "P*"}, False),
        ("studies/1.2/series", {"includefield": "all"}, True),
        ("studies/1.2/series/1.3/instances/1.4/frames/1,2", {}, True),
        ("studies/1.2/series/1.3/instances/1.4/bulk/00283010/1/00283006", {}, True),
        ("studies/../../system", {}, False),
        ("studies/..%2fsystem", {}, False),
        ("studies//", {}, False),
        ("series", {"StudyInstanceUID": "1.2"}, False),
        ("instances", {"StudyInstanceUID": "1.2"}, False),
        ("../system", {}, False),
    ],
)
def test_only_a_study_or_a_patient_that_is_named_can_be_read(
    resource: str, query: dict[str, str], allowed: bool
) -> None:
    assert is_allowed(resource, query.items()) is allowed


@pytest.mark.parametrize("name", ["StudyInstanceUID", "0020000D", "0020000d", "0020,000D", "(0020,000d)"])
def test_a_study_is_found_in_a_search_however_its_attribute_is_spelt(name: str) -> None:
    query = [("StudyInstanceUID", "1.2"), (name, "1.3")]

    assert named_studies("studies", query) == (StudyRef("1.2"), StudyRef("1.3"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written_through_the_viewer(http: TestClient, method: str) -> None:
    assert http.request(method, "/dicom-web/studies").status_code == 405


def test_a_viewer_needs_its_files_and_a_server_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="index"):
        make_viewer(Settings(viewer_dir=tmp_path, archive_url=ARCHIVE))
    (tmp_path / "index.html").touch()
    with pytest.raises(InputError, match="SIGHTLINE_ARCHIVE_URL"):
        make_viewer(Settings(viewer_dir=tmp_path))
    assert make_viewer(Settings()) is None
    viewer = make_viewer(Settings(viewer_dir=tmp_path, archive_url=ARCHIVE))
    assert viewer is not None
    assert viewer.folder == tmp_path
