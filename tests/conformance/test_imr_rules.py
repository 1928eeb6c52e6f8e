"""The multimedia report against IHE RAD IMR 1.1.0, R4, R5 and our profiles; and the checker against seeded faults."""

import base64
import hashlib
import json
import re
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from evidence import make_evidence, make_header, make_radiograph
from fhir_check import checker

from plugin.fhir.multimedia import Organization, about_of, frame_of, rendered, report_at, store_bundle
from plugin.fhir.selections import as_basic, selections_of, withdrawn_selection
from plugin.page.document import evidence_document
from plugin.values import ReportStatus

BASE = "https://sightline.example"
HOSPITAL = Organization("St. Elsewhere", "http://example.org/organizations", "17")


def with_report(**changes):
    evidence = make_evidence()
    return replace(evidence, report=replace(evidence.report, **changes))


EVIDENCE = {
    "every fate of a phrase": make_evidence(),
    "two images": make_evidence(make_radiograph(), make_radiograph(make_header(number=2))),
    "everything known by id": with_report(subject_id="p", service_request_ids=("o",), imaging_study_ids=("s",)),
    "amended": with_report(status=ReportStatus.AMENDED),
    "no phrase": replace(make_evidence(), phrases=()),
}


@dataclass
class Written:
    """A multimedia report as our endpoint has it, its regions, its page, and the Bundle that stores it."""

    report: dict[str, Any]
    selections: list[dict[str, Any]]
    page: bytes
    bundle: dict[str, Any]

    def faults(self):
        pages = {form.get("url"): self.page for form in self.report.get("presentedForm", ())}
        return [
            *checker().multimedia(self.report, selections=self.selections, pages=pages),
            *checker().multimedia(self.bundle, selections=self.selections),
        ]


@cache
def _written(name, *, r5=False):
    evidence = EVIDENCE[name]
    document = evidence_document(evidence)
    report = report_at(frame_of(evidence, organization=HOSPITAL), document, base=BASE)
    bundle = json.loads(store_bundle(evidence, base=BASE, organization=HOSPITAL, r5=r5))
    selections = json.loads(json.dumps(selections_of(document, about_of(report))))
    return Written(json.loads(json.dumps(report)), selections, rendered(document, base=BASE), bundle)


def written(name, **changes):
    """Of one EVIDENCE, since tests spoil what they get."""
    return deepcopy(_written(name, **changes))


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_multimedia_report_holds_to_imr_and_to_our_profiles(name):
    assert written(name).faults() == []


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_multimedia_report_for_an_r5_server_is_valid_r5(name):
    example = written(name, r5=True)

    assert checker("R5").multimedia(example.bundle, selections=example.selections) == []


@pytest.mark.parametrize("name", EVIDENCE)
def test_regions_are_valid_in_r5_and_as_basic_in_r4_and_when_withdrawn(name):
    for selection in written(name).selections:
        gone = withdrawn_selection(selection)

        assert checker("R5").written(selection) == checker("R5").written(gone) == []
        assert checker().written(as_basic(selection)) == checker().written(as_basic(gone)) == []


# Seeded faults: what is done to what is written, and what the checker has to say


def put(**fields):
    return lambda example: example.report.update(fields)


def drop(name):
    return lambda example: example.report.pop(name)


def form(**fields):
    return lambda example: example.report["presentedForm"][0].update(fields)


def text(pattern, replacement, count=1):
    def spoil(example):
        narrative = example.report["text"]
        narrative["div"], found = re.subn(pattern, replacement, narrative["div"], count=count)
        assert found

    return spoil


def page(pattern, replacement, count=1):
    """Spoil the page, with size and hash made anew, so that only the page's content is at fault."""

    def spoil(example):
        data = example.bundle["entry"][0]["resource"]["presentedForm"][0]
        content, found = re.subn(pattern, replacement, base64.b64decode(data["data"]), count=count)
        assert found
        digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
        data |= {"data": base64.b64encode(content).decode(), "size": len(content), "hash": digest}

    return spoil


def stored(spoil):
    """Spoil the report in the Bundle."""
    return lambda example: spoil(example.bundle["entry"][0]["resource"])


