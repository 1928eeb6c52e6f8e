"""Every FHIR resource that Sightline writes, against HL7's definitions and our profiles; the checker against faults."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest
from evidence import make_evidence, make_header, make_radiograph
from fhir.resources.R4B.bundle import Bundle
from fhir_check import checker as checker_of
from fhir_check import unresolved
from fhir_input import bundle as input_bundle

from plugin.dicom.seg import segmentations
from plugin.dicom.sr import report
from plugin.fhir.capability import Release
from plugin.fhir.life import withdrawal
from plugin.fhir.writing import bundle_of
from plugin.values import ReportRef


@pytest.fixture(scope="module")
def checker():
    return checker_of()


def with_report(**changes):
    evidence = make_evidence()
    return replace(evidence, report=replace(evidence.report, **changes))


def some(*texts):
    """Evidence with these phrases only, so that it is checked fast."""
    evidence = make_evidence()
    return replace(evidence, phrases=tuple(each for each in evidence.phrases if each.phrase.text in texts))


EVIDENCE = {
    "one phrase of a kind": some(
        "Moderate left pleural effusion, increased", "Possible right apical pneumothorax", "fracture"
    ),
    "every fate of a phrase": make_evidence(),
    "two images": make_evidence(make_radiograph(), make_radiograph(make_header(number=2))),
    "everything known by id": with_report(subject_id="p", service_request_ids=("o",), imaging_study_ids=("s",)),
    "bare text": with_report(ref=ReportRef("urn:uuid:1", "sha256:00"), patient=None, study_instance_uids=()),
    "no phrase": replace(make_evidence(), phrases=()),
}


@cache
def written(name, release=Release.R4):
    """The bundle of one EVIDENCE as JSON text, since tests spoil what they get."""
    evidence = EVIDENCE[name]
    segs = segmentations(evidence)
    sr = report(evidence, segs)
    page = None if name == "two images" else b"<html>"
    url = "https://sightline.example/studies/1"
    return bundle_of(evidence, page_url=url, instances=(*segs, *([sr] if sr else [])), page=page, release=release)


@pytest.mark.parametrize("name", EVIDENCE)
def test_what_is_written_is_valid_r4_by_our_profiles(checker, name):
    assert checker.written(json.loads(written(name))) == []


@pytest.mark.parametrize("name", EVIDENCE)
def test_what_is_written_for_a_server_of_r5_is_valid_r5_by_our_profiles(name):
    assert checker_of("R5").written(json.loads(written(name, Release.R5))) == []


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("name", ["one phrase of a kind", "bare text"])
def test_what_takes_results_back_is_valid(name, release):
    evidence = EVIDENCE[name]
    kinds = ("Observation", "DocumentReference", "ImagingSelection")
    there = [each for each in resources(json.loads(written(name, release))) if each["resourceType"] in kinds]
    made = {"by": evidence.provenance, "now": datetime(2026, 4, 1, tzinfo=UTC), "release": release}

    bundle = json.loads(withdrawal(evidence.study, evidence.report.ref.report_id, there, **made))

    assert checker_of(release.value).written(bundle) == []
    assert len(resources(bundle)) == len(there) + 3


def resources(bundle):
    return [entry["resource"] for entry in bundle["entry"]]


@pytest.mark.parametrize("name", EVIDENCE)
def test_what_is_written_reads_back_equal_through_the_typed_classes(name):
    bundle = json.loads(written(name))

    again = json.loads(Bundle.model_validate(bundle).model_dump_json())

    times = ("issued", "recorded", "date")
    assert _without(again, times) == _without(bundle, times)


def test_only_what_others_own_is_referred_to_outside_the_bundle():
    outside = {each.partition("/")[0] for each in unresolved(json.loads(written("everything known by id")))}

    assert outside == {"DiagnosticReport", "Patient", "ServiceRequest", "ImagingStudy"}


def test_the_checker_accepts_every_space_that_a_string_may_hold(checker):
    bundle = json.loads(written("one phrase of a kind"))
    spaces = "5\u00a0mm\u2009\u2028\u3000\t\r\n"
    first(bundle, "Observation")["valueCodeableConcept"]["text"] = spaces

    assert checker.written(bundle) == []


def test_the_checker_accepts_input_of_other_resource_types(checker):
    assert checker.check(input_bundle()) == []


def _without(part, names):
    if isinstance(part, dict):
        return {name: _without(value, names) for name, value in part.items() if name not in names}
    return [_without(each, names) for each in part] if isinstance(part, list) else part


# Seeded faults: (type of the resource, what is done to it, what the checker has to say)

R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."


def put(**fields):
    return lambda resource: resource.update(fields)


def drop(*names):
    return lambda resource: [resource.pop(name) for name in names]


def component(index, **fields):
    return lambda resource: resource["component"][index].update(fields)


def div(markup):
    return put(text={"status": "generated", "div": markup})


XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">'
FAULTS = {
    "unknown element": ("Observation", put(colour="red"), "colour: no such element"),
    "unknown element inside": ("Observation", component(0, colour="red"), "colour: no such element"),
    "missing status": ("Observation", drop("status"), "status: 0 given"),
    "missing code": ("Observation", drop("code"), "code: 0 given"),
    "missing code inside": ("Observation", lambda r: r["component"][1].pop("code"), "code: 0 given"),
    "status of another resource": ("Observation", put(status="active"), "required value set"),
    "status in capitals": ("Observation", put(status="Final"), "required value set"),
    "list instead of one": ("Observation", put(status=["final"]), "no array is needed"),
    "one instead of a list": ("Observation", lambda r: r.update(category=r["category"][0]), "an array is needed"),
    "two values": ("Observation", put(valueString="x"), "more than one type of a choice"),
    "a type the choice has not": ("Observation", put(valueUri="x"), "valueUri: no such element"),
    "value and absent reason": ("Observation", put(dataAbsentReason={"text": "x"}), "obs-6"),
    "value repeated as component": ("Observation", lambda r: component(0, code=r["code"])(r), "obs-7"),
    "number as text": ("Observation", component(1, valueInteger="42"), "not a JSON value for integer"),
    "true as number": ("Observation", component(1, valueInteger=True), "not a JSON value for integer"),
    "object as text": ("Observation", put(subject="Patient/p"), "an object is needed"),
    "instant without zone": ("Observation", put(issued="2026-03-01T12:00:00"), "form of instant"),
    "date that is none": ("Observation", put(issued="2026-13-01T12:00:00Z"), "form of instant"),
    "id with a slash": ("Observation", put(id="a/b"), "form of id"),
    "id too long": ("Observation", put(id="a" * 65), "form of id"),
    "empty text": ("Observation", put(valueCodeableConcept={"text": ""}), "text: "),
    "control character": ("Observation", put(valueCodeableConcept={"text": "a\x0bb"}), "control characters"),
    "empty object": ("Observation", put(valueCodeableConcept={}), "ele-1"),
    "quantity code without system": ("Observation", component(0, valueQuantity={"code": "%"}), "qty-3"),
    "subject that is no subject": ("Observation", put(subject={"reference": "Medication/1"}), "allowed are"),
    "logical subject of the wrong type": (
        "Observation",
        put(subject={"type": "Medication", "identifier": {"value": "1"}}),
        "allowed are",
    ),
    "partOf an order": ("Observation", put(partOf=[{"reference": "ServiceRequest/1"}]), "allowed are"),
    "reference to an unknown type": ("Observation", put(focus=[{"reference": "Banana/1"}]), "unknown type"),
    "reference that is none": ("Observation", put(focus=[{"reference": "the report"}]), "not a literal reference"),
    "empty reference": ("Observation", put(focus=[{"type": "DiagnosticReport"}]), "reference to nothing"),
    "contained that is not": ("Observation", put(focus=[{"reference": "#x"}]), "ref-1"),
    "extension with both": (
        "Observation",
        put(extension=[{"url": R5 + "x", "valueId": "1", "extension": [{"url": "y", "valueId": "1"}]}]),
        "ext-1",
    ),
    "extension with neither": ("Observation", put(extension=[{"url": R5 + "x"}]), "ext-1"),
    "extension without url": ("Observation", put(extension=[{"valueId": "1"}]), "url: 0 given"),
    "script in the narrative": ("Observation", div(f"{XHTML}<script>x</script></div>"), "txt-1"),
    "event handler in the narrative": ("Observation", div(f'{XHTML}<p onclick="x">y</p></div>'), "txt-1"),
    "script as a link": ("Observation", div(f'{XHTML}<a href="javascript:x">y</a></div>'), "txt-1"),
    "script as a link in disguise": (
        "Observation",
        div(f'{XHTML}<a href="&#9;Java&#10;Script:x">y</a></div>'),
        "txt-1",
    ),
    "page within a link": ("Observation", div(f'{XHTML}<a href="data:text/html,x">y</a></div>'), "txt-1"),
    "script of another kind": ("Observation", div(f'{XHTML}<a href="vbscript:x">y</a></div>'), "txt-1"),
    "style that fetches": ("Observation", div(f'{XHTML}<p style="background:url(//x)">y</p></div>'), "txt-1"),
    "form in the narrative": ("Observation", div(f'{XHTML}<form action="x">y</form></div>'), "txt-1"),
    "frame in the narrative": ("Observation", div(f'{XHTML}<iframe src="x"/>y</div>'), "txt-1"),
    "drawing in the narrative": (
        "Observation",
        div(f'{XHTML}<svg xmlns="http://www.w3.org/2000/svg"><a href="x">y</a></svg></div>'),
        "txt-1",
    ),
    "entities in the narrative": (
        "Observation",
        div(f'<!DOCTYPE div [<!ENTITY x "y">]>{XHTML}&x;</div>'),
        "txt-1",
    ),
    "narrative without namespace": ("Observation", div("<div>x</div>"), "txt-1"),
    "narrative that is not well-formed": ("Observation", div(f"{XHTML}<p>x</div>"), "txt-1"),
    "narrative with nothing to read": ("Observation", div(f"{XHTML}<p> </p></div>"), "txt-2"),
    "narrative without status": ("Observation", put(text={"div": f"{XHTML}x</div>"}), "status: 0 given"),
    "narrative status": ("Observation", lambda r: r["text"].update(status="made"), "required value set"),
    "device name type": ("Device", put(deviceName=[{"name": "x", "type": "nick-name"}]), "required value set"),
    "document without content": ("DocumentReference", drop("content"), "content: 0 given"),
    "document with empty content": ("DocumentReference", put(content=[]), "content: 0 given"),
    "document status": ("DocumentReference", put(status="preliminary"), "required value set"),
    "author that cannot be": ("DocumentReference", put(author=[{"reference": "Location/1"}]), "allowed are"),
    "data without type": (
        "DocumentReference",
        put(content=[{"attachment": {"data": "eA=="}}]),
        "att-1",
    ),
    "negative size": (
        "DocumentReference",
        put(content=[{"attachment": {"contentType": "text/html", "size": -1}}]),
        "form of unsignedInt",
    ),
    "provenance without agent": ("Provenance", drop("agent"), "agent: 0 given"),
    "provenance role": ("Provenance", lambda r: r["entity"][0].update(role="cause"), "required value set"),
    "provenance without target": ("Provenance", drop("target"), "target: 0 given"),
}


def first(bundle, kind, wanted=lambda resource: True):
    return next(
        each["resource"]
        for each in bundle["entry"]
        if each["resource"]["resourceType"] == kind and wanted(each["resource"])
    )


def code_of(component):
    return component["code"]["coding"][0]["code"]


def of(resource, code):
    """The first component with *code*."""
    return next(each for each in resource["component"] if code_of(each) == code)


def claims(code):
    return lambda resource: resource["interpretation"][0]["coding"][0]["code"] == code


def lit(resource):
    return any(code_of(each) == REGION and "extension" in each for each in resource["component"])


def unlit(resource):
    return any("dataAbsentReason" in each for each in resource["component"])


def phrase(spoil, wanted=lambda resource: True):
    """Spoil the first phrase that is *wanted*."""
    return lambda bundle: spoil(first(bundle, "Observation", wanted))


def region(spoil):
    """Spoil the parts of a region's one instance: uid, sopClass, imageRegion2D."""
    return phrase(lambda r: spoil(of(r, REGION)["extension"][2]["extension"]), lit)


