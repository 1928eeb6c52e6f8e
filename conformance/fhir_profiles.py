"""The profiles of what Sightline writes, as StructureDefinitions: the rules in one place, the files made from them.

    python conformance/fhir_profiles.py     # writes conformance/fhir/profiles

Written in Python, not in FHIR Shorthand: its compiler wants Node and the core packages from a registry and makes no
snapshots either. Differentials only: tools that need a snapshot (HAPI, the IG publisher) make it themselves, and
``fhir_check`` reads the differential. ``requirements`` tells why an element is constrained, and the clause if one
asks for it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a program, from anywhere

from plugin.identity import derived_uid  # noqa: E402

Json = dict[str, Any]

FOLDER = ROOT / "conformance" / "fhir" / "profiles"
DATE = "2026-11-26"
CORE = "http://hl7.org/fhir/StructureDefinition/"
R5_ELEMENT = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."
DCM, SCT, LOINC = "http://dicom.nema.org/resources/ontology/DCM", "http://snomed.info/sct", "http://loinc.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
URI, DICOM_UID = "urn:ietf:rfc:3986", "urn:dicom:uid"
OWN = f"urn:oid:{derived_uid('code system', 'sightline')}"
IMR = "IHE RAD IMR 1.1.0, RAD-141, "
IMR_BUNDLE = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-store-multimedia-report-bundle"
IMR_REPORT = "IHE RAD IMR 1.1.0, StructureDefinition imr-diagnosticreport"


def canonical(name: str) -> str:
    """The address of one of our artefacts: an OID, since the project owns no domain."""
    return f"urn:oid:{derived_uid('conformance', name)}"


def at(path: str, why: str = "", **constraints: Any) -> Json:
    """What is said about the element at *path* below the resource ("component:region.code" is within a slice)."""
    return {"at": path, "requirements": why} | constraints


def by(kind: str, path: str, *, rules: str = "open") -> Json:
    """Slices told apart by value, pattern or type at *path*."""
    return {"discriminator": [{"type": kind, "path": path}], "ordered": False, "rules": rules}


def coded(system: str, code: str) -> Json:
    """A pattern for a CodeableConcept."""
    return {"coding": [{"system": system, "code": code}]}


def only(*targets: str) -> list[Json]:
    """A Reference to these types."""
    return [{"code": "Reference", "targetProfile": [CORE + each for each in targets]}]


def is_a(kind: str, name: str | None = None) -> list[Json]:
    """A type, as one of our profiles if *name* is given."""
    return [{"code": kind, "profile": [canonical(name)]}] if name else [{"code": kind}]


def extension(url: str) -> list[Json]:
    """An Extension of that address."""
    return [{"code": "Extension", "profile": [url]}]


def required(name: str) -> Json:
    """A required binding to one of our value sets."""
    return {"strength": "required", "valueSet": canonical(name)}


def rule(key: str, human: str, expression: str, source: str = "") -> Json:
    """An invariant of severity error."""
    found = {"key": key, "severity": "error", "human": human, "expression": expression}
    return found | ({"source": source} if source else {})


def profile(  # every argument is a part of a StructureDefinition
    name: str, kind: str, description: str, *elements: Json, title: str, rules: tuple[Json, ...] = (), r5: bool = False
) -> Json:
    """A StructureDefinition that constrains *kind*."""
    root = {"id": kind, "path": kind, "constraint": list(rules)}
    version = "5.0.0" if r5 else "4.0.1"
    return {
        "resourceType": "StructureDefinition",
        "id": re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "-", name).lower(),
        "url": canonical(name),
        "name": name,
        "title": title,
        "status": "active",
        "date": DATE,
        "publisher": "Sightline",
        "description": description,
        "fhirVersion": version,
        "kind": "resource",
        "abstract": False,
        "type": kind,
        "baseDefinition": CORE + kind,
        "derivation": "constraint",
        "differential": {
            "element": [root if rules else {"id": kind, "path": kind}, *(_element(kind, e) for e in elements)]
        },
    }


def _element(kind: str, said: Json) -> Json:
    identity = f"{kind}.{said['at']}"
    slice_name = identity.rpartition(".")[2].partition(":")[2]
    head = {"id": identity, "path": re.sub(r":\w+", "", identity)} | ({"sliceName": slice_name} if slice_name else {})
    return head | {name: value for name, value in said.items() if name != "at" and value not in ("", ())}


def value_set(name: str, title: str, **codes: tuple[str, ...]) -> Json:
    """A ValueSet of listed codes; *codes*: system name -> codes."""
    systems = {
        "status": "http://hl7.org/fhir/observation-status",
        "reference_status": "http://hl7.org/fhir/document-reference-status",
        "composition_status": "http://hl7.org/fhir/composition-status",
        "interpretation": TERMINOLOGY + "v3-ObservationInterpretation",
        "absent": TERMINOLOGY + "data-absent-reason",
        "sightline": OWN,
        "mime": "urn:ietf:bcp:13",
        "verb": "http://hl7.org/fhir/http-verb",
        "report_status": "http://hl7.org/fhir/diagnostic-report-status",
    }
    return {
        "resourceType": "ValueSet",
        "id": re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower(),
        "url": canonical(name),
        "name": name,
        "title": title,
        "status": "active",
        "date": DATE,
        "publisher": "Sightline",
        "compose": {
            "include": [
                {"system": systems[system], "concept": [{"code": each} for each in listed]}
                for system, listed in codes.items()
            ]
        },
    }


CODE_SYSTEM = {
    "resourceType": "CodeSystem",
    "id": "sightline",
    "url": OWN,
    "name": "Sightline",
    "title": "Codes of Sightline's own",
    "status": "active",
    "date": DATE,
    "publisher": "Sightline",
    "caseSensitive": True,
    "content": "complete",
    "concept": [
        {"code": "phrase-start", "display": "First character of the phrase in the report text, counted from 0"},
        {"code": "phrase-end", "display": "First character after the phrase in the report text, counted from 0"},
        {"code": "multimedia-report", "display": "Report whose phrases are linked to their image regions"},
    ],
}

VALUE_SETS = (
    value_set("PhraseStatus", "Status of a phrase's Observation", status=("preliminary", "final", "entered-in-error")),
    value_set("PhraseInterpretation", "What a report claims of a finding", interpretation=("POS", "IND", "NEG")),
    value_set("NoRegionReason", "Why an asserted phrase has no region", absent=("unknown", "unsupported")),
    value_set(
        "EntryStatus", "Status of a portal's entry", reference_status=("current", "superseded", "entered-in-error")
    ),
    value_set(
        "EntryDocStatus",
        "Status of what an entry shows",
        composition_status=("preliminary", "final", "amended", "entered-in-error"),
    ),
    value_set("EntryContent", "What an entry holds", mime=("text/html", "application/dicom")),
    value_set(
        "MultimediaReportStatus",
        "Status of a multimedia report (Table 2:4.141.4.1.2.2.1-1)",
        report_status=("partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled"),
    ),
)

# Observation


def having(*codes: str) -> str:
    """FHIRPath: the components with one of these codes."""
    said = " or ".join(f"code = '{each}'" for each in codes)
    return f"component.where(code.coding.where({said}).exists())"


def claims(code: str) -> str:
    """FHIRPath: whether the interpretation is *code*."""
    return f"interpretation.coding.where(code = '{code}').exists()"


UID = r"^urn:oid:[0-2](\\.(0|[1-9][0-9]*))+$"
BARE_UID = r"^[0-2](\\.(0|[1-9][0-9]*))+$"
HASH_URI = "^ni:///sha-256;[A-Za-z0-9_-]{43}$"
REGION, SEGMENT = having("111030"), having("121191")
CORNERS = "extension.where(url = 'coordinate').value"
CLOSED = (
    f"extension.where(url = 'regionType').value = 'polyline' and {CORNERS}.count() >= 8 and {CORNERS}.count() mod 2 = 0"
    f" and {CORNERS}.first() = {CORNERS}.skip({CORNERS}.count() - 2).first()"
    f" and {CORNERS}.skip(1).first() = {CORNERS}.last() and {CORNERS}.all($this >= 0)"
)
PLACED = "(extension.count() = 3 and value.exists() and dataAbsentReason.empty())"
UNPLACED = "(extension.empty() and value.empty() and dataAbsentReason.exists())"
SERIES = f"extension.where(url = '{R5_ELEMENT}studyUid' or url = '{R5_ELEMENT}seriesUid')"

PHRASE = profile(
    "SightlinePhraseObservation",
    "Observation",
    "One phrase of a report: what it claims, how sure the model is, and where it lights the image.",
    at("text", "A portal that knows no component shows this.", min=1),
    at("contained", max="0"),
    at("extension", max="0"),
    at("modifierExtension", max="0"),
    at("identifier", min=1, slicing=by("pattern", "system")),
    at("identifier:tracking", "The tracking UID that SEG and SR carry.", min=1, max="1"),
    at("identifier:tracking.system", min=1, patternUri=DICOM_UID),
    at("identifier:tracking.value", min=1),
    at("basedOn", type=only("ServiceRequest")),
    at("partOf", "The study.", min=1, max="1", type=only("ImagingStudy")),
    at(
        "status",
        "Preliminary until a radiologist accepts; entered-in-error when withdrawn.",
        binding=required("PhraseStatus"),
    ),
    at("category", min=1, slicing=by("pattern", "$this")),
    at(
        "category:imaging",
        min=1,
        max="1",
        patternCodeableConcept=coded(TERMINOLOGY + "observation-category", "imaging"),
    ),
    at("code", "DICOM PS3.16: 121071 Finding.", patternCodeableConcept=coded(DCM, "121071")),
    at("subject", type=only("Patient")),
    at("focus", "The report version that was read.", min=1, max="1", type=only("DiagnosticReport")),
    at("issued", min=1),
    at("device", "The model.", min=1, type=only("Device")),
    at("value[x]", "The phrase.", min=1, type=is_a("CodeableConcept")),
    at("value[x].text", "The phrase, verbatim but for control characters.", min=1),
    at("dataAbsentReason", max="0"),
    at("interpretation", "What the report claims.", min=1, max="1", binding=required("PhraseInterpretation")),
    at("hasMember", max="0"),
    at("derivedFrom", max="0"),
    at("component", min=2, slicing=by("pattern", "code", rules="closed")),
    at("component:certainty", max="1"),
    at("component:certainty.code", patternCodeableConcept=coded(DCM, "111012")),
    at(
        "component:certainty.value[x]",
        min=1,
        type=is_a("Quantity"),
        patternQuantity={"system": "http://unitsofmeasure.org", "code": "%"},
    ),
    at("component:start", min=1, max="1"),
    at("component:start.code", patternCodeableConcept=coded(OWN, "phrase-start")),
    at("component:start.value[x]", min=1, type=is_a("integer")),
    at("component:end", min=1, max="1"),
    at("component:end.code", patternCodeableConcept=coded(OWN, "phrase-end")),
    at("component:end.value[x]", min=1, type=is_a("integer")),
    at("component:region"),
    at(
        "component:region.extension",
        "R5 ImagingSelection, element by element.",
        slicing=by("value", "url", rules="closed"),
    ),
    at("component:region.extension:studyUid", max="1", type=extension(R5_ELEMENT + "studyUid")),
    at("component:region.extension:seriesUid", max="1", type=extension(R5_ELEMENT + "seriesUid")),
    at("component:region.extension:instance", max="1", type=extension(R5_ELEMENT + "instance")),
    at("component:region.code", patternCodeableConcept=coded(DCM, "111030")),
    at("component:region.value[x]", type=is_a("string")),
    at("component:region.dataAbsentReason", binding=required("NoRegionReason")),
    at("component:segment"),
    at("component:segment.extension", min=1, slicing=by("value", "url", rules="closed")),
    at("component:segment.extension:instance", min=1, max="1", type=extension(R5_ELEMENT + "instance")),
    at("component:segment.code", patternCodeableConcept=coded(DCM, "121191")),
    at("component:segment.value[x]", min=1, type=is_a("integer")),
    title="A phrase of a report and its regions",
    rules=(
        rule(
            "sl-1",
            "A denied phrase has neither region nor segment",
            f"{claims('NEG')} implies {having('111030', '121191')}.empty()",
        ),
        rule(
            "sl-2", "An asserted phrase has a region, or says why it has none", f"{claims('NEG')} or {REGION}.exists()"
        ),
        rule(
            "sl-3",
            "A region has either a place (and words for it) or a dataAbsentReason",
            f"{REGION}.all({PLACED} or {UNPLACED})",
        ),
        rule(
            "sl-4",
            "Where nothing is grounded, there is one region component and no segment",
            f"{REGION}.where(dataAbsentReason.exists()).empty() or ({REGION}.count() = 1 and {SEGMENT}.empty())",
        ),
        rule(
            "sl-5",
            "A phrase starts before it ends, at a character that is there",
            f"{having('phrase-start')}.value < {having('phrase-end')}.value and {having('phrase-start')}.value >= 0",
        ),
        rule("sl-6", "Certainty is a percentage", f"{having('111012')}.all(value.value >= 0 and value.value <= 100)"),
        rule(
            "sl-7", "Only what the report commits itself to is coded", f"{claims('IND')} implies value.coding.empty()"
        ),
        rule(
            "sl-8",
            "Absence is coded exactly where the report denies",
            f"{claims('NEG')} = value.coding.where(system = '{SCT}' and code = '373572006').exists()",
        ),
        rule(
            "sl-9",
            "A region is a closed polyline of at least three corners in pixels (R5 ImagingSelection has no polygon)",
            f"{REGION}.extension.extension.where(url = 'imageRegion2D').all({CLOSED})",
        ),
        rule(
            "sl-10",
            "A region names study, series and instance by bare UID",
            f"{REGION}.{SERIES}.all(value.matches('{BARE_UID}'))"
            f" and {REGION}.extension.extension.where(url = 'uid').all(value.matches('{BARE_UID}'))",
        ),
        rule(
            "sl-11",
            "A region is drawn on one instance",
            f"{REGION}.where(extension.exists()).all(extension.extension.where(url = 'imageRegion2D').count() = 1)",
        ),
        rule(
            "sl-12",
            "The referenced segment's number is its instance's subset",
            f"{SEGMENT}.all(value > 0 and value.toString() = extension.extension.where(url = 'subset').value)",
        ),
        rule(
            "sl-13",
            "The tracking UID is a UID",
            f"identifier.where(system = '{DICOM_UID}').value.all($this.matches('{UID}'))",
        ),
    ),
)

DEVICE = profile(
    "SightlineDevice",
    "Device",
    "The model that made a result: name, version and the hash of its weights.",
    at("text", min=1),
    at("contained", max="0"),
    at("extension", max="0"),
    at("identifier", "The weights by their hash (RFC 6920).", min=1, max="1"),
    at("identifier.system", min=1, fixedUri=URI),
    at("identifier.value", min=1),
    at("status", min=1, fixedCode="active"),
    at("manufacturer", min=1, fixedString="Sightline"),
    at("deviceName", min=1, max="1"),
    at("deviceName.type", fixedCode="model-name"),
    at("modelNumber", "The model's version.", min=1),
    at("type", min=1),
    at("type.text", min=1),
    at("version", min=2, slicing=by("pattern", "type")),
    at("version:software", min=1, max="1"),
    at("version:software.type", min=1, patternCodeableConcept={"text": "software"}),
    at("version:reader", min=1, max="1"),
    at("version:reader.type", min=1, patternCodeableConcept={"text": "report reader"}),
    at("patient", "A model belongs to no patient.", max="0"),
    title="The model",
    rules=(
        rule("sl-20", "The identifier is a SHA-256 by RFC 6920", f"identifier.value.all($this.matches('{HASH_URI}'))"),
    ),
)


def naming(path: str, kind: str) -> str:
    """FHIRPath: the references at *path* to a resource of *kind*, by address or by identifier."""
    return f"{path}.where(type = '{kind}' or reference.startsWith('{kind}/'))"


RELATED, WHAT = "context.related", "entity.what"
PAGE = "content.attachment.where(contentType = 'text/html')"
FORMAT = "format.where(system = 'urn:oid:1.2.840.10008.2.6.1').exists()"
DICOM_CONTENT = "content.where(attachment.contentType = 'application/dicom')"
DOCUMENT = profile(
    "SightlineDocumentReference",
    "DocumentReference",
    "The entry that portals list: the page, the SEG and the SR of a study and a report. "
    "International Patient Access has DocumentReference and no DiagnosticReport.",
    at("text", min=1),
    at("contained", max="0"),
    at("extension", max="0"),
    at("status", binding=required("EntryStatus")),
    at("docStatus", min=1, binding=required("EntryDocStatus")),
    at("category", min=1, slicing=by("pattern", "$this")),
    at("category:radiology", min=1, max="1", patternCodeableConcept=coded(LOINC, "LP29684-5")),
    at("subject", type=only("Patient")),
    at("date", min=1),
    at("author", min=1, max="1", type=only("Device")),
    at("content.attachment.contentType", min=1, binding=required("EntryContent")),
    at("content.attachment.data", "Pages and objects are fetched from where they are.", max="0"),
    at("content.attachment.url", min=1),
    at("context", min=1),
    at(
        "context.related",
        "The report version and the study.",
        min=2,
        max="2",
        type=only("DiagnosticReport", "ImagingStudy"),
    ),
    title="A portal's entry",
    rules=(
        rule(
            "sl-30",
            "Related are one report and one study",
            f"{naming(RELATED, 'DiagnosticReport')}.count() = 1 and {naming(RELATED, 'ImagingStudy')}.count() = 1",
        ),
        rule(
            "sl-31",
            "A DICOM object has its size, hash and SOP class, and is named by its UID",
            f"{DICOM_CONTENT}.all(attachment.size.exists() and attachment.hash.exists() and {FORMAT}"
            f" and attachment.url.matches('{UID}'))",
        ),
        rule(
            "sl-32",
            "Size and hash (SHA-1, base64) are given together",
            "content.attachment.all(size.exists() = hash.exists() and hash.all($this.matches('^[A-Za-z0-9+/]{27}=$')))",
        ),
        rule(
            "sl-33",
            "There is at most one page, and it opens in a browser",
            f"{PAGE}.count() <= 1 and {PAGE}.url.all($this.matches('^https?://'))",
        ),
    ),
)

PROVENANCE = profile(
    "SightlineProvenance",
    "Provenance",
    "Who made the results of a report version and a study, and from what.",
    at("contained", max="0"),
    at("extension", max="0"),
    at("agent", min=1, max="1"),
    at("agent.type", min=1, patternCodeableConcept=coded(TERMINOLOGY + "provenance-participant-type", "author")),
    at("agent.who", type=only("Device")),
    at("entity", min=2),
    at("entity.role", fixedCode="source"),
    title="How results came about",
    rules=(
        rule(
            "sl-40",
            "Sources are one report version and the hash of the text that was read",
            f"{naming(WHAT, 'DiagnosticReport')}.count() = 1"
            " and entity.what.identifier.where(value.startsWith('ni:///sha-256;')).count() = 1",
        ),
        rule(
            "sl-41",
            "Sources are the images, by UID",
            f"{WHAT}.identifier.where(system = '{DICOM_UID}').exists()"
            f" and {WHAT}.identifier.where(system = '{DICOM_UID}').all(value.matches('{UID}'))",
        ),
        rule(
            "sl-42",
            "The hash is a SHA-256 by RFC 6920",
            f"{WHAT}.identifier.where(value.startsWith('ni:')).all(value.matches('{HASH_URI}'))",
        ),
    ),
)


def entry(
    name: str, kind: str, as_profile: str | None, *, low: int = 0, high: str = "*", method: str = "PUT"
) -> Iterator[Json]:
    """The slice of a Bundle's entries for one resource type."""
    yield at(f"entry:{name}", min=low, max=high)
    yield at(f"entry:{name}.resource", min=1, type=is_a(kind, as_profile))
    yield at(f"entry:{name}.request", min=1)
    yield at(f"entry:{name}.request.method", fixedCode=method)


TRANSACTION = profile(
    "SightlineTransaction",
    "Bundle",
    "What Sightline writes for one report version and one study, in one transaction of PUTs to derived ids.",
    at("type", fixedCode="transaction"),
    at("entry", min=2, slicing=by("type", "resource", rules="closed")),
    *entry("device", "Device", "SightlineDevice", low=1, high="1"),
    *entry("phrase", "Observation", "SightlinePhraseObservation"),
    *entry("document", "DocumentReference", "SightlineDocumentReference", high="1"),
    *entry("provenance", "Provenance", "SightlineProvenance", low=1, high="1"),
    title="One transaction",
)

PROFILES = (DEVICE, PHRASE, DOCUMENT, PROVENANCE, TRANSACTION)


def artefacts() -> dict[str, Json]:
    """File name -> resource."""
    return {f"{each['resourceType']}-{each['id']}.json": each for each in (CODE_SYSTEM, *VALUE_SETS, *PROFILES)}


def as_text(resource: Json) -> str:
    """*resource* as its file holds it."""
    return json.dumps(resource, ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    """Write the files anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.glob("*.json"):
        stale.unlink()
    for name, resource in artefacts().items():
        (FOLDER / name).write_text(as_text(resource), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
