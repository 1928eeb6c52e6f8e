"""Evidence as FHIR R4: one transaction Bundle of PUTs to derived ids, so that writing it again changes nothing.

Checked by the R4B classes of fhir.resources, whose JSON for these resources is that of R4 4.0.1; every
reference is relative or logical. The radiologist's own report is referred to and never written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC
from html import escape
from typing import Any, Protocol

from fhir.resources.R4B.bundle import Bundle

from model.values import Region, State
from nlp.phrases import Assertion, Concept
from plugin.errors import ConformanceError
from plugin.fhir.codes import (
    CERTAINTY,
    FINDING,
    FINDING_ABSENT,
    IMAGE_REGION,
    IMAGING,
    INTERPRETATION,
    PHRASE_END,
    PHRASE_START,
    R5_EXTENSION,
    RADIOLOGY,
    REFERENCED_SEGMENT,
    SYSTEMS,
    absent,
    coded,
)
from plugin.fhir.reading import DICOM_UID_SYSTEM
from plugin.fhir.resource import is_fhir_id
from plugin.identity import derived_id
from plugin.values import Evidence, GroundedPhrase, ImageRef, Placement

Fhir = dict[str, Any]
"""A resource, or a part of one, on its way into the typed builder; None means absent. Never leaves this module."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_URI = "urn:ietf:rfc:3986"


class Instance(Protocol):
    """A SOP instance that was written for the evidence.

    *segments*: of a Segmentation, the tracking UID of segment 1, 2, ...; empty for other objects.
    """

    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def segments(self) -> tuple[str, ...]: ...


def bundle_of(
    evidence: Evidence, *, page_url: str | None, instances: tuple[Instance, ...], page: bytes | None = None
) -> str:
    """The transaction Bundle of *evidence* as JSON text; equal arguments give equal text.

    Device (the model), one Observation for each phrase that claims something of this study, DocumentReference (the
    entry that portals list: page, SEG, SR), Provenance.

    Parameters
    ----------
    page_url : where the evidence page is, or None.
    instances : the SEG and SR that were written for it.
    page : the page's bytes, for its size and hash; None when it is made on demand.

    Raises
    ------
    ConformanceError
        If a resource is not valid.
    """
    observations = [
        _observation(phrase, evidence, instances)
        for phrase in evidence.phrases
        if phrase.phrase.assertion is not Assertion.NOT_REPORTED
    ]
    attachments = [*_page(page_url, page), *map(_dicom, instances)]
    results = [*observations, *([_document(evidence, attachments)] if attachments else [])]
    resources = (_device(evidence), *results, _provenance(evidence, results, instances))
    bundle = _present({"resourceType": "Bundle", "type": "transaction", "entry": [_put(each) for each in resources]})
    try:
        Bundle.model_validate(bundle)
    except ValueError as error:
        # The class alone: the message quotes values, and with them the report.
        raise ConformanceError(f"a FHIR resource that Sightline built is not valid ({type(error).__name__})") from None
    return json.dumps(bundle, ensure_ascii=False, indent=1) + "\n"


def document_id(study_instance_uid: str, report_id: str) -> str:
    """The DocumentReference of a study and a report, the same for all versions of the report."""
    return derived_id("DocumentReference", study_instance_uid, report_id)


def observation_id(tracking_uid: str) -> str:
    """The Observation of a phrase, the same as long as the phrase keeps its tracking UID."""
    return derived_id("Observation", tracking_uid)


def _present(part: Any) -> Any:
    """*part* without what is absent: FHIR JSON has no null here, and no empty object."""
    if isinstance(part, dict):
        return {name: _present(value) for name, value in part.items() if value is not None}
    return [_present(each) for each in part] if isinstance(part, (list, tuple)) else part


def _put(resource: Fhir) -> Fhir:
    return {"resource": resource, "request": {"method": "PUT", "url": _name(resource)}}


def _name(resource: Fhir) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


# The resources


