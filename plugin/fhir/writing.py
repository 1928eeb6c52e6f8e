"""Evidence as FHIR: one transaction Bundle of PUTs to derived ids, so that writing it again changes nothing.

Built as R4, and turned into R5 where the server speaks that. Checked by the classes of fhir.resources: R4B, whose JSON
for these resources is that of R4 4.0.1, or R5. Every reference is relative or logical. The radiologist's own report is
referred to and never written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from fhir.resources.bundle import Bundle as R5Bundle
from fhir.resources.R4B.bundle import Bundle

from model.values import Region, State
from nlp.phrases import Assertion, Concept
from plugin.errors import ConformanceError
from plugin.fhir.audit import TRANSFORM, audit_event
from plugin.fhir.capability import Release
from plugin.fhir.codes import (
    CERTAINTY,
    DECIDED_HERE,
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
    REVISE,
    SYSTEMS,
    absent,
    coded,
)
from plugin.fhir.parts import (
    URI,
    Fhir,
    clean,
    content_reference,
    device_id,
    fingerprint,
    hash_uri,
    instance_reference,
    instant_of,
    name_of,
    narrative,
    present,
    report_reference,
    study_reference,
    subject_of,
    uid_identifier,
)
from plugin.fhir.r5 import as_r5
from plugin.fhir.selections import About, selections_of
from plugin.identity import derived_id, sha256_hex
from plugin.page.document import evidence_document
from plugin.values import Evidence, GroundedPhrase, ImageRef, Person, Placement, Provenance, RegionDecision, Ruling


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
    @property
    def file_name(self) -> str: ...


def bundle_of(
    evidence: Evidence,
    *,
    page_url: str | None,
    instances: tuple[Instance, ...],
    page: bytes | None = None,
    document: bytes | None = None,
    release: Release = Release.R4,
) -> str:
    """The transaction Bundle of *evidence* as JSON text; equal arguments give equal text.

    Device (the model), one Observation for each phrase that claims something of this study, DocumentReference (the
    entry that portals list: page, SEG, SR), Provenance and AuditEvent; at a server of R5 an ImagingSelection for each
    lit phrase and image, too.

    Parameters
    ----------
    page_url : where the evidence page is, or None.
    instances : the SEG and SR that were written for it.
    page : the page's bytes, for its size and hash; None when it is made on demand.
    document : those of ``evidence.json``, likewise.
    release : of FHIR that the server speaks.

    Raises
    ------
    ConformanceError
        If a resource is not valid.
    """
    selections = _selections(evidence) if release is Release.R5 else ()
    observations = [
        _observation(phrase, evidence, instances) | _derived(phrase, selections)
        for phrase in evidence.phrases
        if phrase.phrase.assertion is not Assertion.NOT_REPORTED
    ]
    attachments = [*_page(page_url, page), *map(_dicom, instances)]
    results = [*selections, *observations, *([_document(evidence, attachments)] if attachments else [])]
    made = [{"reference": name_of(each)} for each in results]
    made += [instance_reference(each.sop_instance_uid) for each in instances]
    files = (
        ("evidence.json", document),
        ("evidence.html", page),
        *((each.file_name, each.content) for each in instances),
    )
    hashes = [content_reference(sha256_hex(content), name) for name, content in files if content is not None]
    resources = (
        device_of(evidence.provenance),
        *results,
        _provenance(evidence, [*made, *hashes]),
        *_provenance_of_people(evidence),
        _audit(evidence, made),
    )
    form = as_r5 if release is Release.R5 else dict
    return transaction([form(present(each)) for each in resources], release)


def transaction(resources: Sequence[Fhir], release: Release) -> str:
    """The transaction Bundle that writes *resources*, each to its own id, as JSON text.

    Raises
    ------
    ConformanceError
        If a resource is not valid.
    """
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [put(present(each)) for each in resources]}
    try:
        (R5Bundle if release is Release.R5 else Bundle).model_validate(bundle)
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


def put(resource: Fhir) -> Fhir:
    """The entry of a transaction that writes *resource* to its id."""
    return {"resource": resource, "request": {"method": "PUT", "url": name_of(resource)}}


# The resources


def device_of(provenance: Provenance) -> Fhir:
    """The model with its software, as R4."""
    card = provenance.model
    return {
        "resourceType": "Device",
        "id": device_id(provenance),
        "text": narrative(f"Sightline {provenance.software_version} with the model {card.name} {card.version}."),
        "identifier": [{"system": URI, "value": hash_uri(card.weights_sha256)}],
        "status": "active",
        "manufacturer": "Sightline",
        "deviceName": [{"name": clean(card.name), "type": "model-name"}],
        "modelNumber": clean(card.version),
        "type": {"text": "Software that finds the regions of an image that the phrases of its report speak of"},
        "version": [
            {"type": {"text": "software"}, "value": provenance.software_version},
            {"type": {"text": "report reader"}, "value": provenance.reader_version},
        ],
    }


def _observation(grounded: GroundedPhrase, evidence: Evidence, instances: tuple[Instance, ...]) -> Fhir:
    return {
        "resourceType": "Observation",
        "id": observation_id(grounded.tracking_uid),
        "meta": {"tag": [DECIDED_HERE]} if grounded.decisions else None,
        "text": narrative(_said(grounded), _seen(grounded)),
        "identifier": [uid_identifier(grounded.tracking_uid)],
        "basedOn": [{"reference": f"ServiceRequest/{each}"} for each in evidence.report.service_request_ids] or None,
        "partOf": [study_reference(evidence)],
        "status": _status(grounded),
        "category": [IMAGING],
        "code": FINDING,
        "subject": subject_of(evidence),
        "focus": [report_reference(evidence)],
        "issued": instant_of(evidence),
        "performer": list(_people(grounded)) or None,
        "note": [_note(decision) for decision in grounded.decisions] or None,
        "device": _device_reference(evidence),
        **claims_of(grounded, instances),
    }


def claims_of(grounded: GroundedPhrase, instances: tuple[Instance, ...]) -> Fhir:
    """What an Observation says of a phrase, and where *instances* show it."""
    phrase = grounded.phrase
    return {
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
        "text": narrative("A chest radiograph and its report, with the report's phrases marked on the image."),
        "status": "current",
        "docStatus": "final" if evidence.report.status.final else "preliminary",
        "category": [RADIOLOGY],
        "subject": subject_of(evidence),
        "date": instant_of(evidence),
        "author": [_device_reference(evidence)],
        "description": "Radiology report with its phrases marked on the image",
        "content": attachments,
        "context": {"related": [report_reference(evidence), study_reference(evidence)]},
    }


def _provenance(evidence: Evidence, made: Sequence[Fhir]) -> Fhir:
    said = evidence.provenance
    text = content_reference(said.report_sha256, f"text used: {evidence.report.text_source}")
    pixels = (
        content_reference(each.source_sha256, f"pixels of {each.ref.sop_instance_uid}") for each in evidence.images
    )
    settings = content_reference(said.settings_sha256, "settings that change results")
    sources = (report_reference(evidence), text, *_images(evidence), *pixels, settings)
    return {
        "resourceType": "Provenance",
        "id": derived_id("Provenance", *evidence.key),
        "target": list(made) or [report_reference(evidence)],
        "recorded": instant_of(evidence),
        "agent": [{"type": coded("PARTICIPANT", "author", "Author"), "who": _device_reference(evidence)}],
        "entity": [{"role": "source", "what": what} for what in sources],
    }


def _provenance_of_people(evidence: Evidence) -> Iterator[Fhir]:
    """One for each decision: who, when, why, about which phrase."""
    for grounded in evidence.phrases:
        for decision in grounded.decisions if grounded.phrase.assertion is not Assertion.NOT_REPORTED else ():
            drawn = decision.ruling is Ruling.REDRAWN
            role = ("author", "Author") if drawn else ("verifier", "Verifier")
            yield {
                "resourceType": "Provenance",
                "id": derived_id("Provenance of a decision", decision.key),
                "target": [
                    {"type": "Observation", "reference": f"Observation/{observation_id(grounded.tracking_uid)}"}
                ],
                "recorded": decision.made.isoformat(),
                "reason": [{"text": clean(decision.reason)}] if clean(decision.reason) else None,
                "activity": REVISE,
                "agent": [{"type": coded("PARTICIPANT", *role), "who": practitioner(decision.who)}],
                "entity": [{"role": "source", "what": instance_reference(decision.sop_instance_uid)}],
            }


def practitioner(who: Person) -> Fhir:
    """A reference to whoever decided: by name, and by identifier where it is known."""
    system = URI if ":" in who.identifier else None
    identifier = {"system": system, "value": clean(who.identifier)} if who.identifier else None
    return {"type": "Practitioner", "identifier": identifier, "display": clean(who.name)}


def _audit(evidence: Evidence, made: Sequence[Fhir]) -> Fhir:
    return audit_event(
        derived_id("AuditEvent", *evidence.key),
        device=_device_reference(evidence),
        recorded=instant_of(evidence),
        what=TRANSFORM,
        subject=subject_of(evidence),
        read=(report_reference(evidence), *_images(evidence)),
        written=made,
    )


def _device_reference(evidence: Evidence) -> Fhir:
    return {"reference": f"Device/{device_id(evidence.provenance)}"}


def _images(evidence: Evidence) -> list[Fhir]:
    return [instance_reference(image.ref.sop_instance_uid) for image in evidence.images]


# Regions as resources of their own


def _selections(evidence: Evidence) -> tuple[Fhir, ...]:
    about = About(
        issued=instant_of(evidence),
        study=study_reference(evidence),
        subject=subject_of(evidence),
        orders=tuple({"reference": f"ServiceRequest/{each}"} for each in evidence.report.service_request_ids),
    )
    asserted = replace(evidence, phrases=tuple(each for each in evidence.phrases if each.lit))
    return selections_of(evidence_document(asserted), about)


def _derived(grounded: GroundedPhrase, selections: tuple[Fhir, ...]) -> Fhir:
    """The link from a phrase to its regions."""
    own = uid_identifier(grounded.tracking_uid)
    names = [name_of(each) for each in selections if own in each["identifier"]]
    return {"derivedFrom": [{"reference": name} for name in names]} if names else {}


# What an Observation says


def _status(grounded: GroundedPhrase) -> str:
    """Final once people accepted every region, amended once they decided and changed one."""
    if not grounded.decided:
        return "preliminary"
    accepted = all(decision.ruling is Ruling.ACCEPTED for decision in grounded.decisions)
    return "final" if accepted else "amended"


def _people(grounded: GroundedPhrase) -> Iterator[Fhir]:
    for who in dict.fromkeys(decision.who for decision in grounded.decisions):
        yield practitioner(who)


def _note(decision: RegionDecision) -> Fhir:
    said = f"{_DECIDED[decision.ruling]}: {decision.reason}" if decision.reason else f"{_DECIDED[decision.ruling]}."
    return {"authorString": clean(decision.who.name), "time": decision.made.isoformat(), "text": clean(said)}


def _value(grounded: GroundedPhrase) -> Fhir:
    """The phrase; coded only where the report commits itself."""
    phrase = grounded.phrase
    if phrase.assertion is Assertion.NEGATED:
        return {"coding": [FINDING_ABSENT], "text": f"Absent: {clean(phrase.text)}"}
    codings = _codings(phrase.finding) if phrase.assertion is Assertion.AFFIRMED else []
    return {"coding": codings or None, "text": clean(phrase.text)}


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
    return _r5("sopClass", valueCoding={"system": URI, "code": f"urn:oid:{uid}"})


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


_DECIDED = {
    Ruling.ACCEPTED: "Region accepted",
    Ruling.REJECTED: "Region rejected",
    Ruling.REDRAWN: "Region drawn anew",
}


def _said(grounded: GroundedPhrase) -> str:
    return f"{_CLAIMS[grounded.phrase.assertion]}: {grounded.phrase.text}."


def _seen(grounded: GroundedPhrase) -> str:
    if grounded.lit:
        found = any(placement.state is State.FOUND for placement in grounded.placements)
        what = "The region found by software is" if found else "Only the area that the report names is"
        if any(decision.ruling is Ruling.REDRAWN for decision in grounded.decisions):
            what = "A region that a radiologist drew is"
        said = "a radiologist confirmed it" if grounded.decided else "no radiologist has confirmed it yet"
        return f"{what} marked on the image; {said}."
    reason = _reason(grounded.placements) or grounded.phrase.not_groundable_reason
    return f"Nothing is marked on the image: {reason}" if reason else "Nothing is marked on the image."


# What the portal's entry holds


def _page(url: str | None, page: bytes | None) -> Iterator[Fhir]:
    if url is not None:
        attachment = {"contentType": "text/html", "url": url, "title": "Report and image, phrase by phrase"}
        yield {"attachment": attachment | (fingerprint(page) if page is not None else {})}


def _dicom(instance: Instance) -> Fhir:
    uid = {"contentType": "application/dicom", "url": f"urn:oid:{instance.sop_instance_uid}"}
    # IHE RAD TF-3 (XDS-I.b): the format of a DICOM document is its SOP class.
    sop_class = {"system": "urn:oid:1.2.840.10008.2.6.1", "code": instance.sop_class_uid}
    return {"attachment": uid | fingerprint(instance.content), "format": sop_class}
