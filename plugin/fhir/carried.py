"""What our multimedia report takes over from the radiologist's: who made it, at which visit, what kind of report it is.

Other people's JSON goes in, and only what is valid R4 comes out; what cannot be used is left out. A reference is kept
when it is relative; one to a contained resource, to another server or inside a bundle becomes what is known of its
target: identifier and name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from plugin.fhir.parts import Fhir, clean, present
from plugin.fhir.resource import Element, Resources, identifiers, local_name

_PEOPLE = ("Practitioner", "PractitionerRole")
_REFERENCES = {
    "performer": (*_PEOPLE, "Organization", "CareTeam"),
    "resultsInterpreter": _PEOPLE,  # R4 allows organizations, too; IMR does not (imr-diagnosticreport)
}
# R4 datatypes, ``code`` and ``dateTime``.
_CODE = re.compile(r"\S+(\s\S+)*")
_DATE_TIME = re.compile(
    r"[1-9]\d{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])"
    r"(T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]((0\d|1[0-3]):[0-5]\d|14:00)))?)?)?"
)


def carried_of(report: Element, resources: Resources) -> str:
    """The elements of *report* that a multimedia report takes over, as a JSON object; absent ones are left out."""
    who = {
        name: list(_references(report, resources, name=name, kinds=kinds)) or None
        for name, kinds in _REFERENCES.items()
    }
    what = {
        "category": list(_concepts(report, "category")) or None,
        "code": next(_concepts(report, "code"), None),
        "encounter": next(_references(report, resources, name="encounter", kinds=("Encounter",)), None),
        **_effective(report),
    }
    return json.dumps(present(who | what), ensure_ascii=False, sort_keys=True)


def _references(report: Element, resources: Resources, *, name: str, kinds: tuple[str, ...]) -> Iterator[Fhir]:
    """The references *name* to resources of *kinds*, or to one of an unknown kind that is known by name only."""
    for reference in report.children(name):
        target = resources.resolve(reference, container=report)
        literal = local_name(reference.string("reference"))
        kind = target.type or (literal[0] if literal else reference.string("type"))
        if kind and kind not in kinds:
            continue
        relative = literal is not None and ":" not in reference.string("reference")
        known = present(
            {
                "reference": "/".join(literal) if literal and relative else None,
                "identifier": _identifier(reference) or _identifier(target),
                "display": clean(reference.string("display") or _name(target)) or None,
            }
        )
        if known:
            yield known | ({"type": kind} if kind else {})


def _identifier(element: Element) -> Fhir | None:
    first = next(iter(identifiers(element)), None)
    if first is None or not clean(first.value):
        return None
    system = first.system if re.fullmatch(r"\S+", first.system) else None
    return present({"system": system, "value": clean(first.value)})  # type: ignore[no-any-return]


def _name(target: Element) -> str:
    """The words that a Practitioner or an Organization goes by."""
    name = target.child("name")
    given = name.json.get("given")
    parts = [each for each in given if isinstance(each, str)] if isinstance(given, list) else []
    return target.string("name") or name.string("text") or " ".join(filter(None, (*parts, name.string("family"))))


def _concepts(report: Element, name: str) -> Iterator[Fhir]:
    for concept in report.children(name):
        codings = [coding for each in concept.children("coding") if (coding := _coding(each))]
        found = present({"coding": codings or None, "text": clean(concept.string("text")) or None})
        if found:
            yield found


def _coding(coding: Element) -> Fhir:
    system, code = coding.string("system"), coding.string("code")
    return present(  # type: ignore[no-any-return]
        {
            "system": system if re.fullmatch(r"\S+", system) else None,
            "code": code if _CODE.fullmatch(code) else None,
            "display": clean(coding.string("display")) or None,
        }
    )


def _effective(report: Element) -> Fhir:
    moment, period = report.string("effectiveDateTime"), report.child("effectivePeriod")
    if _DATE_TIME.fullmatch(moment):
        return {"effectiveDateTime": moment}
    ends = {name: value for name in ("start", "end") if _DATE_TIME.fullmatch(value := period.string(name))}
    return {"effectivePeriod": ends} if ends else {}
