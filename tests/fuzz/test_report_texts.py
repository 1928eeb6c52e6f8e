"""Mutated report texts: the reader answers in time, and every phrase it names stands where it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import NASTY_TEXT, Random, cases, fuzz, mutated_text
from unwatched import unwatched

from nlp.reader import read_report
from plugin.fhir.text import MAX_CHARACTERS, text_of_file, visible_text

OWN = (
    "FINDINGS: Small left pleural effusion. No pneumothorax.  Größe 5 mm.\n\nIMPRESSION:\n1. Effusion.",
    "Heart shadow large, yet as wide as last spring. Neither consolidation nor a pneumothorax can be made out.",
    "1.2 x 3.4 cm nodule in the right upper lobe (RUL), suspicious for malignancy; compared to 1/2/2020 it has grown.",
    "TECHNIQUE: PA and lateral. COMPARISON: May. ET tube 3 cm above the carina. Cannot exclude basal atelectasis.",
)


def seeds(beside: Path) -> tuple[str, ...]:
    file = beside / "data" / "nlp" / "openi_dev.jsonl"
    return (*OWN, *_texts(file)) if file.is_file() else OWN


def _texts(file: Path) -> Iterator[str]:
    for line in file.read_text(encoding="utf-8").splitlines()[:500]:
        yield from (value for value in json.loads(line).values() if isinstance(value, str) and len(value) > 40)


def check(text: str) -> int:
    """Reads *text*; how many phrases it has."""
    phrases = read_report(text).phrases
    for phrase in phrases:
        assert text[phrase.start : phrase.end] == phrase.text
        before = text[: phrase.start].encode("utf-16-le", "surrogatepass")
        assert len(before) // 2 == phrase.start_utf16
    return len(phrases)


@pytest.mark.filterwarnings("error")
def test_a_mutated_report_is_read(beside: Path) -> None:
    known = seeds(beside)

    fuzz("report texts", cases(120), lambda random: check(mutated_text(random.choice(known), random)))


@pytest.mark.filterwarnings("error")
def test_a_report_of_the_greatest_length_is_read_in_time() -> None:
    pieces = (*OWN, *NASTY_TEXT[:20], "mass/nodule/", "no evidence of ", "effusion and ", "(", "1.2 cm x ", "\n")

    def case(random: Random) -> int:
        piece = " ".join(random.choice(pieces) for _ in range(random.randint(1, 3))) or "x"
        return check((piece * (MAX_CHARACTERS // len(piece) + 1))[:MAX_CHARACTERS])

    with unwatched():
        fuzz("reports of 200,000 characters", max(2, cases(0) // 200), case)


@pytest.mark.filterwarnings("error")
def test_mutated_files_and_markup_have_a_text_or_are_refused() -> None:
    from plugin.errors import InputError

    markup = (
        "<html><body><p>Left <b>pleural</b> effusion</p><table><tr><td>5 mm</td></tr></table><!-- x --></body></html>"
    )

    def case(random: Random) -> bool:
        text = mutated_text(random.choice((markup, *OWN)), random)
        try:
            visible_text(text)
            return bool(text_of_file(text.encode(random.choice(("utf-8", "utf-16", "utf-7")), "replace")).text)
        except InputError:
            return False

    fuzz("report files", cases(150), case)
