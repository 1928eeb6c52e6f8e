"""Two hundred hostile reports as multimedia reports: what is made of them holds to FHIR, to our profiles and to IMR."""

from __future__ import annotations

import json

import pytest
from fhir_check import checker
from hypothesis import HealthCheck, Phase, assume, given, settings
from multimedia import evidences

from plugin.fhir.multimedia import Organization, about_of, frame_of, rendered, report_at, store_bundle
from plugin.fhir.selections import as_basic, selections_of
from plugin.page.document import evidence_document
from plugin.values import Evidence

BASE = "https://sightline.example"
HOSPITAL = Organization("St. Elsewhere")


@pytest.mark.slow
# Without shrinking: a failing example is small enough, and the checker is slow.
@settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(evidences())
def test_whatever_a_report_holds_its_multimedia_report_is_valid(evidence: Evidence) -> None:
    assume(all(each.phrase.text.strip() for each in evidence.phrases if each.lit))  # the reader makes no blank phrase
    document = evidence_document(evidence)
    report = report_at(frame_of(evidence, organization=HOSPITAL), document, base=BASE)
    selections = selections_of(document, about_of(report))
    pages = {report["presentedForm"][0]["url"]: rendered(document, base=BASE)}
    stored = json.loads(store_bundle(evidence, base=BASE, organization=HOSPITAL) or "")

    assert checker().multimedia(report, selections=selections, pages=pages) == []
    assert checker().multimedia(stored, selections=selections) == []
    for selection in selections[:2]:
        assert checker("R5").written(selection) == []
        assert checker().written(as_basic(selection)) == []
