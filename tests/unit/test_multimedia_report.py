"""The multimedia report: exact text, one span, one link and one region for each lit phrase, whatever the text holds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from evidence import make_evidence, make_header, make_radiograph
from fhir.resources.imagingselection import ImagingSelection
from fhir.resources.R4B.basic import Basic
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from hypothesis import HealthCheck, given, settings
from lxml import etree, html
from multimedia import evidences, printable

from plugin.fhir.marking import Link, narrative_markup, page_markup
from plugin.fhir.multimedia import (
    BUNDLE_PROFILE,
    REPORT_PROFILE,
    Organization,
    about_of,
    frame_of,
    multimedia_id,
    rendered,
    report_at,
    store_bundle,
)
from plugin.fhir.ours import is_ours
from plugin.fhir.resource import Element
from plugin.fhir.selections import as_basic, selections_of, withdrawn_selection
from plugin.page.document import EvidenceDocument, evidence_document
from plugin.values import Evidence, PatientRef, ReportStatus

BASE = "https://sightline.example"
HOSPITAL = Organization("St. Elsewhere", "http://example.org/organizations", "17")
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SPAN = "imr-ref-ImagingSelection"


def built(evidence: Evidence) -> tuple[dict[str, Any], EvidenceDocument]:
    document = evidence_document(evidence)
    return report_at(frame_of(evidence, organization=HOSPITAL), document, base=BASE), document


def lit_phrases(evidence: Evidence) -> list[Any]:
    return [grounded for grounded in evidence.phrases if grounded.lit]


def marked(element: etree._Element) -> list[etree._Element]:
    return [node for node in element.iter() if SPAN in (node.get("class") or "").split()]


def words(element: etree._Element) -> str:
    return "".join(element.itertext())


@MANY
@given(evidences())
def test_every_span_has_one_link_and_one_region_and_the_text_is_exact(evidence: Evidence) -> None:
    report, document = built(evidence)
    page = rendered(document, base=BASE)
    narrative = etree.fromstring(report["text"]["div"])
    text = html.document_fromstring(page.decode()).find_class("text")[0]
    selections = selections_of(document, about_of(report))

    spans, anchors = marked(narrative), marked(text)
    targets = [span.get("id") for span in spans]
    assert words(narrative) == printable(evidence.report.text)
    assert words(text) == printable(evidence.report.text)
    assert len(spans) == len(set(targets)) == len(lit_phrases(evidence))
    assert sorted(targets) == sorted(anchor.get("id") for anchor in anchors)
    assert len({anchor.get("href") for anchor in anchors}) == len(anchors)
    named = [f"ImagingSelection/{selection['id']}" for selection in selections]
    assert all(named.count(target) == 1 for target in targets)
    linked = [link["extension"] for link in report["text"].get("extension", ())]
    assert {part[0]["valueString"] for part in linked} == set(targets)
    assert sorted(data["valueUri"] for part in linked for data in part[1:]) == sorted(
        f"{BASE}/fhir/{name}" for name in named
    )


@MANY
@given(evidences())
def test_a_span_holds_its_phrase_to_the_character_unless_an_earlier_phrase_ends_inside(evidence: Evidence) -> None:
    report, _ = built(evidence)
    spans = {span.get("id"): span for span in marked(etree.fromstring(report["text"]["div"]))}
    links = report["text"].get("extension", ())
    ids = dict.fromkeys(link["extension"][0]["valueString"] for link in links)  # a phrase on two images has two
    places = [(each.phrase.start, each.phrase.end) for each in lit_phrases(evidence)]

    for grounded, name, (start, end) in zip(lit_phrases(evidence), ids, places, strict=True):
        cuts = sorted({other for before, other in places if before < start < other < end})
        pieces = [evidence.report.text[left:right] for left, right in pairwise((start, *cuts, end))]
        whole = next((piece for piece in pieces if piece.strip()), pieces[-1])
        assert words(spans[name]) == printable(whole), grounded.tracking_id


def simple(markup: str) -> str:
    """Spans as ``[0:words]``, links as ``(0:words)``; those without id have a plus sign."""
    for pattern, short in (
        (r'<span class="imr-ref-ImagingSelection" id="ImagingSelection/(\d)">', r"[\1:"),
        (r'<span class="imr-continued">', "[+:"),
        ("</span>", "]"),
        (r'<a class="imr-ref-ImagingSelection(?: wordless)?" id="ImagingSelection/(\d)" href="/\1"[^>]*>', r"(\1:"),
        (r'<a class="imr-continued" href="/(\d)">', r"(+\1:"),
        ("</a>", ")"),
    ):
        markup = re.sub(pattern, short, markup)
    return markup


def link(text: str, part: str, number: int) -> Link:
    """A link over *part* of *text*."""
    start = text.index(part)
    return Link(start, start + len(part), f"ImagingSelection/{number}", f"/{number}", part)


@pytest.mark.parametrize(
    ("text", "parts", "narrative", "page"),
    [
        ("no a b", ["a", "b"], "no [0:a] [1:b]", "no (0:a) (1:b)"),
        ("a b c", ["a b c", "b"], "[0:a [1:b] c]", "(0:a )(1:b)(+0: c)"),
        ("a b c", ["a b", "b c"], "[0:a [1:b]][+: c]", "(0:a )(+0:b)(1: c)"),
        ("a b", ["a b", "a b"], "[0:[1:a b]]", "(0:a b)(1:)"),
        ("ab c", ["ab ", " c"], "[0:ab[+: ]][1:c]", "(0:ab)(+1: )(1:c)"),
        ("a b c", ["a b c", "a", " b c"], "[0:[1:a][2: b c]]", "(1:a)(2: b c)(0:)"),
    ],
)
def test_spans_nest_and_links_do_not(text: str, parts: list[str], narrative: str, page: str) -> None:
    links = tuple(link(text, part, number) for number, part in enumerate(parts))

    assert simple(narrative_markup(text, links)) == narrative
    assert simple(page_markup(text, links)) == page


@MANY
@given(evidences())
def test_size_and_hash_are_those_of_the_page(evidence: Evidence) -> None:
    report, document = built(evidence)
    (form,) = report["presentedForm"]
    page = rendered(document, base=BASE)
    stored = json.loads(store_bundle(evidence, base=BASE, organization=HOSPITAL) or "")["entry"][0]["resource"]
    (inside,) = stored["presentedForm"]

    assert base64.b64decode(inside["data"]) == page
    for each in (form, inside):
        assert each["size"] == len(page)
        assert base64.b64decode(each["hash"]) == hashlib.sha1(page, usedforsecurity=False).digest()


@MANY
@given(evidences())
def test_nothing_of_a_report_becomes_markup(evidence: Evidence) -> None:
    report, document = built(evidence)
    narrative = etree.fromstring(report["text"]["div"])
    text = html.document_fromstring(rendered(document, base=BASE).decode()).find_class("text")[0]

    assert {etree.QName(node).localname for node in narrative.iter()} <= {"div", "span", "br"}
    assert {node.tag for node in text.iter()} <= {"div", "span", "br", "a", "strong"}
    allowed = {"class", "id", "href", "style", "dir", "aria-label"}
    assert {name for root in (narrative, text) for node in root.iter() for name in node.attrib} <= allowed
    assert all(link.startswith(f"{BASE}/studies/") for link in text.xpath("//div[@class='text']//@href"))


@settings(MANY, max_examples=50)
@given(evidences())
def test_every_region_is_a_closed_line_within_its_image(evidence: Evidence) -> None:
    _, document = built(evidence)
    for selection in selections_of(document, about_of(frame_of(evidence))):
        ImagingSelection.model_validate(selection)
        Basic.model_validate(as_basic(selection))
        (instance,) = selection["instance"]
        image = next(each for each in document.images if each.sop_instance_uid == instance["uid"])
        for region in instance["imageRegion2D"]:
            numbers = region["coordinate"]
            assert (region["regionType"], numbers[:2]) == ("polyline", numbers[-2:])
            assert all(0 <= x <= image.columns for x in numbers[::2])
            assert all(0 <= y <= image.rows for y in numbers[1::2])


def test_a_region_names_study_series_and_image_by_bare_uids_and_its_phrase_by_tracking_uid() -> None:
    evidence = make_evidence()
    selection = selections_of(evidence_document(evidence), about_of(frame_of(evidence)))[0]
    image, phrase = evidence.images[0].ref, evidence.phrases[1]

    assert (selection["studyUid"], selection["seriesUid"]) == (
        image.study.study_instance_uid,
        image.series_instance_uid,
    )
    assert selection["instance"][0]["uid"] == image.sop_instance_uid
    assert selection["instance"][0]["sopClass"]["code"] == f"urn:oid:{image.sop_class_uid}"
    assert selection["identifier"] == [{"system": "urn:dicom:uid", "value": f"urn:oid:{phrase.tracking_uid}"}]
    assert selection["instance"][0]["imageRegion2D"][0]["coordinate"][:4] == [44.0, 57.6, 72.0, 57.6]


def test_as_basic_every_element_of_r5_is_a_cross_version_extension() -> None:
    evidence = make_evidence()
    selection = selections_of(evidence_document(evidence), about_of(frame_of(evidence)))[0]

    basic = as_basic(selection)

    root = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."
    found = {each["url"].removeprefix(root): each for each in basic["extension"]}
    assert found["studyUid"]["valueId"] == selection["studyUid"]
    instance = {each["url"]: each for each in found["instance"]["extension"]}
    region = instance["imageRegion2D"]["extension"]
    assert [part["valueDecimal"] for part in region[1:]] == selection["instance"][0]["imageRegion2D"][0]["coordinate"]
    assert basic["code"]["coding"][0]["code"] == "ImagingSelection"
    assert (basic["id"], basic["subject"]) == (selection["id"], selection["subject"])


def test_a_withdrawn_region_shows_nothing() -> None:
    evidence = make_evidence()
    gone = withdrawn_selection(selections_of(evidence_document(evidence), about_of(frame_of(evidence)))[0])

    ImagingSelection.model_validate(gone)
    assert gone["status"] == "entered-in-error"
    assert not {"instance", "text", "subject", "studyUid"} & gone.keys()


def test_a_phrase_on_two_images_has_a_region_on_each_and_its_span_names_the_best() -> None:
    evidence = make_evidence(make_radiograph(), make_radiograph(make_header(number=2)))
    report, document = built(evidence)
    one, other = (each["extension"] for each in report["text"]["extension"][:2])
    selections = selections_of(document, about_of(report))

    assert [part["url"] for part in (*one, *other)] == ["htmlid", "data", "htmlid", "data"]
    assert one[0]["valueString"] == other[0]["valueString"] == f"ImagingSelection/{selections[0]['id']}"
    assert [each[1]["valueUri"] for each in (one, other)] == [
        f"{BASE}/fhir/ImagingSelection/{each['id']}" for each in selections[:2]
    ]
    assert [each["instance"][0]["uid"] for each in selections[:2]] == [
        image.ref.sop_instance_uid for image in evidence.images
    ]


def test_the_report_is_valid_r4_of_our_own_and_an_imr_report() -> None:
    report, _ = built(make_evidence())

    DiagnosticReport.model_validate(report)
    assert is_ours(Element(report))
    assert report["id"] == multimedia_id(make_evidence().study.study_instance_uid, "report-1") != "report-1"
    assert report["meta"]["profile"] == [REPORT_PROFILE]
    assert report["extension"][0]["extension"][1]["valueReference"] == {
        "reference": "DiagnosticReport/report-1/_history/2"
    }


CARRIED = {
    "code": {"text": "Chest, two views"},
    "encounter": {"reference": "Encounter/1", "type": "Encounter"},
    "effectiveDateTime": "2026-03-01T09:00:00Z",
    "performer": [{"reference": "Organization/x", "type": "Organization"}],
    "resultsInterpreter": [{"reference": "Practitioner/1", "type": "Practitioner"}],
}


def test_what_the_radiologists_report_names_is_taken_over() -> None:
    evidence = make_evidence()
    evidence = replace(evidence, report=replace(evidence.report, carried=json.dumps(CARRIED)))

    report, _ = built(evidence)

    assert {name: report[name] for name in CARRIED} == CARRIED


@pytest.mark.parametrize(
    ("carried", "interpreters"),
    [
        ({"performer": [{"display": "Dr. Strahl"}]}, [{"display": "Dr. Strahl"}]),
        ({"performer": [{"reference": "PractitionerRole/1", "type": "PractitionerRole"}]}, "the performer"),
        ({"performer": [{"reference": "CareTeam/1", "type": "CareTeam"}]}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_report_without_interpreter_names_its_performer_or_says_that_it_names_none(
    carried: dict[str, Any], interpreters: Any
) -> None:
    evidence = make_evidence()
    report = frame_of(replace(evidence, report=replace(evidence.report, carried=json.dumps(carried))))

    (found,) = report["resultsInterpreter"]
    if interpreters == "unknown":
        assert found["extension"][0]["valueCode"] == "unknown"
    else:
        assert found == carried["performer"][0]


def test_without_an_organization_or_a_patient_no_imr_profile_is_claimed_and_nothing_is_stored() -> None:
    evidence = make_evidence()
    document = evidence_document(evidence)
    unnamed = report_at(frame_of(evidence), document, base=BASE)
    nobody = replace(
        evidence,
        report=replace(evidence.report, patient=None),
        images=tuple(replace(image, description=replace(image.description, patient=None)) for image in evidence.images),
    )

    assert "profile" not in unnamed["meta"]
    assert store_bundle(evidence, base=BASE, organization=None) is None
    assert store_bundle(nobody, base=BASE, organization=HOSPITAL) is None


@pytest.mark.parametrize("status", ReportStatus)
def test_the_status_is_carried_over_and_only_imrs_own_are_stored(status: ReportStatus) -> None:
    evidence = make_evidence()
    evidence = replace(evidence, report=replace(evidence.report, status=status))

    bundle = store_bundle(evidence, base=BASE, organization=HOSPITAL)

    written = "preliminary" if status is ReportStatus.MODIFIED else status.value
    assert frame_of(evidence)["status"] == written
    stored = {"partial", "preliminary", "final", "amended", "corrected", "appended"}
    assert (bundle is not None) == (written in stored)


def test_the_page_says_that_a_report_is_not_final() -> None:
    evidence = make_evidence()
    preliminary = replace(evidence, report=replace(evidence.report, status=ReportStatus.PRELIMINARY))

    assert "preliminary report" in rendered(evidence_document(preliminary), base=BASE).decode()
    assert "This is a" not in rendered(evidence_document(evidence), base=BASE).decode()


def test_the_bundle_creates_one_report_that_is_there_once() -> None:
    text = store_bundle(make_evidence(), base=BASE, organization=HOSPITAL)
    bundle = json.loads(text or "")
    (entry,) = bundle["entry"]

    assert text == store_bundle(make_evidence(), base=BASE, organization=HOSPITAL)
    assert (bundle["type"], bundle["meta"]["profile"]) == ("transaction", [BUNDLE_PROFILE])
    assert (entry["request"]["method"], entry["request"]["url"]) == ("POST", "DiagnosticReport")
    key, version = (each["value"] for each in entry["resource"]["identifier"])
    assert entry["request"]["ifNoneExist"].endswith(f"|{version}")
    assert key == multimedia_id(make_evidence().study.study_instance_uid, "report-1")
    assert not {"id", "contained"} & entry["resource"].keys()


def test_another_version_of_the_report_is_another_version_of_ours_under_the_same_key() -> None:
    evidence = make_evidence()
    amended = replace(evidence, report=replace(evidence.report, status=ReportStatus.AMENDED))
    bundles = [store_bundle(each, base=BASE, organization=HOSPITAL) for each in (evidence, amended)]

    (key, first), (same, second) = (
        [each["value"] for each in json.loads(bundle or "")["entry"][0]["resource"]["identifier"]] for bundle in bundles
    )
    assert key == same
    assert first != second
    assert frame_of(evidence)["meta"]["versionId"] != frame_of(amended)["meta"]["versionId"]


def test_on_r5_the_study_the_repeated_report_and_the_size_have_r5s_form() -> None:
    bundle = json.loads(store_bundle(make_evidence(), base=BASE, organization=HOSPITAL, r5=True) or "")
    report = bundle["entry"][0]["resource"]

    assert "imagingStudy" not in report
    assert report["study"][0]["identifier"]["system"] == "urn:dicom:uid"
    assert report["supportingInfo"][0]["reference"] == {"reference": "DiagnosticReport/report-1/_history/2"}
    assert report["presentedForm"][0]["size"].isdecimal()


@pytest.mark.parametrize(
    ("orders", "numbers", "expected"),
    [
        (("o",), ("A",), [("ServiceRequest/o", "A")]),
        (("o", "p"), ("A",), [("ServiceRequest/o", None), ("ServiceRequest/p", None)]),
        ((), ("A", "B"), [(None, "A"), (None, "B")]),
        (("o",), (), [("ServiceRequest/o", "ACC-7")]),
    ],
)
def test_orders_and_accession_numbers_are_joined_only_when_it_is_clear(
    orders: tuple[str, ...], numbers: tuple[str, ...], expected: list[tuple[str | None, str | None]]
) -> None:
    evidence = make_evidence()
    report = replace(evidence.report, service_request_ids=orders, accession_numbers=numbers)

    based_on = frame_of(replace(evidence, report=report))["basedOn"]

    assert [(each.get("reference"), each.get("identifier", {}).get("value")) for each in based_on] == expected


def test_the_patient_has_id_and_identifier_where_both_are_known() -> None:
    evidence = make_evidence()
    report = replace(evidence.report, subject_id="p", patient=PatientRef("MRN-1", "urn:oid:1.2.3"))

    assert frame_of(replace(evidence, report=report))["subject"] == {
        "reference": "Patient/p",
        "identifier": {"system": "urn:oid:1.2.3", "value": "MRN-1"},
    }
