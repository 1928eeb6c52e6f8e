"""The same results in the form of R5: each profile as that of R4, but for what R5 names, types or holds otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from fhir_profiles.definition import (
    DCM,
    Json,
    at,
    coded,
    element,
    entry,
    naming,
    of_r5,
    only,
    rule,
)
from fhir_profiles.results import AUDIT, DEVICE, DOCUMENT, FORMAT, PHRASE, PROVENANCE, REGION, TRANSACTION, claims


def in_r5(
    profile: Json,
    *,
    instead: Mapping[str, Iterable[Json]] | None = None,
    rules: Mapping[str, Json | None] | None = None,
) -> Json:
    """*profile* for R5.

    Parameters
    ----------
    instead : path -> what stands there in R5, for it and all below it; an empty path adds at the end.
    rules : key -> the invariant of R5, None where there is none; a new key adds one.
    """
    kind, changes, said = profile["type"], dict(instead or {}), dict(rules or {})
    root, *elements = profile["differential"]["element"]
    kept = [each for each in root.get("constraint", ()) if each["key"] not in said]
    constraints = [*kept, *filter(None, said.values())]
    made: list[Json] = [{"id": kind, "path": kind} | ({"constraint": constraints} if constraints else {})]
    for each in elements:
        path = each["id"].partition(".")[2]
        within = (name for name in changes if name and f"{path}.".startswith((f"{name}.", f"{name}:")))
        changed = next(within, "")
        if not changed:
            made.append(each)
        elif path == changed:
            made += [element(kind, one) for one in changes[changed]]
    made += [element(kind, one) for one in changes.get("", ())]
    text = json.dumps(made)
    for other in (DEVICE, PHRASE, DOCUMENT, PROVENANCE, AUDIT):
        text = text.replace(f'"{other["url"]}"', f'"{of_r5(other)["url"]}"')
    return of_r5(profile) | {"differential": {"element": json.loads(text)}}


def rule_of(profile: Json, key: str, old: str, new: str) -> Json:
    """The invariant *key* of *profile* with another expression."""
    (found,) = (each for each in profile["differential"]["element"][0]["constraint"] if each["key"] == key)
    return found | {"expression": found["expression"].replace(old, new)}


PHRASE_R5 = in_r5(
    PHRASE,
    instead={
        "derivedFrom": [at("derivedFrom", "The regions: resources of their own in R5.", type=only("ImagingSelection"))],
        "component:region.extension": [at("component:region.extension", max="0")],
    },
    rules={
        "sl-3": rule(
            "sl-3",
            "A region has either words for its place or a dataAbsentReason",
            f"{REGION}.all(value.exists() xor dataAbsentReason.exists())",
        ),
        "sl-9": None,
        "sl-10": None,
        "sl-11": None,
        "sl-14": rule(
            "sl-14",
            "A phrase is derived from its regions exactly where it has some",
            f"{REGION}.where(value.exists()).exists() = derivedFrom.exists() and"
            f" ({claims('NEG')} implies derivedFrom.empty())",
        ),
    },
)

DEVICE_R5 = in_r5(
    DEVICE,
    instead={
        "deviceName": [at("name", min=1, max="1"), at("name.type", fixedCode="user-friendly-name")],
        "patient": [],
    },
)

DOCUMENT_R5 = in_r5(
    DOCUMENT,
    instead={
        "subject": [
            at("subject", type=only("Patient")),
            at("event", "The report version and the study; R4's context.related.", min=2, max="2"),
            at("event.reference", min=1, type=only("DiagnosticReport", "ImagingStudy")),
        ],
        "context": [],
    },
    rules={
        "sl-30": rule(
            "sl-30",
            "Related are one report and one study",
            f"{naming('event.reference', 'DiagnosticReport')}.count() = 1"
            f" and {naming('event.reference', 'ImagingStudy')}.count() = 1",
        ),
        "sl-31": rule_of(DOCUMENT, "sl-31", FORMAT, FORMAT.replace("format.", "profile.value.")),
    },
)

PROVENANCE_R5 = in_r5(PROVENANCE)

AUDIT_R5 = in_r5(
    AUDIT,
    instead={
        "type": [at("category", min=1, max="1", patternCodeableConcept=coded(DCM, "110100"))],
        "subtype": [],
        "outcome": [],
        "outcomeDesc": [at("outcome", min=1), at("outcome.code.code", fixedCode="0"), at("outcome.detail", max="0")],
        "agent.name": [],
        "entity.name": [],
        "entity.description": [],
    },
)

TRANSACTION_R5 = in_r5(
    TRANSACTION,
    instead={"": [*entry("selection", "ImagingSelection", "SightlineImagingSelection")]},
)

PROFILES = (PHRASE_R5, DEVICE_R5, DOCUMENT_R5, PROVENANCE_R5, AUDIT_R5, TRANSACTION_R5)
