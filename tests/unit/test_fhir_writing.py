"""What is written as FHIR, read back as plain JSON."""

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC
from functools import cache

import pytest
from evidence import CARD, CREATED, NON_ASCII, REPORT_TEXT, STUDY, make_evidence, make_header, make_radiograph

from model.values import State
from nlp.phrases import Assertion
from plugin.errors import ConformanceError
from plugin.fhir.capability import Release
from plugin.fhir.parts import content_reference, hash_uri
from plugin.fhir.resource import is_fhir_id
from plugin.fhir.writing import bundle_of, document_id, observation_id
from plugin.identity import sha256_hex
from plugin.values import PatientRef, ReportRef, ReportStatus

DCM = "http://dicom.nema.org/resources/ontology/DCM"
R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."
EFFUSION = "Moderate left pleural effusion, increased"
POSSIBLE = "Possible right apical pneumothorax"


@dataclass(frozen=True)
class Written:
    sop_class_uid: str
    sop_instance_uid: str
    content: bytes
    segments: tuple[str, ...] = ()
    file_name: str = "stand-in.dcm"


def instances(evidence):
    lit = tuple(phrase.tracking_uid for phrase in evidence.phrases if phrase.lit)
    return (
        Written("1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.1", b"seg", lit),
        Written("1.2.840.10008.5.1.4.1.1.88.33", "1.2.3.2", b"sr"),
    )


def write(evidence=None, *, page_url="https://sightline.example/page", page=None, written=None):
    if (evidence, page, written) == (None, None, None) and page_url:
        return usual()
    evidence = evidence or make_evidence()
    written = instances(evidence) if written is None else written
    return json.loads(bundle_of(evidence, page_url=page_url, instances=written, page=page))


@cache
def usual():
    return write(make_evidence())


def resources(bundle, kind):
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def observation(text, evidence=None):
    phrases = (evidence or make_evidence()).phrases
    (uid,) = (each.tracking_uid for each in phrases if each.phrase.text == text)
    (found,) = (each for each in resources(write(evidence), "Observation") if each["id"] == observation_id(uid))
    return found


def components(resource, code):
    return [each for each in resource["component"] if each["code"]["coding"][0]["code"] == code]


def extensions(element, url):
    return [each for each in element.get("extension", ()) if each["url"] == url]


def with_report(**changes):
    evidence = make_evidence()
    return replace(evidence, report=replace(evidence.report, **changes))


def walk(part, path=""):
    yield path, part
    if isinstance(part, dict):
        for name, child in part.items():
            yield from walk(child, f"{path}.{name}")
    elif isinstance(part, list):
        for child in part:
            yield from walk(child, path)


# The bundle


def test_equal_evidence_gives_equal_bytes():
    evidence = make_evidence()

    first, second = (bundle_of(each, page_url="x", instances=instances(each)) for each in (evidence, make_evidence()))

    assert first == second


def test_every_entry_is_a_put_of_its_resource_to_a_derived_id():
    bundle = write()

    assert bundle["type"] == "transaction"
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
        assert is_fhir_id(resource["id"])
    assert len({entry["request"]["url"] for entry in bundle["entry"]}) == len(bundle["entry"])


def test_references_are_relative_or_logical_and_our_own_resolve():
    bundle = write()

    own = {entry["request"]["url"] for entry in bundle["entry"]}
    literal = [value for path, value in walk(bundle) if path.endswith(".reference")]
    assert {value for value in literal if not value.startswith("DiagnosticReport/")} <= own
    assert set(literal) - own == {"DiagnosticReport/report-1/_history/2"}


def test_the_radiologists_report_is_not_written():
    kinds = {entry["resource"]["resourceType"] for entry in write()["entry"]}

    assert kinds == {"Device", "Observation", "DocumentReference", "Provenance", "AuditEvent"}


def test_there_is_one_observation_for_each_phrase_that_claims_something():
    evidence = make_evidence()

    claimed = {
        observation_id(each.tracking_uid)
        for each in evidence.phrases
        if each.phrase.assertion is not Assertion.NOT_REPORTED
    }

    assert {each["id"] for each in resources(write(evidence), "Observation")} == claimed
    assert len(claimed) == len(evidence.phrases) - 1


