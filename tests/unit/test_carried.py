"""What a multimedia report takes over from the radiologist's: what is valid and means the same on its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir_input import report
from hypothesis import given
from hypothesis import strategies as st

from plugin.fhir.carried import carried_of
from plugin.fhir.resource import Element, Resources

STRAHL = {
    "resourceType": "Practitioner",
    "id": "p",
    "identifier": [{"system": "http://example.org/doctors", "value": "9"}],
    "name": [{"given": ["Anna", "Maria"], "family": "Strahl"}],
}
HOSPITAL = {"resourceType": "Organization", "id": "o", "name": "St. Elsewhere"}


def carried(*others: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What is taken over of the example with *changes*, beside *others*."""
    resources = Resources([("", Element(each)) for each in others])
    return dict(json.loads(carried_of(Element(report(**changes)), resources)))


def test_relative_references_are_kept_with_their_kind() -> None:
    found = carried(
        performer=[
            {"reference": "Organization/o"},
            {"reference": "Practitioner/p/_history/2", "display": "Dr. Strahl"},
        ],
        resultsInterpreter=[{"reference": "PractitionerRole/r"}],
        encounter={"reference": "Encounter/e"},
    )

    assert found["performer"] == [
        {"reference": "Organization/o", "type": "Organization"},
        {"reference": "Practitioner/p", "type": "Practitioner", "display": "Dr. Strahl"},
    ]
    assert found["resultsInterpreter"] == [{"reference": "PractitionerRole/r", "type": "PractitionerRole"}]
    assert found["encounter"] == {"reference": "Encounter/e", "type": "Encounter"}


@pytest.mark.parametrize("reference", ["#p", "http://elsewhere.example/fhir/Practitioner/p", "urn:uuid:1"])
def test_what_cannot_be_referred_to_from_elsewhere_goes_by_identifier_and_name(reference: str) -> None:
    contained = [STRAHL] if reference == "#p" else None
    resources = Resources([(reference, Element(STRAHL))] if contained is None else [])
    source = Element(report(contained=contained, resultsInterpreter=[{"reference": reference}]))

    (found,) = json.loads(carried_of(source, resources))["resultsInterpreter"]

    assert found == {
        "identifier": {"system": "http://example.org/doctors", "value": "9"},
        "display": "Anna Maria Strahl",
        "type": "Practitioner",
    }


def test_a_name_alone_is_kept_and_nothing_at_all_is_left_out() -> None:
    found = carried(performer=[{"display": " Dr. Strahl\x00 "}, {"reference": "urn:uuid:7"}, {"type": "Practitioner"}])

    assert found["performer"] == [{"display": "Dr. Strahl"}]


def test_the_target_in_the_same_bundle_tells_what_it_is_called() -> None:
    (found,) = carried(HOSPITAL, performer=[{"reference": "Organization/o"}])["performer"]

    assert found == {"reference": "Organization/o", "display": "St. Elsewhere", "type": "Organization"}


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("performer", "Patient/1"),
        ("performer", "Device/1"),
        ("resultsInterpreter", "Organization/1"),
        ("encounter", "EpisodeOfCare/1"),
    ],
)
def test_a_reference_of_a_kind_that_does_not_fit_is_left_out(name: str, reference: str) -> None:
    given = {"reference": reference}

    assert name not in carried(**{name: given if name == "encounter" else [given]})


def test_category_code_and_time_are_taken_over() -> None:
    category = [{"coding": [{"system": "http://loinc.org", "code": "LP29684-5"}]}]
    found = carried(category=category, effectivePeriod={"start": "2026-03-01", "end": "2026-03-01T10:00:00Z"})

    assert found["category"] == category
    assert found["code"] == {"text": "Chest X-ray"}
    assert found["effectivePeriod"] == {"start": "2026-03-01", "end": "2026-03-01T10:00:00Z"}


@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        ("2026", True),
        ("2026-03", True),
        ("2026-03-01T10:00:00.123+01:00", True),
        ("2026-03-01T10:00", False),
        ("2026-13-01", False),
        ("2026-03-01T10:00:00", False),
        ("yesterday", False),
    ],
)
def test_a_time_that_is_none_is_left_out(moment: str, kept: bool) -> None:
    assert ("effectiveDateTime" in carried(effectiveDateTime=moment)) is kept


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["Practitioner/1", "#a", "a b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["reference", "type", "display", "identifier", "value", "system", "code", "coding", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["performer", "resultsInterpreter", "encounter", "category", "code", "effectivePeriod"])


@given(st.dictionaries(NAMES, JSON))
def test_whatever_comes_in_what_comes_out_is_valid(changes: dict[str, Any]) -> None:
    found = carried(**changes)

    DiagnosticReport.model_validate(
        {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"}} | found
    )
