"""When patients may see a report: only what somebody answers for, after the time that the site has set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from nlp.phrases import Assertion
from plugin.page.document import EvidenceDocument
from plugin.values import ReportStatus


class Wait(StrEnum):
    """What a report that is withheld waits for."""

    NOT_FINAL = "not_final"
    DELAY = "delay"
    CONVERSATION = "conversation"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a site has set.

    Parameters
    ----------
    delay_h : hours from a report's release until patients see it.
    conversation_h : the same for reports that state one of *conversations*, where a conversation comes first.
    conversations : names of findings in the lexicon.
    """

    delay_h: float = 0.0
    conversation_h: float = 72.0
    conversations: frozenset[str] = frozenset()

    @property
    def wait(self) -> bool:
        """Whether a final report may have to wait at all."""
        return self.delay_h > 0 or bool(self.conversations)


IMMEDIATELY = Rules()
"""A report is shown as soon as it is final."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """That a report is not shown, why, and until when; None: until a newer version is final."""

    why: Wait
    until: datetime | None = None


def withheld(
    rules: Rules, *, status: ReportStatus, issued: datetime, findings: frozenset[str], now: datetime
) -> Withheld | None:
    """Whether a report is withheld from patients; pure.

    Parameters
    ----------
    issued : when it was released, as the report says, else when its results came about; without a zone it is UTC.
    findings : names of the findings that it states as present, probable or possible.
    """
    if not status.final:
        return Withheld(Wait.NOT_FINAL)
    spoken = bool(findings & rules.conversations)
    hours = max(rules.delay_h, rules.conversation_h) if spoken else rules.delay_h
    until = (issued if issued.tzinfo else issued.replace(tzinfo=UTC)) + timedelta(hours=hours)
    if now >= until:
        return None
    return Withheld(Wait.CONVERSATION if spoken and rules.conversation_h > rules.delay_h else Wait.DELAY, until)


def withheld_of(document: EvidenceDocument, rules: Rules, *, now: datetime) -> Withheld | None:
    """The same of the report of *document*."""
    return withheld(
        rules,
        status=document.report.status,
        issued=document.report.issued or document.provenance.created,
        findings=frozenset(
            phrase.finding.name
            for phrase in document.phrases
            if phrase.assertion not in (Assertion.NEGATED, Assertion.NOT_REPORTED)
        ),
        now=now,
    )
