"""The index of the profiles, as a page to read: ``conformance/fhir/README.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fhir_profiles.definition import Json

HEAD = """# FHIR profiles of what Sightline writes

Made by `make fhir`; do not edit. What is read, matched and written is told in
[fhir.md](../fhir.md), IHE's profiles in [ihe.md](../ihe.md). Load the files into any FHIR validator, or use the checker
here:

    PYTHONPATH=conformance .venv/bin/python -m fhir_check --written FILE ...     # exit code 1 when anything is wrong

The addresses are OIDs, since the project owns no domain. Sightline does not write them into `meta.profile`: servers
that hold resources to every profile they claim would refuse those they do not know. [examples/](examples) has each
resource, made from synthetic evidence.
"""
TAIL = """
## Extensions

None of our own. Used are R5's elements as cross-version extensions (R5 versions.html#extensions:
`http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection.*` and
`extension-DiagnosticReport.supportingInfo`), of HL7's extension pack `textLink` and `data-absent-reason`, and of the
Subscriptions R5 Backport `backport-filter-criteria` and `backport-payload-content`.
"""


def index(resources: Iterable[Json]) -> str:
    """The page for *resources*."""
    listed = list(resources)
    profiles = [each for each in listed if each["resourceType"] == "StructureDefinition"]
    rest = [each for each in listed if each["resourceType"] != "StructureDefinition"]
    return "\n".join((HEAD, *_profiles(profiles), *_codes(rest), TAIL.lstrip("\n")))


def _profiles(profiles: list[Json]) -> Iterator[str]:
    yield "| profile | of | FHIR | what it is |\n|---|---|---|---|"
    for each in profiles:
        link = f"[{each['name']}](profiles/StructureDefinition-{each['id']}.json)"
        yield f"| {link} | {each['type']} | {each['fhirVersion']} | {each['description']} |"
    for each in profiles:
        yield f"\n## {each['name']}\n\n`{each['url']}`"
        rules = each["differential"]["element"][0].get("constraint", ())
        if rules:
            yield "\n| rule | |\n|---|---|"
        for rule in rules:
            yield f"| {rule['key']} | {rule['human']} |"
        asked = [one for one in each["differential"]["element"] if one.get("requirements")]
        if asked:
            yield "\n| element | why it is constrained |\n|---|---|"
        for one in asked:
            yield f"| `{one['id'].partition('.')[2]}` | {one['requirements']} |"


def _codes(resources: list[Json]) -> Iterator[str]:
    yield "\n## Codes\n\n| name | address | codes |\n|---|---|---|"
    for each in resources:
        parts = [each] if each["resourceType"] == "CodeSystem" else each["compose"]["include"]
        codes = ", ".join(f"`{concept['code']}`" for part in parts for concept in part["concept"])
        link = f"[{each['name']}](profiles/{each['resourceType']}-{each['id']}.json)"
        yield f"| {link}: {each['title']} | `{each['url']}` | {codes} |"
