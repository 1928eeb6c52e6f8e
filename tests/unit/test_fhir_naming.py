"""Derived ids at a server that gives ids itself: told to it, and told back, without a trace."""

import json

import pytest
from evidence import make_evidence

from plugin.fhir.naming import carries, condition, disowned, identity, in_derived_ids, in_server_ids, own_references
from plugin.fhir.own import OwnResources
from plugin.fhir.resource import Element
from plugin.fhir.writing import bundle_of
from plugin.identity import derived_id

DEVICE = f"Device/{derived_id('Device', 'a')}"
OBSERVATION = f"Observation/{derived_id('Observation', 'a')}"


def resources():
    bundle = json.loads(bundle_of(make_evidence(), page_url="evidence.html", instances=()))
    return [entry["resource"] for entry in bundle["entry"]]


def names(everything):
    return [f"{each['resourceType']}/{each['id']}" for each in everything]


def without_meta(resource):
    return {name: value for name, value in resource.items() if name != "meta"}


def test_everything_that_is_written_comes_back_as_it_was():
    everything = resources()
    places = {name: f"{name.partition('/')[0]}/{number}" for number, name in enumerate(names(everything))}

    for resource, name in zip(everything, names(everything), strict=True):
        told = in_server_ids(resource, name, places, {})
        assert f"{told['resourceType']}/{told['id']}" == places[name]
        assert in_derived_ids(told, name) == resource or without_meta(in_derived_ids(told, name)) == resource


def test_no_derived_id_is_left_where_the_server_would_look_for_it():
    everything = resources()
    places = {name: f"{name.partition('/')[0]}/{number}" for number, name in enumerate(names(everything))}
    told = [in_server_ids(each, name, places, {}) for each, name in zip(everything, places, strict=True)]

    assert list(own_references(Element(each) for each in everything))
    assert list(own_references(Element(each) for each in told)) == []


def test_what_the_same_transaction_makes_is_referred_to_by_its_full_url():
    observation = {"resourceType": "Observation", "id": OBSERVATION.partition("/")[2], "device": {"reference": DEVICE}}
    told = in_server_ids(observation, OBSERVATION, {}, {DEVICE: "urn:uuid:1", OBSERVATION: "urn:uuid:2"})

    assert "id" not in told
    assert told["device"]["reference"] == "urn:uuid:1"


def test_references_of_the_server_stay_as_they_are():
    report = {"reference": "DiagnosticReport/17/_history/2"}
    observation = {"resourceType": "Observation", "id": OBSERVATION.partition("/")[2], "focus": [report]}

    assert in_server_ids(observation, OBSERVATION, {}, {})["focus"] == [report]


def test_a_resource_is_found_by_an_identifier_of_its_own():
    assert identity(DEVICE) == {"identifier": rf"urn:ietf:rfc:3986|urn:uuid:{DEVICE.partition('/')[2]}"}
    assert condition(DEVICE).startswith("identifier=urn%3Aietf%3Arfc%3A3986%7Curn%3Auuid%3A")


def test_many_of_one_type_are_found_at_once():
    assert identity(DEVICE, DEVICE)["identifier"].count("urn:uuid:") == 2


def test_a_type_without_identifiers_is_found_by_a_tag():
    name = f"Provenance/{derived_id('Provenance', 'a')}"
    told = in_server_ids({"resourceType": "Provenance", "id": name.partition("/")[2]}, name, {}, {})

    assert list(identity(name)) == ["_tag"]
    assert carries(Element(told), name)
    assert "identifier" not in told


def test_identifiers_of_a_resources_own_are_kept():
    own = {"system": "urn:dicom:uid", "value": "urn:oid:1.2"}
    resource = {"resourceType": "Device", "id": DEVICE.partition("/")[2], "identifier": [own]}
    told = in_server_ids(resource, DEVICE, {}, {})

    assert (len(told["identifier"]), in_derived_ids(told, DEVICE)["identifier"]) == (2, [own])


@pytest.mark.parametrize(("kind", "status"), [("Observation", "entered-in-error"), ("Provenance", None)])
def test_a_duplicate_that_stays_is_in_error_and_not_ours(kind, status):
    name = f"{kind}/{derived_id(kind, 'a')}"
    told = in_server_ids({"resourceType": kind, "id": name.partition("/")[2]}, name, {name: f"{kind}/2"}, {})

    gone = disowned(told, name)
    assert not carries(Element(gone), name)
    assert (gone["id"], gone.get("status")) == ("2", status)


class Everything:
    """A server that does not know the search parameter, and so finds every resource of the type."""

    def __init__(self, *held):
        self.held = held
        self.deleted = []

    def read(self, name):
        return None

    def search(self, kind, params):
        return iter(self.held)

    def delete(self, place):
        self.deleted.append(place)
        return True


def test_what_a_careless_server_finds_besides_is_neither_ours_nor_removed():
    foreign = Element({"resourceType": "Device", "id": "1"})
    server = Everything(foreign)

    own = OwnResources(server)
    assert own.read(DEVICE) is None
    assert own._swept([DEVICE]) == {}
    assert server.deleted == []