def outline(spoil):
    """Spoil a region's regionType and coordinates."""
    return region(lambda parts: spoil(parts[2]["extension"]))


def of_kind(kind, spoil):
    return lambda bundle: spoil(first(bundle, kind))


def attachment(number, **fields):
    return of_kind("DocumentReference", lambda r: r["content"][number]["attachment"].update(fields))


def entry(number, **fields):
    return lambda bundle: bundle["entry"][number].update(fields)


def names_report(entity):
    return entity["what"].get("reference", "").startswith("DiagnosticReport/")


REGION, SEGMENT, CERTAINTY = "111030", "121191", "111012"
UNKNOWN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}]}
SNOMED = {"system": "http://snomed.info/sct", "code": "404684003"}
REPORT = {"resourceType": "DiagnosticReport", "id": "a", "status": "final", "code": {"text": "x"}}
# What our own profiles and rules forbid, and HL7's definitions alone do not: (what is done, what the checker says)
OWN_FAULTS = {
    "denied phrase with a region": (
        lambda b: first(b, "Observation", claims("NEG"))["component"].append(of(first(b, "Observation", lit), REGION)),
        "sl-1:",
    ),
    "denied phrase with a segment": (
        lambda b: first(b, "Observation", claims("NEG"))["component"].append(of(first(b, "Observation", lit), SEGMENT)),
        "sl-1:",
    ),
    "asserted phrase without region or reason": (
        phrase(lambda r: r.update(component=[c for c in r["component"] if code_of(c) != REGION]), unlit),
        "sl-2:",
    ),
    "region with a place and a reason for none": (
        phrase(lambda r: of(r, REGION).update(dataAbsentReason=UNKNOWN), lit),
        "sl-3:",
    ),
    "region without words for it": (phrase(lambda r: of(r, REGION).pop("valueString"), lit), "sl-3:"),
    "no region, said twice": (phrase(lambda r: r["component"].append(of(r, REGION)), unlit), "sl-4:"),
    "reason that is not ours": (
        phrase(lambda r: of(r, REGION)["dataAbsentReason"]["coding"][0].update(code="masked"), unlit),
        "NoRegionReason",
    ),
    "phrase that ends before it starts": (phrase(lambda r: of(r, "phrase-end").update(valueInteger=0)), "sl-5:"),
    "phrase before the text": (phrase(lambda r: of(r, "phrase-start").update(valueInteger=-1)), "sl-5:"),
    "phrase without an end": (
        phrase(lambda r: r.update(component=[c for c in r["component"] if code_of(c) != "phrase-end"])),
        "component:end: 0 given",
    ),
    "certainty over 100 %": (phrase(lambda r: of(r, CERTAINTY)["valueQuantity"].update(value=100.1), lit), "sl-6:"),
    "certainty without unit": (phrase(lambda r: of(r, CERTAINTY)["valueQuantity"].pop("code"), lit), "the pattern"),
    "certainty as text": (
        phrase(lambda r: of(r, CERTAINTY).update(valueString=str(of(r, CERTAINTY).pop("valueQuantity"))), lit),
        "only valueQuantity",
    ),
    "possible finding that is coded": (
        phrase(lambda r: r["valueCodeableConcept"].update(coding=[SNOMED]), claims("IND")),
        "sl-7:",
    ),
    "denied finding coded as present": (
        phrase(lambda r: r["valueCodeableConcept"].update(coding=[SNOMED]), claims("NEG")),
        "sl-8:",
    ),
    "asserted finding coded as absent": (
        phrase(lambda r: r["valueCodeableConcept"]["coding"][0].update(code="373572006"), claims("POS")),
        "sl-8:",
    ),
    "outline that is not closed": (outline(lambda parts: [parts.pop() for _ in "xy"]), "sl-9:"),
    "half a point": (outline(lambda parts: parts.pop()), "sl-9:"),
    "point outside the image": (outline(lambda parts: parts[3].update(valueDecimal=-0.5)), "sl-9:"),
    "outline of two points": (outline(lambda parts: parts.__delitem__(slice(7, None))), "sl-9:"),
    "circle": (outline(lambda parts: parts[0].update(valueCode="circle")), "sl-9:"),
    "polygon, which R5 has not": (outline(lambda parts: parts[0].update(valueCode="polygon")), "2dgraphictype"),
    "coordinates as text": (outline(lambda parts: parts.append({"url": "coordinate", "valueString": "1"})), "decimal"),
    "study UID as URN": (
        phrase(lambda r: of(r, REGION)["extension"][0].update(valueId="urn:oid:1.2.3"), lit),
        "sl-10:",
    ),
    "instance UID that is none": (region(lambda parts: parts[0].update(valueId="picture-1")), "sl-10:"),
    "region without instance UID": (region(lambda parts: parts.pop(0)), "ImagingSelection.instance.uid: 0 given"),
    "two outlines in one region": (region(lambda parts: parts.append(parts[2])), "sl-11:"),
    "misspelt part of a later release": (region(lambda parts: parts[2].update(url="region2D")), "R5 has no element"),
    "segment that its subset is not": (phrase(lambda r: of(r, SEGMENT).update(valueInteger=77), lit), "sl-12:"),
    "tracking UID without URN": (phrase(lambda r: r["identifier"][0].update(value="1.2.3")), "sl-13:"),
    "no tracking UID": (phrase(lambda r: r.pop("identifier")), "identifier:tracking: 0 given"),
    "component that is not ours": (
        phrase(lambda r: r["component"].append({"code": {"text": "x"}, "valueInteger": 1})),
        "none of certainty, start, end, region, segment",
    ),
    "code that our system has not": (
        phrase(lambda r: of(r, "phrase-start")["code"]["coding"][0].update(code="phrase-begin")),
        "no code of ours",
    ),
    "code that HL7's system has not": (
        phrase(lambda r: r["category"][0]["coding"].append(r["category"][0]["coding"][0] | {"code": "pictures"})),
        "has no code pictures",
    ),
    "observation that is no finding": (phrase(lambda r: r["code"]["coding"][0].update(code="121072")), "the pattern"),
    "observation without study": (phrase(lambda r: r.pop("partOf")), "partOf: 0 given"),
    "observation of no report": (phrase(lambda r: r.pop("focus")), "focus: 0 given"),
    "status that a phrase cannot have": (phrase(put(status="registered")), "PhraseStatus"),
    "extension that nobody defined": (
        phrase(lambda r: r["subject"].update(extension=[{"url": "http://acme.example/x", "valueId": "1"}])),
        "no definition of http://acme.example/x",
    ),
    "weights without hash": (of_kind("Device", lambda r: r["identifier"][0].update(value="abab")), "sl-20:"),
    "model of another maker": (of_kind("Device", put(manufacturer="Acme")), "not the fixed value"),
    "model without its software": (of_kind("Device", lambda r: r["version"].pop(0)), "version:software: 0 given"),
    "model that belongs to a patient": (of_kind("Device", put(patient={"reference": "Patient/1"})), "at most 0"),
    "entry of two reports": (
        of_kind("DocumentReference", lambda r: r["context"].update(related=r["context"]["related"][:1] * 2)),
        "sl-30:",
    ),
    "object without size": (of_kind("DocumentReference", lambda r: r["content"][1]["attachment"].pop("size")), "sl-31"),
    "object by another address": (attachment(1, url="https://archive.example/1"), "sl-31:"),
    "hash in hexadecimal": (attachment(1, hash="4ED94777DD88C61F3A4D2C50DE6D92E8E53EE5CA"), "sl-32:"),
    "page that is a script": (attachment(0, url="javascript:alert(1)"), "sl-33:"),
    "page within the entry": (attachment(0, data="eA=="), "content[0].attachment.data: 1 given"),
    "entry that holds a PDF": (attachment(0, contentType="application/pdf"), "EntryContent"),
    "entry by a person": (
        of_kind("DocumentReference", put(author=[{"reference": "Practitioner/1"}])),
        "reference to Practitioner, allowed are Device",
    ),
    "provenance without the text's hash": (of_kind("Provenance", lambda r: r["entity"].pop(1)), "sl-40:"),
    "provenance without images": (of_kind("Provenance", lambda r: r.update(entity=r["entity"][:2])), "sl-41:"),
    "provenance by a verifier": (
        of_kind("Provenance", lambda r: r["agent"][0]["type"]["coding"][0].update(code="verifier")),
        "sl-43:",
    ),
    "results by a person": (
        of_kind("Provenance", lambda r: r["agent"][0].update(who={"type": "Practitioner", "display": "A"})),
        "sl-43:",
    ),
    "provenance of a decision alone": (
        of_kind("Provenance", lambda r: r.update(activity={"coding": [{"code": "UPDATE"}]})),
        "sl-71:",
    ),
    "event by a person": (
        of_kind("AuditEvent", lambda r: r["agent"][0].update(who={"reference": "Practitioner/1"})),
        "reference to Practitioner, allowed are Device",
    ),
    "event that quotes a name": (of_kind("AuditEvent", lambda r: r["entity"][1].update(name="Smith")), "name: 1 given"),
    "event that quotes a query": (
        of_kind("AuditEvent", lambda r: r["entity"][1].update(query="eA==")),
        "query: 1 given",
    ),
    "event that failed": (of_kind("AuditEvent", put(outcome="8")), "not the fixed value"),
    "event that names no report": (
        of_kind("AuditEvent", lambda r: r.update(entity=[e for e in r["entity"] if not names_report(e)])),
        "sl-45:",
    ),
    "event that says nothing of what was done": (
        of_kind("AuditEvent", lambda r: r["entity"][-1].pop("lifecycle")),
        "sl-46:",
    ),
    "results without an event": (lambda b: b["entry"].pop(), "entry:event: 0 given"),
    "reference to a device that is not there": (phrase(put(device={"reference": "Device/other"})), "not there"),
    "absolute reference": (phrase(put(subject={"reference": "https://x.example/Patient/1"})), "an absolute reference"),
    "entry to another address": (entry(1, request={"method": "PUT", "url": "Observation/x"}), "not the address"),
    "entry written twice": (lambda b: b["entry"].append(b["entry"][1]), "written twice"),
    "entry that is created anew each time": (entry(1, request={"method": "POST", "url": "Observation"}), "sl-70:"),
    "entry that is patched": (entry(1, request={"method": "PATCH", "url": "Observation/x"}), "WritingMethod"),
    "reference to what is not made along": (phrase(put(device={"reference": "urn:uuid:x"})), "full URL of no entry"),
    "the radiologist's own report": (
        lambda b: b["entry"].append({"resource": REPORT, "request": {"method": "PUT", "url": "DiagnosticReport/a"}}),
        "none of device, phrase, document, provenance",
    ),
}


