"""What becomes of resources written before: phrases that are gone, reports that are withdrawn, decisions that stay.

Pure: *there* is what the server holds of ours about a study and a report, as FHIR JSON of its release.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from plugin.fhir.audit import DEPRECATE, audit_event
from plugin.fhir.capability import Release
from plugin.fhir.codes import DECIDED_HERE, IMAGE_REGION, coded
from plugin.fhir.parts import URI, Fhir, device_id, logical, name_of, narrative, present
from plugin.fhir.r5 import as_r5
from plugin.fhir.resource import is_fhir_id, local_name
from plugin.fhir.writing import device_of, document_id, observation_id, put, transaction
from plugin.identity import derived_id
from plugin.values import Provenance, StudyRef

WITHDRAWN = "entered-in-error"
DECIDED = ("final", "amended", "corrected")
"""Statuses of an Observation that only a radiologist gives."""
NULLIFY = coded("OPERATION", "NULLIFY", "nullify")
_DECISION = ("status", "text", "performer", "note")


def names_of(study: StudyRef, report_id: str, tracking_uids: Iterable[str]) -> tuple[str, ...]:
    """The portal's entry of a study and a report, and the Observations of phrases, as "Type/id"."""
    document = document_id(study.study_instance_uid, report_id)
    observations = (f"Observation/{observation_id(uid)}" for uid in sorted(tracking_uids))
    return f"DocumentReference/{document}", *observations


def selections_among(there: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The ImagingSelections that Observations of *there* are derived from, as "Type/id"."""
    links = (link.get("reference", "") for each in there for link in each.get("derivedFrom", ()))
    names = (local_name(link) for link in links)
    return tuple(dict.fromkeys("/".join(name) for name in names if name and name[0] == "ImagingSelection"))


def resources_in(bundle: str) -> frozenset[str]:
    """What *bundle*, a transaction of PUT entries, writes, as "Type/id"."""
    return frozenset(entry["request"]["url"] for entry in json.loads(bundle)["entry"])


def settled(bundle: str, there: Sequence[Mapping[str, Any]]) -> str:
    """*bundle*, the transaction of an evidence, for a server that holds *there*.

    What is there and no longer asked for is withdrawn. A radiologist's decision stays as long as the phrase claims the
    same in the same place.
    """
    document = json.loads(bundle)
    before = {name_of(dict(each)): dict(each) for each in there}
    entries = [put(_with_decision(entry["resource"], before)) for entry in document["entry"]]
    asked = {entry["request"]["url"] for entry in entries}
    gone = [put(withdrawn(each)) for name, each in before.items() if name not in asked]
    return _over(document | {"entry": [*entries, *gone]}, there)


def withdrawn(resource: Fhir) -> Fhir:
    """*resource* (Observation, DocumentReference, ImagingSelection) as one that should never have been.

    It keeps what says whom and what it was about; a selection loses its place, so that no viewer draws it.
    """
    known = {name: value for name, value in resource.items() if name not in ("meta", "instance")}
    meta = {name: value for name, value in resource.get("meta", {}).items() if name in ("profile", "tag", "security")}
    said = "This was withdrawn: the report no longer says so."
    if resource["resourceType"] == "DocumentReference":
        known |= {"docStatus": WITHDRAWN}
        said = "This was withdrawn together with its report."
    return {
        **({"meta": meta} if meta else {}),
        **known,
        "status": WITHDRAWN,
        "text": narrative(said),
    }


def withdrawal(
    study: StudyRef,
    report_id: str,
    there: Sequence[Mapping[str, Any]],
    *,
    by: Provenance,
    now: datetime,
    release: Release = Release.R4,
) -> str | None:
    """The transaction that takes back everything of *there*; None when nothing of it stands any more.

    Parameters
    ----------
    by : the software that takes it back, as it makes results.
    now : when.

    Raises
    ------
    ConformanceError
        If a resource is not valid.
    """
    if all(each.get("status") == WITHDRAWN for each in there):
        return None
    gone = [withdrawn(dict(each)) for each in there]
    device: Fhir = {"reference": f"Device/{device_id(by)}"}
    report = _report(report_id)
    recorded = (now if now.tzinfo else now.replace(tzinfo=UTC)).isoformat()
    versions = (link["reference"] for each in there for link in each.get("focus", ()) if "reference" in link)
    key = (study.study_instance_uid, report_id, *sorted({*versions, *map(name_of, gone)}))
    targets: list[Fhir] = [{"reference": name_of(each)} for each in gone]
    provenance = {
        "resourceType": "Provenance",
        "id": derived_id("Provenance of a withdrawal", *key),
        "target": targets,
        "recorded": recorded,
        "activity": NULLIFY,
        "agent": [{"type": coded("PARTICIPANT", "author", "Author"), "who": device}],
        "entity": [{"role": "source", "what": report}],
    }
    event = audit_event(
        derived_id("AuditEvent of a withdrawal", *key),
        device=device,
        recorded=recorded,
        what=DEPRECATE,
        subject=next((dict(each["subject"]) for each in there if "subject" in each), None),
        read=[report],
        taken_back=targets,
    )
    form = as_r5 if release is Release.R5 else dict
    return _over(
        json.loads(transaction(present([form(device_of(by)), *gone, provenance, form(event)]), release)), there
    )


def _over(document: Fhir, there: Iterable[Mapping[str, Any]]) -> str:
    """*document* as JSON, to be written over *there* alone: what a radiologist decides in between is not lost."""
    versions = {name_of(dict(each)): each.get("meta", {}).get("versionId") for each in there}
    for request in (entry["request"] for entry in document["entry"]):
        if version := versions.get(request["url"]):
            request["ifMatch"] = f'W/"{version}"'
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _report(report_id: str) -> Fhir:
    if is_fhir_id(report_id):
        return {"reference": f"DiagnosticReport/{report_id}"}
    return logical(URI, report_id, kind="DiagnosticReport")


def _with_decision(resource: Fhir, before: Mapping[str, Fhir]) -> Fhir:
    earlier = before.get(name_of(resource), {})
    if resource["resourceType"] != "Observation" or earlier.get("status") not in DECIDED:
        return resource
    if resource["status"] in DECIDED or _is_decided_here(earlier):  # our own book of decisions knows better
        return resource
    if _claim(earlier) != _claim(resource):
        return resource
    return resource | {name: earlier[name] for name in _DECISION if name in earlier}


def _is_decided_here(observation: Fhir) -> bool:
    tags = observation.get("meta", {}).get("tag", ())
    told = (DECIDED_HERE["system"], DECIDED_HERE["code"])
    return any((tag.get("system"), tag.get("code")) == told for tag in tags)


def _claim(observation: Fhir) -> tuple[Any, ...]:
    """What somebody agreed to: what the phrase says, and where it is lit."""
    regions = [each for each in observation.get("component", ()) if each.get("code") == IMAGE_REGION]
    said = (observation.get(name) for name in ("valueCodeableConcept", "interpretation", "bodySite", "derivedFrom"))
    return (*said, regions)
