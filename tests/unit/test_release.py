"""When patients see a report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from evidence import make_evidence

from nlp.phrases import Assertion
from plugin.errors import InputError
from plugin.page.document import evidence_document
from plugin.page.release import Rules, Wait, Withheld, withheld, withheld_of
from plugin.settings import Settings
from plugin.values import ReportStatus
from plugin.wiring import make_release

ISSUED = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules(delay_h=24, conversation_h=72, conversations=frozenset({"mass", "metastasis"}))


def seen(
    after_h: float,
    *,
    findings: frozenset[str] = frozenset(),
    status: ReportStatus = ReportStatus.FINAL,
    rules: Rules = RULES,
) -> Withheld | None:
    now = ISSUED + timedelta(hours=after_h)
    return withheld(rules, status=status, issued=ISSUED, findings=findings, now=now)


@pytest.mark.parametrize("status", ReportStatus)
def test_only_reports_that_somebody_answers_for_are_shown(status: ReportStatus) -> None:
    shown = seen(1000, status=status) is None

    assert shown == (status in {"final", "amended", "corrected", "appended"})


@pytest.mark.parametrize(
    ("after_h", "findings", "waits"),
    [
        (0, set(), Wait.DELAY),
        (23.9, {"fracture"}, Wait.DELAY),
        (24, {"fracture"}, None),
        (24, {"mass", "fracture"}, Wait.CONVERSATION),
        (71.9, {"mass"}, Wait.CONVERSATION),
        (72, {"mass"}, None),
    ],
)
def test_a_report_waits_for_the_delay_and_for_a_conversation(
    after_h: float, findings: set[str], waits: Wait | None
) -> None:
    found = seen(after_h, findings=frozenset(findings))

    assert (found.why if found else None) == waits


def test_a_withheld_report_says_until_when_and_one_that_is_not_final_does_not() -> None:
    assert seen(1) == Withheld(Wait.DELAY, ISSUED + timedelta(hours=24))
    assert seen(1, status=ReportStatus.PRELIMINARY) == Withheld(Wait.NOT_FINAL)


def test_a_conversation_does_not_shorten_the_delay() -> None:
    longer = Rules(delay_h=96, conversation_h=24, conversations=frozenset({"mass"}))

    assert seen(50, findings=frozenset({"mass"}), rules=longer) == Withheld(Wait.DELAY, ISSUED + timedelta(hours=96))


def test_a_denied_finding_holds_nothing_back() -> None:
    document = evidence_document(make_evidence())
    denied = next(phrase for phrase in document.phrases if phrase.assertion is Assertion.NEGATED)
    stated = next(phrase for phrase in document.phrases if phrase.assertion is Assertion.POSSIBLE)
    now = datetime(2026, 3, 2, tzinfo=UTC)

    for phrase, waits in ((denied, False), (stated, True)):
        rules = Rules(conversations=frozenset({phrase.finding.name}))
        assert (withheld_of(document, rules, now=now) is not None) == waits


def test_a_time_without_a_zone_is_utc() -> None:
    naive = replace(make_evidence().report, issued=ISSUED.replace(tzinfo=None))
    document = evidence_document(replace(make_evidence(), report=naive))

    found = withheld_of(document, Rules(delay_h=1), now=ISSUED)
    assert found == Withheld(Wait.DELAY, ISSUED + timedelta(hours=1))


def test_settings_name_findings_of_the_lexicon() -> None:
    made = make_release(Settings(release_delay_h=1, release_conversation="mass, metastasis"))

    assert made == Rules(1, 72, frozenset({"mass", "metastasis"}))
    with pytest.raises(InputError, match="'masss' is no finding"):
        make_release(Settings(release_conversation="masss"))