def _device(evidence: Evidence) -> Fhir:
    provenance = evidence.provenance
    card = provenance.model
    return {
        "resourceType": "Device",
        "id": _device_id(evidence),
        "text": _narrative(f"Sightline {provenance.software_version} with the model {card.name} {card.version}."),
        "identifier": [{"system": _URI, "value": _hash_uri(card.weights_sha256)}],
        "status": "active",
        "manufacturer": "Sightline",
        "deviceName": [{"name": _clean(card.name), "type": "model-name"}],
        "modelNumber": _clean(card.version),
        "type": {"text": "Software that finds the regions of an image that the phrases of its report speak of"},
        "version": [
            {"type": {"text": "software"}, "value": provenance.software_version},
            {"type": {"text": "report reader"}, "value": provenance.reader_version},
        ],
    }


def _observation(grounded: GroundedPhrase, evidence: Evidence, instances: tuple[Instance, ...]) -> Fhir:
    phrase = grounded.phrase
    return {
        "resourceType": "Observation",
        "id": observation_id(grounded.tracking_uid),
        "text": _narrative(_said(grounded), _seen(grounded)),
        "identifier": [_uid_identifier(grounded.tracking_uid)],
        "basedOn": [{"reference": f"ServiceRequest/{each}"} for each in evidence.report.service_request_ids] or None,
        "partOf": [_study(evidence)],
        "status": "preliminary",
        "category": [IMAGING],
        "code": FINDING,
        "subject": _subject(evidence),
        "focus": [_report(evidence)],
        "issued": _instant(evidence),
        "device": {"reference": f"Device/{_device_id(evidence)}"},
        "valueCodeableConcept": _value(grounded),
        "interpretation": [INTERPRETATION[phrase.assertion]],
        "bodySite": _site(grounded),
        "component": [
            *_certainty(grounded),
            {"code": PHRASE_START, "valueInteger": phrase.start},
            {"code": PHRASE_END, "valueInteger": phrase.end},
            *(_regions(grounded) if grounded.lit else _no_region(grounded)),
            *_segments(grounded, instances),
        ],
    }


def _document(evidence: Evidence, attachments: list[Fhir]) -> Fhir:
    return {
        "resourceType": "DocumentReference",
        "id": document_id(evidence.study.study_instance_uid, evidence.report.ref.report_id),
        "text": _narrative("A chest radiograph and its report, with the report's phrases marked on the image."),
        "status": "current",
        "docStatus": "preliminary",
        "category": [RADIOLOGY],
        "subject": _subject(evidence),
        "date": _instant(evidence),
        "author": [{"reference": f"Device/{_device_id(evidence)}"}],
        "description": "Radiology report with its phrases marked on the image",
        "content": attachments,
        "context": {"related": [_report(evidence), _study(evidence)]},
    }


def _provenance(evidence: Evidence, results: list[Fhir], instances: tuple[Instance, ...]) -> Fhir:
    made = [{"reference": _name(each)} for each in results] + [_instance(each.sop_instance_uid) for each in instances]
    text = _logical(_URI, _hash_uri(evidence.provenance.report_sha256))
    text["display"] = f"text used: {evidence.report.text_source}"
    images = [_instance(image.ref.sop_instance_uid) for image in evidence.images]
    device = {"reference": f"Device/{_device_id(evidence)}"}
    return {
        "resourceType": "Provenance",
        "id": derived_id("Provenance", *evidence.key),
        "target": made or [_report(evidence)],
        "recorded": _instant(evidence),
        "agent": [{"type": coded("PARTICIPANT", "author", "Author"), "who": device}],
        "entity": [{"role": "source", "what": what} for what in (_report(evidence), text, *images)],
    }


# Whom and what they are about


def _device_id(evidence: Evidence) -> str:
    provenance = evidence.provenance
    card = provenance.model
    parts = (card.name, card.version, card.weights_sha256, provenance.software_version, provenance.reader_version)
    return derived_id("Device", *parts)


def _subject(evidence: Evidence) -> Fhir | None:
    report = evidence.report
    if report.subject_id:
        return {"reference": f"Patient/{report.subject_id}"}
    patient = report.patient or evidence.images[0].description.patient
    if patient is None or not patient.patient_id.strip():
        return None
    identifier = {"value": _clean(patient.patient_id)}
    if ":" in patient.issuer:
        identifier["system"] = patient.issuer
    return {"type": "Patient", "identifier": identifier}


