"""Patients see what their page shows: not who decided about a region and why, nor how sure the model was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import pytest
import requests
from charts import Chart
from evidence import decision
from fastapi.testclient import TestClient
from fhir.resources.R4B.observation import Observation
from places import OURS, Place, run_place
from urllib3 import HTTPResponse

from model.values import State
from plugin.access.caller import Role
from plugin.access.rules import ANYWHERE, RULES, Rule
from plugin.decisions import decided
from plugin.page.linking import STYLE, modules
from plugin.page.view import evidence_page
from plugin.page.words import Audience
from plugin.values import Evidence, GroundedPhrase, Person, Ruling

WHO, ACCOUNT = "Zyxwv Pruferin", "urn:accounts:zyxwv-17"
REASON, OURS_ALONE, WARNING = "quorblat below the heart", "the wimpel is askew", "a wumbo was passed over"
SCORES = ("0.8731", "87.3", "87 %", "0.4321")
SECRETS = (WHO, ACCOUNT, "zyxwv", REASON, OURS_ALONE, WARNING, *SCORES, "likely (")
SEG, SR, HEATMAP = "1.2", "1.3", "1.4"  # the first as the place's viewer has it


@dataclass(frozen=True)
class Decided(Chart):
    """A report whose regions a radiologist accepted, redrew and rejected, with words that stand nowhere else."""

    @property
    def evidence(self) -> Evidence:
        plain = super().evidence
        model = replace(plain.provenance.model, threshold=0.4321)
        plain = replace(
            plain,
            phrases=tuple(map(_marked, plain.phrases)),
            provenance=replace(plain.provenance, model=model),
            warnings=(WARNING,),
        )
        lit = [each for each in plain.phrases if each.lit][:3]
        rulings = (Ruling.ACCEPTED, Ruling.REDRAWN, Ruling.REJECTED)
        said = (decision(phrase, ruling, reason=REASON) for phrase, ruling in zip(lit, rulings, strict=True))
        return decided(plain, [replace(each, who=Person(WHO, ACCOUNT)) for each in said])


def _marked(grounded: GroundedPhrase) -> GroundedPhrase:
    placements = tuple(
        replace(
            each,
            probability=0.8731,
            regions=tuple(replace(region, probability=0.8731) for region in each.regions),
            reason=OURS_ALONE if each.state is State.NOT_FOUND else each.reason,
        )
        for each in grounded.placements
    )
    return replace(grounded, placements=placements)


CHART = Decided("carol")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with run_place(tmp_path_factory.mktemp("place")) as place:
        CHART.keep(place.results)
        yield place


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, place: Place) -> list[str]:
    """An archive whose structured report and heat map hold the secrets; what it is asked."""
    asked: list[str] = []
    study = json.loads(place.results.read(CHART.study, "evidence.json") or b"{}")
    series = [*(image["series_instance_uid"] for image in study["images"]), SEG, SR, HEATMAP]

    def send(_: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        path = str(request.url).partition("/dicom-web/")[2]
        asked.append(path)
        resource = path.partition("?")[0]
        found: list[Any] = [{"00080050": {"vr": "SH"}}]
        if resource.endswith("/series"):
            found = [{"0020000E": {"vr": "UI", "Value": [uid]}, "0008103E": {"Value": [_told(uid)]}} for uid in series]
        elif resource != "studies":
            uid = resource.split("/")[3] if resource.count("/") > 2 else SR
            found = [{"00081070": {"Value": [_told(uid)]}}]
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, str(request.url)
        answer.headers["Content-Type"] = "application/dicom+json"
        answer.raw = HTTPResponse(BytesIO(json.dumps(found).encode()), preload_content=False)
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return asked


def _told(series: str) -> str:
    return WHO if series in (SR, HEATMAP) else "plain"


def addresses(rule: Rule, place: Place) -> Iterator[str]:
    """What is asked of a route by way of trying."""
    bundle = json.loads(place.results.read(CHART.study, "fhir.json") or b"{}")
    ids: dict[str, list[str]] = {}
    for each in bundle["entry"]:
        ids.setdefault(each["resource"]["resourceType"], []).append(each["resource"]["id"])
    document = json.loads(place.results.read(CHART.study, "evidence.json") or b"{}")
    own = [CHART.resource("DiagnosticReport")]
    several = {
        "fhir-report": own,
        "fhir-page": own,
        "fhir-observation": ids["Observation"],
        "fhir-selection": [CHART.resource("ImagingSelection")],
        "page-parts": [STYLE, *modules()],
        "viewer-panel": ["sightline.js"],
    }
    path = rule.path.replace("{study_instance_uid}", CHART.uid).replace("{report_id}", CHART.report_id)
    path = path.replace("{sop_instance_uid}", document["images"][0]["sop_instance_uid"])
    for name in ("{resource_id}", "{name}"):
        if name in path:
            yield from (path.replace(name, each) for each in several[rule.name])
            return
    if rule.name == "fhir-others":
        yield from (f"/fhir/{kind}/{each}" for kind, found in ids.items() for each in found)
        yield from ("/fhir/Provenance", "/fhir/AuditEvent", f"/fhir/DiagnosticReport/{own[0]}/$everything")
    elif rule.name == "fhir-reports":
        yield from (path, f"{path}?_include=DiagnosticReport:result", f"{path}?_summary=data")
    elif rule.name == "dicomweb":
        yield from (f"/dicom-web/{each}" for each in resources(document))
    elif rule.path == ANYWHERE:
        yield "/index.html"
    else:
        yield path.replace("{_:path}", "x")


def resources(document: Any) -> Iterator[str]:
    """Of DICOMweb."""
    study = f"studies/{CHART.uid}"
    yield from (f"studies?StudyInstanceUID={CHART.uid}&includefield=0040A730", study)
    yield from (f"{study}/{each}" for each in ("metadata", "series", "instances", "rendered", "bulkdata/1"))
    yield from (f"{study}/instances?SeriesInstanceUID={SR}", f"{study}/series?includefield=all")
    for series in (document["images"][0]["series_instance_uid"], SEG, SR, HEATMAP, f"{SEG},{SR}", "1.2.3"):
        yield from (f"{study}/series/{series}{rest}" for rest in ("", "/metadata", "/instances/1.9", "/instances"))


def secrets_in(text: str) -> set[str]:
    return {each for each in SECRETS if each in text}


def radiologist(place: Place) -> TestClient:
    place.authority.user, place.authority.grants = {"sub": "dr", "roles": ["radiologist"]}, None
    return place.log_in()


OPEN_TO_PATIENTS = [each for each in RULES if Role.PATIENT in each.roles and "GET" in each.methods]


@pytest.mark.parametrize("rule", OPEN_TO_PATIENTS, ids=lambda rule: rule.name)
@pytest.mark.usefixtures("archive")
def test_no_route_tells_a_patient_who_decided_why_or_how_sure_the_model_was(place: Place, rule: Rule) -> None:
    carol = place.as_patient("carol")

    answers = [carol.get(address) for address in addresses(rule, place)]

    assert any(answer.is_success or answer.is_redirect for answer in answers) or rule.path.startswith("/fhir")
    assert {each for answer in answers for each in secrets_in(answer.text)} == set()


@pytest.mark.parametrize("kind", ["DiagnosticReport", "ImagingSelection"])
def test_nor_does_a_search_by_a_form(place: Place, kind: str) -> None:
    carol, form = place.as_patient("carol"), {"patient": "carol"}
    if kind == "DiagnosticReport":
        form["_include"] = "DiagnosticReport:result"

    answer = carol.post(f"/fhir/{kind}/_search", data=form, headers={"Origin": OURS})

    assert answer.json()["total"] > 0
    assert secrets_in(answer.text) == set()


@pytest.mark.usefixtures("archive")
def test_whoever_works_with_reports_is_told_all_of_it(place: Place) -> None:
    reader, study = radiologist(place), f"/studies/{CHART.uid}"

    told = {
        "evidence": reader.get(f"{study}/evidence").text,
        "page": reader.get(f"{study}/radiologist", follow_redirects=True).text,
        "FHIR": reader.get("/fhir/DiagnosticReport?patient=carol&_include=DiagnosticReport:result").text,
        "archive": reader.get(f"/dicom-web{study}/series/{SR}/metadata").text,
    }

    assert secrets_in(told["evidence"]) >= {WHO, ACCOUNT, REASON, OURS_ALONE, WARNING, "0.8731", "0.4321"}
    assert secrets_in(told["page"]) >= {WHO, REASON, WARNING, "87 %"}
    assert secrets_in(told["FHIR"]) >= {WHO, REASON, OURS_ALONE, "87.3"}
    assert secrets_in(told["archive"]) == {WHO}


def test_the_page_in_one_file_that_is_made_for_patients_holds_none_of_it() -> None:
    assert secrets_in(evidence_page(CHART.evidence, audience=Audience.PATIENT)) == set()
    assert secrets_in(evidence_page(CHART.evidence, audience=Audience.RADIOLOGIST)) >= {WHO, REASON, WARNING, "87 %"}


def test_patients_are_refused_the_evidence_and_pointed_to_no_structured_report(place: Place) -> None:
    carol, study = place.as_patient("carol"), f"/studies/{CHART.uid}"

    refused = [carol.get(f"{study}{part}/evidence") for part in ("", f"/reports/{CHART.report_id}")]

    assert [answer.status_code for answer in refused] == [403, 403]
    assert carol.get(f"{study}/series").json()["reports"] == []
    assert carol.get(f"{study}/viewer?show=sr").headers["location"] == carol.get(f"{study}/viewer").headers["location"]


def test_an_observation_says_to_its_patient_what_the_report_says_and_where_it_is(place: Place) -> None:
    carol, reader = place.as_patient("carol"), radiologist(place)
    asked = "/fhir/DiagnosticReport?patient=carol&_include=DiagnosticReport:result"

    shown, whole = (
        {each["resource"]["id"]: each["resource"] for each in who.get(asked).json()["entry"]} for who in (carol, reader)
    )

    assert shown.keys() == whole.keys()
    for name in (each["id"] for each in whole.values() if each["resourceType"] == "Observation"):
        told, made = shown[name], whole[name]
        same = ("status", "valueCodeableConcept", "identifier", "subject", "interpretation")
        assert [told[each] for each in same] == [made[each] for each in same]
        regions = [each for each in made["component"] if "valueString" in each]
        assert [each for each in told["component"] if "valueString" in each] == regions
        assert ("Marked on the image." in told["text"]["div"]) == bool(regions)
        assert told["meta"]["security"][0]["code"] == "REDACTED"
        assert told.keys().isdisjoint({"note", "performer"})
        Observation.model_validate(told)


def test_patients_read_radiographs_and_regions_from_the_archive_and_nothing_beside_them(
    place: Place, archive: list[str]
) -> None:
    carol, study = place.as_patient("carol"), f"/dicom-web/studies/{CHART.uid}"
    document = json.loads(place.results.read(CHART.study, "evidence.json") or b"{}")
    radiograph = document["images"][0]["series_instance_uid"]

    listed = carol.get(f"{study}/series", params={"includefield": "all"}).json()
    statuses = {
        uid: carol.get(f"{study}/series/{uid}/metadata").status_code for uid in (radiograph, SEG, SR, HEATMAP, "9.9")
    }

    assert {each["0020000E"]["Value"][0] for each in listed} == {radiograph, SEG}
    assert archive[0] == f"studies/{CHART.uid}/series", "no further attribute is asked for"
    assert statuses == {radiograph: 200, SEG: 200, SR: 404, HEATMAP: 404, "9.9": 404}
    assert carol.get(f"{study}/metadata").status_code == 403
    assert carol.get(study).status_code == 403