def test_a_new_model_writes_the_same_observations_from_another_device():
    evidence = make_evidence()
    card = replace(CARD, version="2.0", weights_sha256="cd" * 32)
    again = replace(evidence, provenance=replace(evidence.provenance, model=card))

    one, two = write(evidence), write(again)

    assert [each["id"] for each in resources(one, "Observation")] == [
        each["id"] for each in resources(two, "Observation")
    ]
    for kind in ("Device", "Provenance"):
        assert resources(one, kind)[0]["id"] != resources(two, kind)[0]["id"]


# Observations


def test_an_observation_names_whom_what_and_which_version_it_is_about():
    found = observation(EFFUSION)

    assert found["status"] == "preliminary"
    assert found["category"][0]["coding"][0]["code"] == "imaging"
    assert found["code"]["coding"][0] == {"system": DCM, "code": "121071", "display": "Finding"}
    assert found["subject"] == {"type": "Patient", "identifier": {"value": "TEST-1"}}
    assert found["focus"] == [{"reference": "DiagnosticReport/report-1/_history/2"}]
    uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY.study_instance_uid}"}
    assert found["partOf"] == [{"type": "ImagingStudy", "identifier": uid}]
    assert found["device"]["reference"] == f"Device/{resources(write(), 'Device')[0]['id']}"


def test_ids_that_the_report_gave_become_relative_references():
    study = {"study_instance_uids": (STUDY.study_instance_uid,), "imaging_study_ids": ("study",)}
    found = observation(EFFUSION, with_report(subject_id="pat", service_request_ids=("order",), **study))

    assert found["subject"] == {"reference": "Patient/pat"}
    assert found["basedOn"] == [{"reference": "ServiceRequest/order"}]
    assert found["partOf"] == [{"reference": "ImagingStudy/study"}]


def test_with_several_studies_the_right_one_is_named_by_its_uid():
    found = observation(EFFUSION, with_report(imaging_study_ids=("a", "b")))

    assert found["partOf"][0]["identifier"]["value"] == f"urn:oid:{STUDY.study_instance_uid}"


@pytest.mark.parametrize(
    ("ref", "focus"),
    [
        (ReportRef("r", "sha256:ab"), {"reference": "DiagnosticReport/r"}),
        (
            ReportRef("urn:uuid:1", "sha256:ab"),
            {"type": "DiagnosticReport", "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:1"}},
        ),
    ],
)
def test_only_a_version_that_the_server_knows_is_referred_to(ref, focus):
    assert observation(EFFUSION, with_report(ref=ref))["focus"] == [focus]


@pytest.mark.parametrize(
    ("patient", "subject"),
    [
        (PatientRef("P", "urn:oid:1.2"), {"type": "Patient", "identifier": {"system": "urn:oid:1.2", "value": "P"}}),
        (PatientRef("P", "WARD"), {"type": "Patient", "identifier": {"value": "P"}}),
        (None, {"type": "Patient", "identifier": {"value": "TEST-1"}}),
        (PatientRef(" "), None),
    ],
)
def test_the_subject_is_named_by_identifier_when_its_id_is_unknown(patient, subject):
    assert observation(EFFUSION, with_report(patient=patient)).get("subject") == subject


def test_an_affirmed_finding_is_coded_and_quoted():
    found = observation(EFFUSION)

    assert found["valueCodeableConcept"] == {
        "coding": [{"system": "http://snomed.info/sct", "code": "60046008", "display": "Pleural effusion"}],
        "text": EFFUSION,
    }
    assert found["interpretation"][0]["coding"][0]["code"] == "POS"
    assert found["bodySite"] == {"text": "left"}


def test_an_uncertain_finding_is_quoted_but_not_coded():
    found = observation(POSSIBLE)

    assert found["valueCodeableConcept"] == {"text": POSSIBLE}
    assert found["interpretation"][0]["coding"][0]["code"] == "IND"


def test_a_denied_finding_says_so_in_its_value_and_has_no_region():
    found = observation("fracture")

    assert found["valueCodeableConcept"]["coding"][0]["code"] == "373572006"
    assert found["valueCodeableConcept"]["text"] == "Absent: fracture"
    assert found["interpretation"][0]["coding"][0]["code"] == "NEG"
    assert not components(found, "111030")
    assert not components(found, "111012")
    assert "denies" in found["text"]["div"]