def _report(evidence: Evidence) -> Fhir:
    """The report version that was read; by identifier when it is not a resource of its own."""
    ref = evidence.report.ref
    if not is_fhir_id(ref.report_id):
        return _logical(_URI, ref.report_id, kind="DiagnosticReport")
    version = f"/_history/{ref.version}" if is_fhir_id(ref.version) else ""
    return {"reference": f"DiagnosticReport/{ref.report_id}{version}"}


def _study(evidence: Evidence) -> Fhir:
    report, uid = evidence.report, evidence.study.study_instance_uid
    if len(report.imaging_study_ids) == 1 and report.study_instance_uids == (uid,):
        return {"reference": f"ImagingStudy/{report.imaging_study_ids[0]}"}
    return _logical(DICOM_UID_SYSTEM, f"urn:oid:{uid}", kind="ImagingStudy")


def _logical(system: str, value: str, *, kind: str | None = None) -> Fhir:
    return {"type": kind, "identifier": {"system": system, "value": value}}


def _instance(sop_instance_uid: str) -> Fhir:
    return {"identifier": _uid_identifier(sop_instance_uid)}


def _uid_identifier(uid: str) -> Fhir:
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}


def _instant(evidence: Evidence) -> str:
    """A FHIR instant has a zone; a source's time without one (DICOM) is taken as UTC."""
    created = evidence.provenance.created
    return (created if created.tzinfo else created.replace(tzinfo=UTC)).isoformat()


def _hash_uri(sha256: str) -> str:
    """RFC 6920: a name for content by its hash."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{digest}"


# What an Observation says


def _value(grounded: GroundedPhrase) -> Fhir:
    """The phrase; coded only where the report commits itself."""
    phrase = grounded.phrase
    if phrase.assertion is Assertion.NEGATED:
        return {"coding": [FINDING_ABSENT], "text": f"Absent: {_clean(phrase.text)}"}
    codings = _codings(phrase.finding) if phrase.assertion is Assertion.AFFIRMED else []
    return {"coding": codings or None, "text": _clean(phrase.text)}


def _codings(concept: Concept) -> list[Fhir]:
    return [
        {"system": SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}
        for code in concept.codes
        if code.scheme in SYSTEMS
    ]


def _site(grounded: GroundedPhrase) -> Fhir | None:
    phrase = grounded.phrase
    words = [phrase.laterality or "", phrase.sites[0].name if phrase.sites else ""]
    if not any(words):
        return None
    codings = _codings(phrase.sites[0]) if phrase.sites else []
    return {"coding": codings or None, "text": " ".join(filter(None, words))}


def _certainty(grounded: GroundedPhrase) -> Iterator[Fhir]:
    if looked := [each.probability for each in grounded.placements if each.state is not State.NOT_GROUNDABLE]:
        percent = {"value": round(100 * max(looked), 1), "unit": "%", "system": SYSTEMS["UCUM"], "code": "%"}
        yield {"code": CERTAINTY, "valueQuantity": percent}


def _regions(grounded: GroundedPhrase) -> Iterator[Fhir]:
    for placement in grounded.placements:
        for region in placement.regions:
            yield {
                "extension": _selection(placement.image, outline=_polyline(region)),
                "code": IMAGE_REGION,
                "valueString": _where(region, placement.state),
            }


def _no_region(grounded: GroundedPhrase) -> Iterator[Fhir]:
    """Why an asserted phrase has no region. A denied one has none to miss, and no component."""
    if grounded.phrase.assertion is Assertion.NEGATED:
        return
    looked = any(placement.state is State.NOT_FOUND for placement in grounded.placements)
    reason = _reason(grounded.placements) or grounded.phrase.not_groundable_reason
    yield {"code": IMAGE_REGION, "dataAbsentReason": absent("unknown" if looked else "unsupported", reason)}


def _reason(placements: tuple[Placement, ...]) -> str | None:
    return next((placement.reason for placement in placements if placement.reason), None)


def _segments(grounded: GroundedPhrase, instances: tuple[Instance, ...]) -> Iterator[Fhir]:
    for instance in instances:
        if grounded.tracking_uid in instance.segments:
            number = instance.segments.index(grounded.tracking_uid) + 1
            uids = (_r5("uid", valueId=instance.sop_instance_uid), _sop_class(instance.sop_class_uid))
            selected = [*uids, _r5("subset", valueString=str(number))]
            yield {
                "extension": [{"url": R5_EXTENSION + "instance", "extension": selected}],
                "code": REFERENCED_SEGMENT,
                "valueInteger": number,
            }


def _selection(image: ImageRef, *, outline: Fhir) -> list[Fhir]:
    """R5 ImagingSelection's elements, one to one, as cross-version extensions (R5 versions.html#extensions)."""
    instance = [_r5("uid", valueId=image.sop_instance_uid), _sop_class(image.sop_class_uid), outline]
    return [
        {"url": R5_EXTENSION + "studyUid", "valueId": image.study.study_instance_uid},
        {"url": R5_EXTENSION + "seriesUid", "valueId": image.series_instance_uid},
        {"url": R5_EXTENSION + "instance", "extension": instance},
    ]