FAULTS = {
    "two reports in the bundle": (lambda e: e.bundle["entry"].append(e.bundle["entry"][0]), "2:4.141.4.1.2.1]"),
    "no report in the bundle": (lambda e: e.bundle.pop("entry"), "0 DiagnosticReports"),
    "bundle that does not name its profile": (lambda e: e.bundle["meta"].update(profile=["urn:x"]), "does not name"),
    "batch instead of a transaction": (lambda e: e.bundle.update(type="batch"), "is no transaction"),
    "report that is updated": (
        lambda e: e.bundle["entry"][0]["request"].update(method="PUT", url="DiagnosticReport/x"),
        "the report is created, by POST",
    ),
    "patient in the bundle": (
        lambda e: e.bundle["entry"].append(
            {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}
        ),
        "none of report, order, study",
    ),
    "report created elsewhere": (
        lambda e: e.bundle["entry"][0]["request"].update(url="Observation"),
        "is not where DiagnosticReport is created",
    ),
    "contained resource": (
        put(contained=[{"resourceType": "Organization", "id": "o", "name": "x"}]),
        "contained resources are not used",
    ),
    "contained resource in the bundle": (
        stored(lambda r: r.update(contained=[{"resourceType": "Organization", "id": "o", "name": "x"}])),
        "contained resources are not used",
    ),
    "not issued": (drop("issued"), "issued: 0 given"),
    "no patient": (drop("subject"), "subject: 0 given"),
    "a group as patient": (put(subject={"reference": "Group/1"}), "allowed are Patient"),
    "no performer": (drop("performer"), "no Organization answers"),
    "performed by people only": (put(performer=[{"reference": "Practitioner/1"}]), "performer:organization: 0 given"),
    "no interpreter": (drop("resultsInterpreter"), "resultsInterpreter: 0 given"),
    "an organization as interpreter": (
        put(resultsInterpreter=[{"reference": "Organization/1"}]),
        "allowed are Practitioner, PractitionerRole",
    ),
    "no study": (drop("imagingStudy"), "imagingStudy: 0 given"),
    "study without its UID": (put(imagingStudy=[{"reference": "ImagingStudy/1"}]), "sl-52:"),
    "status that IMR has not": (put(status="registered"), "MultimediaReportStatus"),
    "a conclusion of our own": (put(conclusion="All is well."), "conclusion: 1 given"),
    "report that we would not know again": (lambda e: e.report["meta"].pop("tag"), "meta.tag: 0 given"),
    "no text": (drop("text"), "text: 0 given"),
    "text said to be generated": (lambda e: e.report["text"].update(status="generated"), "the fixed value"),
    "no rendered report": (drop("presentedForm"), "none is text/html"),
    "rendered as PDF only": (form(contentType="application/pdf"), "none is text/html"),
    "rendered report without type": (
        lambda e: e.report["presentedForm"][0].pop("contentType"),
        "contentType: 0 given",
    ),
    "rendered report without size": (lambda e: e.report["presentedForm"][0].pop("size"), "size: 0 given"),
    "rendered report without hash": (lambda e: e.report["presentedForm"][0].pop("hash"), "hash: 0 given"),
    "rendered report nowhere": (lambda e: e.report["presentedForm"][0].pop("url"), "sl-50:"),
    "size of another page": (form(size=1), "is not the content's"),
    "hash of another page": (form(hash="AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "not the content's SHA-1"),
    "hash in hexadecimal, as IHE's example has it": (form(hash="4ED94777DD88C61F3A4D2C50DE6D92E8E53EE5CA"), "sl-51:"),
    "page changed after its hash": (lambda e: setattr(e, "page", e.page + b" "), "not the content's SHA-1"),
    "page that is not base64": (stored(lambda r: r["presentedForm"][0].update(data="%%%")), "base64Binary"),
    "span without id": (text(r' id="ImagingSelection/[^"]+"', ""), "no reference to an ImagingSelection"),
    "span of another kind": (text(r'id="ImagingSelection/', 'id="Observation/'), "no reference to an ImagingSelection"),
    "span of a class that is not IMR's": (text("imr-ref-ImagingSelection", "imr-ref-Selection"), "is no span of class"),
    "two spans of one id": (
        text(r'(<span class="imr-ref-ImagingSelection" id="[^"]+">)', r"\1\1x</span>"),
        "2 spans have this id",
    ),
    "span of a region that is not there": (lambda e: e.selections.pop(0), "0 such ImagingSelections"),
    "span of two regions": (lambda e: e.selections.append(e.selections[0]), "2 such ImagingSelections"),
    "region without an outline": (
        lambda e: e.selections[0]["instance"][0].pop("imageRegion2D"),
        "its ImagingSelection has no region",
    ),
    "span around nothing": (
        text(r'(<span class="imr-ref-ImagingSelection" id="[^"]+">).*?</span>', r"\1</span>"),
        "encloses no text",
    ),
    "script in the text": (text("</div>", "<script>alert(1)</script></div>"), "txt-1"),
    "span without its link": (page(rb'<a class="imr-ref-[^>]+>(.*?)</a>', rb"\1"), "0 links"),
    "span with two links": (page(rb'(<a class="imr-ref-[^>]+>).*?</a>', rb"\1x</a>\1x</a>"), "2 links"),
    "link that no span is": (text(r'<span class="imr-ref-[^>]+>(.*?)</span>', r"\1"), "a link that no span"),
    "link that runs a script": (page(rb'href="[^"]+"', b'href="javascript:alert(1)"'), "opens no page"),
    "link to nowhere": (page(rb' href="[^"]+"', b""), "opens no page"),
    "link to a DICOM object": (
        page(rb'href="[^"]+"', b'href="https://x.example/wado/studies/1.2/series/1.3/instances/1.4"'),
        "gives a DICOM object",
    ),
    "script in the page": (page(rb"</body>", b"<script>alert(1)</script></body>"), "runs or fetches"),
    "handler in the page": (page(rb"<body>", b'<body onload="alert(1)">'), "runs or fetches"),
    "textLink to two regions": (
        lambda e: e.report["text"]["extension"][0]["extension"].append({"url": "data", "valueUri": "urn:x"}),
        "textLink has 1..1 data",
    ),
    "textLink from nowhere": (
        lambda e: e.report["text"]["extension"][0]["extension"].pop(0),
        "textLink has 1..* htmlid",
    ),
    "region about no patient": (
        lambda e: e.selections[0].update(subject={"reference": "Device/1"}),
        "allowed are Patient",
    ),
    "region in no study": (lambda e: e.selections[0].pop("studyUid"), "sl-60:"),
    "withdrawn region that shows something": (lambda e: e.selections[0].update(status="entered-in-error"), "sl-61:"),
    "outline that is not closed": (
        lambda e: e.selections[0]["instance"][0]["imageRegion2D"][0]["coordinate"].pop(),
        "sl-62:",
    ),
    "study by URN instead of bare UID": (lambda e: e.selections[0].update(studyUid="urn:oid:1.2"), "sl-63:"),
    "region that is a circle": (
        lambda e: e.selections[0]["instance"][0]["imageRegion2D"][0].update(regionType="circle"),
        "the fixed value",
    ),
    "region that is a polygon, which R5 has not": (
        lambda e: e.selections[0]["instance"][0]["imageRegion2D"][0].update(regionType="polygon"),
        "2dgraphictype",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_finds_faults_against_imr(fault):
    spoil, says = FAULTS[fault]
    example = written("every fate of a phrase")
    spoil(example)

    assert any(says in line for line in example.faults()), example.faults()


def test_what_imr_asks_for_is_told_with_its_clause():
    example = written("every fate of a phrase")
    example.report.pop("issued")
    example.report["presentedForm"][0]["size"] = 1

    told = "\n".join(example.faults())

    assert "[SightlineMultimediaReport: IMR 1.1.0, StructureDefinition imr-diagnosticreport: 1..1]" in told
    assert "[IMR 1.1.0, RAD-141, 2:4.141.4.1.2.2.3]" in told