def test_a_code_of_an_unknown_scheme_is_left_out():
    evidence = make_evidence()
    first = evidence.phrases[1]
    odd = replace(first.phrase.finding.codes[0], scheme="99LOCAL")
    finding = replace(first.phrase.finding, codes=(odd,))
    evidence = replace(evidence, phrases=(replace(first, phrase=replace(first.phrase, finding=finding)),))

    assert observation(EFFUSION, evidence)["valueCodeableConcept"] == {"text": EFFUSION}


def test_offsets_point_at_the_phrase():
    for text in (EFFUSION, NON_ASCII):
        found = observation(text)
        start, end = (components(found, code)[0]["valueInteger"] for code in ("phrase-start", "phrase-end"))
        assert REPORT_TEXT[start:end] == text


def test_certainty_is_in_percent():
    quantity = components(observation(EFFUSION), "111012")[0]["valueQuantity"]

    assert quantity == {"value": 93.0, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}


def test_a_region_is_a_closed_polyline_on_its_image():
    evidence = make_evidence()
    phrase = evidence.phrases[1]
    outline = phrase.placements[0].regions[0].outline
    image = evidence.images[0].ref
    (region,) = components(observation(EFFUSION, evidence), "111030")

    assert extensions(region, R5 + "studyUid")[0]["valueId"] == STUDY.study_instance_uid
    assert extensions(region, R5 + "seriesUid")[0]["valueId"] == image.series_instance_uid
    (instance,) = extensions(region, R5 + "instance")
    assert extensions(instance, "uid")[0]["valueId"] == image.sop_instance_uid
    assert extensions(instance, "sopClass")[0]["valueCoding"]["code"] == f"urn:oid:{image.sop_class_uid}"
    (shape,) = extensions(instance, "imageRegion2D")
    assert extensions(shape, "regionType")[0]["valueCode"] == "polyline"
    numbers = [each["valueDecimal"] for each in extensions(shape, "coordinate")]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert points[0] == points[-1]
    assert points[:-1] == [pytest.approx(point, abs=0.005) for point in outline]
    assert region["valueString"].startswith("columns 44 to 72, rows 58 to 91")


def test_every_region_on_every_image_has_a_component():
    two = make_evidence(make_radiograph(), make_radiograph())
    regions = sum(len(placement.regions) for placement in two.phrases[3].placements)

    assert len(components(observation(two.phrases[3].phrase.text, two), "111030")) == regions == 4


def test_an_area_that_only_the_report_names_is_called_that():
    (region,) = components(observation(NON_ASCII), "111030")

    assert region["valueString"].startswith("the area that the report names")
    assert "Only the area that the report names" in observation(NON_ASCII)["text"]["div"]


def test_what_was_looked_for_and_not_found_has_a_reason_instead_of_a_region():
    (region,) = components(observation(POSSIBLE), "111030")

    assert region["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert region["dataAbsentReason"]["text"] == "Below the threshold."
    assert "extension" not in region


def test_what_could_not_be_looked_for_is_unsupported():
    evidence = make_evidence()
    first = evidence.phrases[1]
    never = tuple(replace(each, state=State.NOT_GROUNDABLE, regions=(), reason=None) for each in first.placements)
    found = observation(EFFUSION, replace(evidence, phrases=(replace(first, placements=never),)))

    (region,) = components(found, "111030")
    assert region["dataAbsentReason"]["coding"][0]["code"] == "unsupported"
    assert "text" not in region["dataAbsentReason"]
    assert not components(found, "111012")


def test_a_lit_phrase_refers_to_its_segment_by_number_and_instance():
    (second,) = components(observation("Cardiac pacemaker"), "121191")

    (instance,) = extensions(second, R5 + "instance")
    assert second["valueInteger"] == 5
    assert extensions(instance, "uid")[0]["valueId"] == "1.2.3.1"
    assert extensions(instance, "subset")[0]["valueString"] == "5"
    assert not components(observation(POSSIBLE), "121191")


def test_control_characters_and_markup_of_the_report_do_no_harm():
    evidence = make_evidence()
    first = evidence.phrases[1]
    text = EFFUSION.replace("Moderate left", "<script>\x0b\x00\x1f&")
    start = first.phrase.start
    ends = {"end": start + len(text), "end_utf16": first.phrase.start_utf16 + len(text)}
    odd = replace(first.phrase, text=text, **ends)

    found = observation(text, replace(evidence, phrases=(replace(first, phrase=odd),)))

    assert found["valueCodeableConcept"]["text"] == text.replace("\x0b\x00\x1f", "   ")
    assert "&lt;script&gt;" in found["text"]["div"]
    assert "<script>" not in found["text"]["div"]


# Device, document and provenance


def test_the_device_is_the_model_with_its_weights():
    (device,) = resources(write(), "Device")

    digest = base64.urlsafe_b64encode(bytes.fromhex(CARD.weights_sha256)).decode().rstrip("=")
    assert device["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": f"ni:///sha-256;{digest}"}]
    assert device["deviceName"][0]["name"] == CARD.name
    assert device["modelNumber"] == CARD.version
    assert [each["value"] for each in device["version"]] == ["0.0.test", "test"]


