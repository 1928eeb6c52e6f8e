"""Our own multimedia reports are known as such, and never taken for reports to ground."""

from __future__ import annotations

from typing import Any

import pytest
from fhir_input import IDENTITY, around, as_bytes, bundle, report

from plugin.errors import InputError
from plugin.fhir.ours import MULTIMEDIA_REPORT, REPORT_SYSTEM, is_ours
from plugin.fhir.reading import reports_from
from plugin.fhir.resource import Element, Resources, parse, resources_of
from plugin.reports.candidates import Candidate, is_about

TAGGED = {"meta": {"versionId": "9", "tag": [{"system": "http://other", "code": "x"}, MULTIMEDIA_REPORT]}}
IDENTIFIED = {"identifier": [{"value": "without a system"}, {"system": REPORT_SYSTEM, "value": "1"}]}


@pytest.mark.parametrize("marked", [TAGGED, IDENTIFIED])
def test_a_report_is_ours_by_its_tag_or_its_identifier(marked: dict[str, Any]) -> None:
    assert is_ours(Element(report(**marked)))


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"meta": {"tag": [{"system": REPORT_SYSTEM, "code": "another"}]}},
        {"meta": {"tag": [{"code": MULTIMEDIA_REPORT["code"]}]}},
        {"meta": {"tag": "multimedia-report"}, "identifier": "1"},
        {"identifier": [{"system": "http://other", "value": "1"}, {"system": REPORT_SYSTEM}]},
    ],
)
def test_a_report_of_others_is_not(foreign: dict[str, Any]) -> None:
    assert not is_ours(Element(report(**foreign)))


def test_our_own_report_is_about_no_study() -> None:
    resources = resources_of(parse(as_bytes(around(report()))))
    marked = Element(report(**TAGGED))

    assert is_about(Candidate(resources.of_type("DiagnosticReport")[0], resources), IDENTITY)
    assert not is_about(Candidate(marked, Resources([("", each) for each in (*resources.all, marked)])), IDENTITY)


def test_our_own_report_in_a_file_is_passed_over() -> None:
    both = bundle(report(id="ours", **TAGGED), report())

    assert [each.ref.report_id for each in reports_from(as_bytes(both))] == ["report"]
    with pytest.raises(InputError, match="no DiagnosticReport"):
        reports_from(as_bytes(report(**TAGGED)))