@pytest.mark.parametrize("fault", OWN_FAULTS)
def test_the_checker_finds_faults_against_our_profiles(checker, fault):
    spoil, says = OWN_FAULTS[fault]
    bundle = json.loads(written("one phrase of a kind"))
    spoil(bundle)

    assert any(says in line for line in checker.written(bundle)), checker.written(bundle)


def derived(resource):
    return "derivedFrom" in resource


# The same for what a server of R5 gets
R5_FAULTS = {
    "lit phrase that is derived from nothing": (phrase(lambda r: r.pop("derivedFrom"), derived), "sl-14:"),
    "denied phrase that is derived from a region": (
        lambda b: first(b, "Observation", claims("NEG")).update(
            derivedFrom=first(b, "Observation", derived)["derivedFrom"]
        ),
        "sl-14:",
    ),
    "unlit phrase that is derived from a region": (
        lambda b: first(b, "Observation", unlit).update(derivedFrom=first(b, "Observation", derived)["derivedFrom"]),
        "sl-14:",
    ),
    "phrase that is derived from a study": (
        phrase(put(derivedFrom=[{"reference": "ImagingStudy/1"}]), derived),
        "reference to ImagingStudy, allowed are ImagingSelection",
    ),
    "reference to a region that is not there": (
        phrase(put(derivedFrom=[{"reference": "ImagingSelection/1"}]), derived),
        "not there",
    ),
    "region that stands in the phrase, too": (
        phrase(lambda r: of(r, REGION).update(extension=[{"url": R5 + "studyUid", "valueId": "1.2"}]), derived),
        "extension: 1 given, at most 0",
    ),
    "region without words for it": (phrase(lambda r: of(r, REGION).pop("valueString"), derived), "sl-3:"),
    "region without an outline": (
        of_kind("ImagingSelection", lambda r: r["instance"][0].pop("imageRegion2D")),
        "imageRegion2D: 0 given",
    ),
    "outline that is not closed": (
        of_kind("ImagingSelection", lambda r: r["instance"][0]["imageRegion2D"][0]["coordinate"].pop()),
        "sl-62:",
    ),
    "size as a number": (attachment(1, size=5), "not a JSON value for integer64"),
    "names as R4 has them": (of_kind("Device", lambda r: r.update(deviceName=r.pop("name"))), "no such element"),
    "entry about two reports": (
        of_kind("DocumentReference", lambda r: r.update(event=r["event"][:1] * 2)),
        "sl-30:",
    ),
    "event as R4 has it": (of_kind("AuditEvent", put(outcome="0")), "an object is needed"),
}


