"""What the report reader finds, and where."""

from __future__ import annotations

from nlp.phrases import Assertion, Laterality
from nlp.reader import find_phrases


def test_every_finding_is_one_phrase_with_its_modifiers() -> None:
    text = "FINDINGS: Multiple bilateral pulmonary nodules. No pleural effusion or pneumothorax."

    nodules, effusion, pneumothorax = find_phrases(text)

    assert nodules.text == "Multiple bilateral pulmonary nodules"
    assert nodules.laterality is Laterality.BILATERAL
    assert nodules.groundable
    assert [(p.text, p.assertion) for p in (effusion, pneumothorax)] == [
        ("pleural effusion", Assertion.NEGATED),
        ("pneumothorax", Assertion.NEGATED),
    ]
    assert not effusion.groundable
    assert not pneumothorax.groundable
