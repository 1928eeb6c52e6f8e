"""StructureDefinitions in few words: what a profile says of an element, and how that is written in FHIR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from plugin.identity import derived_uid

Json = dict[str, Any]

DATE = "2026-11-26"
CORE = "http://hl7.org/fhir/StructureDefinition/"
R5_ELEMENT = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."
DCM, SCT, LOINC = "http://dicom.nema.org/resources/ontology/DCM", "http://snomed.info/sct", "http://loinc.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
URI, DICOM_UID = "urn:ietf:rfc:3986", "urn:dicom:uid"
OWN = f"urn:oid:{derived_uid('code system', 'sightline')}"
UID = r"^urn:oid:[0-2](\\.(0|[1-9][0-9]*))+$"
BARE_UID = r"^[0-2](\\.(0|[1-9][0-9]*))+$"
HASH_URI = "^ni:///sha-256;[A-Za-z0-9_-]{43}$"


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


def rule(key: str, human: str, expression: str) -> Json:
    """An invariant of severity error."""
    return {"key": key, "severity": "error", "human": human, "expression": expression}


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
            "element": [root if rules else {"id": kind, "path": kind}, *(element(kind, e) for e in elements)]
        },
    }


def of_r5(definition: Json) -> Json:
    """*definition* under a name, and of the release, of its own: what a server of R5 gets."""
    name, kind = f"{definition['name']}R5", definition["type"]
    described = f"{definition['description']} The form for a server of R5."
    bare = profile(name, kind, described, title=f"{definition['title']} (R5)", r5=True)
    return definition | {each: bare[each] for each in ("id", "url", "name", "title", "description", "fhirVersion")}


def element(kind: str, said: Json) -> Json:
    """What is said (:func:`at`) as an ElementDefinition of *kind*."""
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
        "participant": TERMINOLOGY + "provenance-participant-type",
        "operation": TERMINOLOGY + "v3-DataOperation",
        "verb": "http://hl7.org/fhir/http-verb",
        "selection_status": "http://hl7.org/fhir/imagingselection-status",
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


def entry(
    name: str, kind: str, as_profile: str | None, *, low: int = 0, high: str = "*", method: str = "", why: str = ""
) -> Iterator[Json]:
    """The slice of a Bundle's entries for one resource type; *method* where only one is allowed."""
    said = {"fixedCode": method} if method else {"binding": required("WritingMethod")}
    yield at(f"entry:{name}", why, min=low, max=high)
    yield at(f"entry:{name}.resource", min=1, type=is_a(kind, as_profile))
    yield at(f"entry:{name}.request", min=1)
    yield at(f"entry:{name}.request.method", why, **said)


def naming(path: str, kind: str) -> str:
    """FHIRPath: the references at *path* to a resource of *kind*, by address or by identifier."""
    return f"{path}.where(type = '{kind}' or reference.startsWith('{kind}/'))"