@pytest.mark.parametrize("fault", R5_FAULTS)
def test_the_checker_finds_faults_in_the_form_for_r5(fault):
    spoil, says = R5_FAULTS[fault]
    bundle = json.loads(written("one phrase of a kind", Release.R5))
    spoil(bundle)

    found = checker_of("R5").written(bundle)

    assert any(says in line for line in found), found


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_finds_seeded_faults(checker, fault):
    kind, spoil, says = FAULTS[fault]
    bundle = json.loads(written("every fate of a phrase"))
    (resource, *_) = (e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind)
    spoil(resource)

    assert any(says in line for line in checker.check(resource)), checker.check(resource)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda bundle: bundle["entry"][0].pop("request"), "bdl-3"),
        (put(type="transmission"), "required value set"),
        (lambda bundle: bundle["entry"][0]["request"].update(method="STORE"), "required value set"),
        (lambda bundle: bundle["entry"][0]["resource"].update(resourceType="Banana"), "unknown resourceType"),
        (put(total=3), "bdl-1"),
    ],
)
def test_the_checker_finds_seeded_faults_of_the_bundle(checker, spoil, says):
    bundle = json.loads(written("no phrase"))
    spoil(bundle)

    assert any(says in line for line in checker.check(bundle)), checker.check(bundle)
