"""What is written for a server of R4 in the form of R5: elements that were renamed, repeat, or changed their type.

R5 5.0.0, "R4 Differences" of each resource. What has no place in R5 is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from plugin.fhir.codes import IMAGE_REGION, coding
from plugin.fhir.parts import Fhir

OUTCOMES = {
    "0": coding("AUDIT_OUTCOME", "0", "Success"),
    "4": coding("AUDIT_OUTCOME", "4", "Minor failure"),
    "8": coding("AUDIT_OUTCOME", "8", "Serious failure"),
}


def as_r5(resource: Fhir) -> Fhir:
    """*resource*, one that Sightline writes, as R5; types that did not change are returned as they are."""
    change = _CHANGES.get(resource["resourceType"])
    return change(resource) if change else resource


def _device(device: Fhir) -> Fhir:
    """deviceName became name with other kinds of names; a Device can be of several types."""
    names = [{"value": each["name"], "type": "user-friendly-name"} for each in device["deviceName"]]
    return _without(device, "deviceName") | {"name": names, "type": [device["type"]]}


def _observation(observation: Fhir) -> Fhir:
    """Regions are resources of their own in R5, which the Observation is derived from: no extensions stand for them."""
    components = [
        _without(each, "extension") if each["code"] == IMAGE_REGION else each for each in observation["component"]
    ]
    return observation | {"component": components}


def _provenance(provenance: Fhir) -> Fhir:
    """Why something was done became its authorization."""
    told = _without(provenance, "reason")
    return told | {"authorization": [{"concept": each} for each in provenance.get("reason", ())] or None}


def _document(document: Fhir) -> Fhir:
    """context.related became event; a format is one kind of profile; sizes are integer64, which JSON has as text."""
    events = [{"reference": related} for related in document["context"]["related"]]
    contents = [_content(each) for each in document["content"]]
    return _without(document, "context") | {"event": events, "content": contents}


def _content(content: Fhir) -> Fhir:
    attachment = dict(content["attachment"])
    if "size" in attachment:
        attachment["size"] = str(attachment["size"])
    told: Fhir = {"attachment": attachment}
    return told | ({"profile": [{"valueCoding": content["format"]}]} if "format" in content else {})


def _audit_event(event: Fhir) -> Fhir:
    """Codes became concepts, and the patient of an event has an element."""
    patients = [each["what"] for each in event["entity"] if each["type"]["code"] == "1"]
    others = [each for each in event["entity"] if each["type"]["code"] != "1"]
    (what,) = event.get("subtype") or (event["type"],)
    detail = [{"text": event["outcomeDesc"]}] if event.get("outcomeDesc") else None
    return _without(event, "type", "subtype", "outcomeDesc") | {
        "category": [{"coding": [event["type"]]}],
        "code": {"coding": [what]},
        "outcome": {"code": OUTCOMES[event["outcome"]], "detail": detail},
        "agent": [_agent(each) for each in event["agent"]],
        "source": event["source"] | {"type": [{"coding": [each]} for each in event["source"]["type"]]},
        "patient": patients[0] if patients else None,
        "entity": [{"what": each["what"], "role": {"coding": [each["role"]]}} for each in others] or None,
    }


def _agent(agent: Fhir) -> Fhir:
    network = agent.get("network")
    return _without(agent, "network") | ({"networkString": network["address"]} if network else {})


def _diagnostic_report(report: Fhir) -> Fhir:
    """The study and the report that ours repeats have other places; sizes are text, as above."""
    told = {"study" if name == "imagingStudy" else name: value for name, value in report.items() if name != "extension"}
    (repeated,) = ({part["url"]: part for part in each["extension"]} for each in report["extension"])
    what = {"type": repeated["type"]["valueCodeableConcept"], "reference": repeated["reference"]["valueReference"]}
    forms = [form | {"size": str(form["size"])} for form in report["presentedForm"]]
    return told | {"supportingInfo": [what], "presentedForm": forms}


def _without(part: Fhir, *names: str) -> Fhir:
    return {name: value for name, value in part.items() if name not in names}


_CHANGES: dict[str, Callable[[Fhir], Fhir]] = {
    "Device": _device,
    "DiagnosticReport": _diagnostic_report,
    "Observation": _observation,
    "DocumentReference": _document,
    "Provenance": _provenance,
    "AuditEvent": _audit_event,
}
