"""The FHIR transaction before the evidence, and before the files whose hashes it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nlp.phrases import Assertion
from plugin.chain.checks import Check, Verdict, compared
from plugin.chain.dicom import source_uid
from plugin.chain.material import DicomFile, Material
from plugin.chain.rebuilt import Rebuilt
from plugin.dicom.header import items, text
from plugin.fhir.life import DECIDED
from plugin.fhir.parts import (
    device_id,
    fingerprint,
    hash_uri,
    name_of,
    present,
    reference_to_report,
    uid_identifier,
)
from plugin.fhir.r5 import as_r5
from plugin.fhir.selections import About, selections_of
from plugin.fhir.writing import claims_of, document_id, observation_id
from plugin.identity import derived_id, sha256_hex

ITEM = "FHIR"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Instance:
    """A Segmentation, as the FHIR writer sees one."""

    sop_class_uid: str
    sop_instance_uid: str
    content: bytes
    segments: tuple[str, ...]
    file_name: str


def resources(material: Material, rebuilt: Rebuilt) -> Iterator[Check]:
    """Whether the resources of a transaction are those of the evidence, all of them and no others."""
    if material.bundle is None:
        yield Check(ITEM, Verdict.FAILS, "the FHIR resources (fhir.json) are missing")
        return
    found = {name_of(each): each for each in _resources(material.bundle)}
    r5 = any(name.startswith("ImagingSelection/") for name in found) or _is_r5(found)
    holds = "the Observations say what the phrases say, where the evidence says"
    yield from compared("FHIR Observations", holds, _wrong_observations(found, material, rebuilt, r5=r5))
    if r5:
        holds = "the ImagingSelections mark the regions of the evidence"
        yield from compared("FHIR ImagingSelections", holds, _wrong_selections(found, rebuilt))
    yield from compared("FHIR Device", "it is the model of the evidence", _wrong_device(found, rebuilt))
    holds = "the files have the sizes and hashes that it holds"
    yield from compared("FHIR DocumentReference", holds, _wrong_document(found, material, rebuilt))
    for kind, holds in (
        ("Provenance", "it names sources and results by reference and hash"),
        ("AuditEvent", "it names what was read and written"),
    ):
        yield from compared(f"FHIR {kind}", holds, _wrong_history(kind, found, material, rebuilt))


def _resources(bundle: Json) -> Iterator[Json]:
    for entry in bundle.get("entry", ()):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") and resource.get("id"):
            yield resource


def _is_r5(found: dict[str, Json]) -> bool:
    return any(name.startswith("Device/") and "name" in each for name, each in found.items())


def _of(found: dict[str, Json], kind: str) -> dict[str, Json]:
    return {name: each for name, each in found.items() if name.startswith(f"{kind}/")}


def _wrong_observations(found: dict[str, Json], material: Material, rebuilt: Rebuilt, *, r5: bool) -> Iterator[str]:
    order = list(rebuilt.images)  # files may come in any
    known = [file for file in material.segmentations if source_uid(file.dataset) in order]
    instances = tuple(map(_instance, sorted(known, key=lambda file: order.index(source_uid(file.dataset)))))
    wanted = {
        f"Observation/{observation_id(phrase.tracking_uid)}": (number, phrase)
        for number, phrase in enumerate(rebuilt.phrases, start=1)
        if phrase.phrase.assertion is not Assertion.NOT_REPORTED
    }
    there = _of(found, "Observation")
    if set(there) - set(wanted):
        yield "there is one of a phrase that the evidence does not have"
    subjects = {str(each.get("subject")) for each in _of(found, "Observation").values()}
    if len(subjects) > 1:
        yield "they are about different patients"
    for name, (number, phrase) in wanted.items():
        if name not in there:
            yield f"that of phrase {number} is missing"
            continue
        claims = {"resourceType": "Observation", **present(claims_of(phrase, instances))}
        expected = present(as_r5(claims) if r5 else claims) | {
            "identifier": [uid_identifier(phrase.tracking_uid)],
            "focus": [present(reference_to_report(rebuilt.report))],
            "device": {"reference": f"Device/{device_id(rebuilt.document.provenance)}"},
        }
        if other := [element for element, value in expected.items() if there[name].get(element) != value]:
            yield f"that of phrase {number} differs in {', '.join(other)}"
        if there[name].get("status") not in ("preliminary", *DECIDED):
            yield f"that of phrase {number} was withdrawn"


def _instance(file: DicomFile) -> _Instance:
    segments = tuple(text(each, "TrackingUID") for each in items(file.dataset, "SegmentSequence"))
    return _Instance(text(file.dataset, "SOPClassUID"), file.uid, file.content, segments, file.name)


def _wrong_selections(found: dict[str, Json], rebuilt: Rebuilt) -> Iterator[str]:
    document = rebuilt.document
    asserted = document.model_copy(
        update={
            "phrases": tuple(part for part, each in zip(document.phrases, rebuilt.phrases, strict=True) if each.lit)
        }
    )
    wanted = {name_of(each): each for each in selections_of(asserted, About("", {}))}
    there = _of(found, "ImagingSelection")
    if set(there) != set(wanted):
        yield "there is one too many, or one is missing"
    for name in sorted(set(there) & set(wanted)):
        if any(
            there[name].get(each) != wanted[name][each] for each in ("instance", "studyUid", "seriesUid", "identifier")
        ):
            yield f"{name} marks another place"


def _wrong_device(found: dict[str, Json], rebuilt: Rebuilt) -> Iterator[str]:
    said = rebuilt.document.provenance
    device = found.get(f"Device/{device_id(said)}")
    if device is None:
        yield "it is missing"
        return
    hashes = [each.get("value") for each in device.get("identifier", ())]
    if hash_uri(said.model.weights_sha256) not in hashes:
        yield "it has other weights"


def _wrong_document(found: dict[str, Json], material: Material, rebuilt: Rebuilt) -> Iterator[str]:
    name = document_id(rebuilt.document.study_instance_uid, rebuilt.document.report.report_id)
    document = found.get(f"DocumentReference/{name}")
    written = {f"urn:oid:{file.uid}": file for file in (*material.segmentations, *material.reports, *material.others)}
    if document is None:
        if written:
            yield "it is missing"
        return
    attached = [content.get("attachment", {}) for content in document.get("content", ())]
    for attachment in attached:
        yield from _wrong_attachment(attachment, written, material)
    named = {attachment.get("url") for attachment in attached}
    required = {f"urn:oid:{file.uid}" for file in (*material.segmentations, *material.reports)}
    if required - named:
        yield "it does not list a file that was given"


def _wrong_attachment(attachment: Json, written: dict[str, DicomFile], material: Material) -> Iterator[str]:
    if attachment.get("contentType") == "text/html":
        if (
            "hash" in attachment
            and material.pages
            and not any(_fits(attachment, page) for page in material.pages.values())
        ):
            yield "the page is another one: size or hash differ"
    elif attachment.get("url") not in written:
        yield "a DICOM object that it lists was not given, or is another one"
    elif not _fits(attachment, written[attachment["url"]].content):
        yield f"{written[attachment['url']].name} is another one: size or hash differ"


def _fits(attachment: Json, content: bytes) -> bool:
    wanted = fingerprint(content)
    return str(attachment.get("size")) == str(wanted["size"]) and attachment.get("hash") == wanted["hash"]


def _wrong_history(kind: str, found: dict[str, Json], material: Material, rebuilt: Rebuilt) -> Iterator[str]:
    ours = [each for each in _of(found, kind).values() if "activity" not in each]  # a decision's Provenance has one
    if len(ours) != 1:
        yield f"there are {len(ours)} instead of one"
        return
    (resource,) = ours
    if rebuilt.knows_decisions and resource["id"] != derived_id(kind, *rebuilt.key):
        yield "its id is not the one of this evidence"
    sources = {*map(_named, (reference_to_report(rebuilt.report), *map(_by_uid, rebuilt.images)))}
    made = {name for name in found if name.split("/")[0] not in ("Device", "Provenance", "AuditEvent")}
    files = (*material.segmentations, *material.reports)
    made |= {f"urn:oid:{file.uid}" for file in files}
    if kind == "Provenance":
        said, parts = rebuilt.document.provenance, rebuilt.parts.values()
        hashes = {said.report_sha256, said.settings_sha256, *(part.source_sha256 for part in parts)}
        yield from _missing(resource, "entity", sources | set(map(hash_uri, hashes)))
        hashes = {
            sha256_hex(each) for each in (material.content, *material.pages.values(), *(f.content for f in files))
        }
        yield from _missing(resource, "target", made | set(map(hash_uri, hashes)))
    else:
        yield from _missing(resource, "entity", sources | made)
    dangling = {name for name in _references(resource) if _ours(name) and name not in found}
    if dangling:
        yield f"it names what is not there: {', '.join(sorted(dangling))}"


def _missing(resource: Json, element: str, wanted: set[str]) -> Iterator[str]:
    lacks = wanted - _references(resource, element)
    hashes = {name for name in lacks if name.startswith("ni:")}
    if hashes:
        yield f"{element}: {len(hashes)} of its hashes are not those of what was given"
    if lacks - hashes:
        yield f"{element} does not name {', '.join(sorted(lacks - hashes))}"


def _references(resource: Json, *elements: str) -> set[str]:
    parts = [part for element in elements or ("entity", "target") for part in resource.get(element, ())]
    return {_named(part.get("what", part)) for part in parts if isinstance(part, dict)}


def _ours(name: str) -> bool:
    return name.startswith(("Observation/", "DocumentReference/", "ImagingSelection/"))


def _by_uid(uid: str) -> Json:
    return {"identifier": uid_identifier(uid)}


def _named(reference: Json) -> str:
    return str(reference.get("reference") or reference.get("identifier", {}).get("value", ""))
