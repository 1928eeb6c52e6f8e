"""An Observation as patients see it: what the report says and where it is, as on their page."""

from __future__ import annotations

from plugin.fhir.codes import CERTAINTY, IMAGE_REGION
from plugin.fhir.parts import Fhir, narrative

# Elements that are named here pass, so that new ones do not by themselves.
_SHOWN = (
    "resourceType",
    "id",
    "meta",
    "identifier",
    "basedOn",
    "partOf",
    "status",
    "category",
    "code",
    "subject",
    "focus",
    "issued",
    "device",
    "valueCodeableConcept",
    "interpretation",
    "bodySite",
)
#: That something was left out (R4 security-labels.html, "Security labels: integrity").
_REDACTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "REDACTED"}


def for_patients(observation: Fhir) -> Fhir:
    """*observation* without who decided about the region and why, and without the model's figures and reasons."""
    components = [_shown(each) for each in observation.get("component", ()) if each["code"] != CERTAINTY]
    marked = any(each["code"] == IMAGE_REGION and "valueString" in each for each in components)
    said = observation["valueCodeableConcept"].get("text", "")
    shown = {name: observation[name] for name in _SHOWN if name in observation}
    return shown | {
        "meta": observation.get("meta", {}) | {"security": [_REDACTED]},
        "text": narrative(f"The report says: {said}.", f"{'Marked' if marked else 'Nothing is marked'} on the image."),
        **({"component": components} if components else {}),
    }


def _shown(component: Fhir) -> Fhir:
    """A region that is missing is missing for a reason that is the software's own."""
    if "dataAbsentReason" not in component:
        return component
    return component | {"dataAbsentReason": {"coding": component["dataAbsentReason"]["coding"]}}