def test_the_document_holds_page_seg_and_sr_with_size_and_hash():
    (document,) = resources(write(page=b"<html>"), "DocumentReference")

    page, seg, sr = (each["attachment"] for each in document["content"])
    assert (page["contentType"], page["url"]) == ("text/html", "https://sightline.example/page")
    for attachment, content in ((page, b"<html>"), (seg, b"seg"), (sr, b"sr")):
        assert attachment["size"] == len(content)
        assert base64.b64decode(attachment["hash"]) == hashlib.sha1(content).digest()
    assert (seg["contentType"], seg["url"]) == ("application/dicom", "urn:oid:1.2.3.1")
    assert document["content"][1]["format"]["code"] == "1.2.840.10008.5.1.4.1.1.66.4"
    assert document["docStatus"] == "final"


@pytest.mark.parametrize("status", ReportStatus)
def test_a_document_is_final_only_when_its_report_is(status):
    (document,) = resources(write(with_report(status=status)), "DocumentReference")

    assert (document["docStatus"] == "final") == (status in ("final", "amended", "corrected", "appended"))
    assert document["docStatus"] in ("final", "preliminary")


def test_the_document_keeps_its_id_over_versions_of_the_report():
    (one,) = resources(write(), "DocumentReference")
    (two,) = resources(write(with_report(ref=ReportRef("report-1", "3"))), "DocumentReference")

    assert one["id"] == two["id"] == document_id(STUDY.study_instance_uid, "report-1")


def test_a_page_made_on_demand_has_no_size_and_nothing_to_show_means_no_document():
    (document,) = resources(write(written=()), "DocumentReference")

    assert "size" not in document["content"][0]["attachment"]
    assert not resources(write(page_url=None, written=()), "DocumentReference")


def test_provenance_names_results_instances_report_text_and_images():
    evidence = make_evidence()
    bundle = write(evidence)
    (provenance,) = resources(bundle, "Provenance")

    targets = {each["reference"] for each in provenance["target"] if "reference" in each}
    made = {
        e["request"]["url"]
        for e in bundle["entry"]
        if e["resource"]["resourceType"] in ("Observation", "DocumentReference")
    }
    assert targets == made
    uids = [each["identifier"]["value"] for each in provenance["target"] if "identifier" in each]
    files = [content_reference(sha256_hex(content), "")["identifier"]["value"] for content in (b"seg", b"sr")]
    assert uids == ["urn:oid:1.2.3.1", "urn:oid:1.2.3.2", *files]
    report, text, image, pixels, settings = (each["what"] for each in provenance["entity"])
    assert pixels["identifier"]["value"] == hash_uri(evidence.images[0].source_sha256)
    assert settings["identifier"]["value"] == hash_uri(evidence.provenance.settings_sha256)
    assert report["reference"] == "DiagnosticReport/report-1/_history/2"
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256_hex(REPORT_TEXT.encode()))).decode().rstrip("=")
    assert text["identifier"]["value"] == f"ni:///sha-256;{digest}"
    assert image["identifier"]["value"] == f"urn:oid:{evidence.images[0].ref.sop_instance_uid}"