def _sop_class(uid: str) -> Fhir:
    return _r5("sopClass", valueCoding={"system": _URI, "code": f"urn:oid:{uid}"})


def _polyline(region: Region) -> Fhir:
    """R5 ImagingSelection has no polygon: a polyline that ends where it began; (0, 0) is the first pixel's corner."""
    closed = (*region.outline, region.outline[0])
    numbers = [_r5("coordinate", valueDecimal=round(float(value), 2)) for point in closed for value in point]
    return {"url": "imageRegion2D", "extension": [_r5("regionType", valueCode="polyline"), *numbers]}


def _r5(name: str, **value: object) -> Fhir:
    return {"url": name, **value}


def _where(region: Region, state: State) -> str:
    left, top, right, bottom = (round(side) for side in region.box)
    what = "the area that the report names: " if state is State.REGION_ONLY else ""
    return f"{what}columns {left} to {right}, rows {top} to {bottom}, in pixels from the top left corner"


# In plain language


_CLAIMS = {
    Assertion.AFFIRMED: "The report states",
    Assertion.PROBABLE: "The report considers likely",
    Assertion.POSSIBLE: "The report considers possible",
    Assertion.NEGATED: "The report denies",
}


def _said(grounded: GroundedPhrase) -> str:
    return f"{_CLAIMS[grounded.phrase.assertion]}: {grounded.phrase.text}."


def _seen(grounded: GroundedPhrase) -> str:
    if grounded.lit:
        found = any(placement.state is State.FOUND for placement in grounded.placements)
        what = "The region found by software is" if found else "Only the area that the report names is"
        return f"{what} marked on the image; no radiologist has confirmed it yet."
    reason = _reason(grounded.placements) or grounded.phrase.not_groundable_reason
    return f"Nothing is marked on the image: {reason}" if reason else "Nothing is marked on the image."


def _narrative(*sentences: str) -> Fhir:
    paragraphs = "".join(f"<p>{escape(_clean(sentence))}</p>" for sentence in sentences)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'}


def _clean(text: str) -> str:
    """*text* without the control characters that FHIR strings and XHTML do not allow (R4 datatypes, ``string``)."""
    return _UNPRINTABLE.sub(" ", text).strip()


# What the portal's entry holds


def _page(url: str | None, page: bytes | None) -> Iterator[Fhir]:
    if url is not None:
        attachment = {"contentType": "text/html", "url": url, "title": "Report and image, phrase by phrase"}
        yield {"attachment": attachment | (_fingerprint(page) if page is not None else {})}


def _dicom(instance: Instance) -> Fhir:
    uid = {"contentType": "application/dicom", "url": f"urn:oid:{instance.sop_instance_uid}"}
    # IHE RAD TF-3 (XDS-I.b): the format of a DICOM document is its SOP class.
    sop_class = {"system": "urn:oid:1.2.840.10008.2.6.1", "code": instance.sop_class_uid}
    return {"attachment": uid | _fingerprint(instance.content), "format": sop_class}


def _fingerprint(content: bytes) -> Fhir:
    """Attachment.size and .hash; SHA-1 is what R4 asks for."""
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return {"size": len(content), "hash": base64.b64encode(digest).decode()}