def test_the_event_names_what_was_read_and_written_and_quotes_nothing():
    bundle = write()
    (event,) = resources(bundle, "AuditEvent")

    by_lifecycle = {}
    for entity in event["entity"]:
        by_lifecycle.setdefault(entity.get("lifecycle", {}).get("code"), []).append(entity["what"])
    (provenance,) = resources(bundle, "Provenance")
    assert by_lifecycle["1"] == [each for each in provenance["target"] if "display" not in each]
    assert by_lifecycle["6"][0]["reference"] == "DiagnosticReport/report-1/_history/2"
    assert len(by_lifecycle["6"]) == 2
    assert by_lifecycle[None] == [{"type": "Patient", "identifier": {"value": "TEST-1"}}]
    assert (event["outcome"], event["agent"][0]["who"]) == (
        "0",
        {"reference": f"Device/{resources(bundle, 'Device')[0]['id']}"},
    )
    assert not any(phrase.phrase.text in json.dumps(event) for phrase in make_evidence().phrases)


# At a server of R5


def r5(evidence=None):
    evidence = evidence or make_evidence()
    url = "https://sightline.example/page"
    text = bundle_of(evidence, page_url=url, instances=instances(evidence), page=b"<html>", release=Release.R5)
    return json.loads(text)


def test_at_a_server_of_r5_every_lit_phrase_has_a_region_that_its_observation_is_derived_from():
    two = make_evidence(make_radiograph(), make_radiograph(make_header(number=2)))
    bundle = r5(two)

    selections = {f"ImagingSelection/{each['id']}": each for each in resources(bundle, "ImagingSelection")}
    links = [link["reference"] for each in resources(bundle, "Observation") for link in each.get("derivedFrom", ())]
    assert sorted(links) == sorted(selections)
    assert len(selections) == 2 * sum(phrase.lit for phrase in two.phrases)
    for found in resources(bundle, "Observation"):
        uids = {selections[link["reference"]]["identifier"][0]["value"] for link in found.get("derivedFrom", ())}
        assert uids <= {found["identifier"][0]["value"]}
        assert not any("extension" in each for each in components(found, "111030"))


def test_at_a_server_of_r5_elements_have_their_new_names_and_types():
    bundle = r5()

    (device,) = resources(bundle, "Device")
    assert device["name"] == [{"value": CARD.name, "type": "user-friendly-name"}]
    assert isinstance(device["type"], list)
    (document,) = resources(bundle, "DocumentReference")
    assert [each["reference"]["reference"] for each in document["event"][:1]] == [
        "DiagnosticReport/report-1/_history/2"
    ]
    assert "context" not in document
    assert document["content"][0]["attachment"]["size"] == "6"
    assert document["content"][1]["profile"][0]["valueCoding"]["code"] == "1.2.840.10008.5.1.4.1.1.66.4"
    (event,) = resources(bundle, "AuditEvent")
    assert event["code"]["coding"][0]["code"] == "transform"
    assert event["patient"] == {"type": "Patient", "identifier": {"value": "TEST-1"}}
    assert event["outcome"]["code"]["code"] == "0"


def test_ids_are_the_same_in_both_releases():
    def names(bundle):
        return {e["request"]["url"] for e in bundle["entry"] if not e["request"]["url"].startswith("ImagingSelection")}

    assert names(r5()) == names(write())


def test_a_report_without_phrases_still_says_that_it_was_read():
    bundle = write(replace(make_evidence(), phrases=()), page_url=None, written=())

    (provenance,) = resources(bundle, "Provenance")
    assert provenance["target"] == [{"reference": "DiagnosticReport/report-1/_history/2"}]


def test_times_have_a_zone_and_one_without_is_taken_as_utc():
    evidence = make_evidence()
    zoned = replace(evidence, provenance=replace(evidence.provenance, created=CREATED.replace(tzinfo=UTC)))

    assert resources(write(), "Provenance")[0]["recorded"] == "2026-03-01T12:30:15+00:00"
    assert write(zoned) == write(evidence)


def test_what_would_not_be_valid_is_not_written_and_the_error_quotes_nothing():
    evidence = make_evidence()
    nameless = replace(evidence.provenance, reader_version="")

    with pytest.raises(ConformanceError) as caught:
        write(replace(evidence, provenance=nameless))
    assert str(caught.value) == "a FHIR resource that Sightline built is not valid (ValidationError)"
