"""The report reader on texts of the synthetic twin: against its truth, and in the layouts that real systems make."""

import random

import numpy as np
import pytest

from model.twin.report import report
from model.twin.sample import sample
from nlp.reader import read_report

REPORTS = 60
MUTATED = 3000
# Each keeps the words and changes what stands between them, or adds characters of two UTF-16 units.
MUTATIONS = (
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace("\n", "<BR>"),
    lambda text: text.replace(". ", ". \N{GRINNING FACE} "),
    lambda text: text.replace("e", "e\u0301", 1),
    lambda text: text.replace(". ", "."),
    lambda text: f"\N{LUNGS}\ufeff{text}",
    str.upper,
    lambda text: text.replace("right", "XXXX", 1),
    lambda text: text.replace("  ", "\t").replace("\n\n", "\n \n"),
)


@pytest.fixture(scope="module")
def reports():
    rng = np.random.default_rng(7)
    return [report(sample(seed, size=64).findings, rng) for seed in range(REPORTS)]


def test_the_phrases_of_the_truth_are_found_with_their_claim_and_side(reports):
    right = []
    for made in reports:
        found = read_report(made.text).phrases
        for said in made.phrases:
            there = [phrase for phrase in found if phrase.start < said.end and said.start < phrase.end]
            right.append(any((p.assertion, p.laterality) == (said.assertion, said.side) for p in there))

    assert len(right) > 200
    assert np.mean(right) > 0.97


def test_offsets_stay_exact_in_any_layout(reports):
    chance = random.Random(7)
    phrases = 0
    for number in range(MUTATED):
        text = reports[number % REPORTS].text
        for mutate in chance.sample(MUTATIONS, chance.randint(1, 3)):
            text = mutate(text)
        units = text.encode("utf-16-le")
        for phrase in read_report(text).phrases:
            assert text[phrase.start : phrase.end] == phrase.text
            assert units[2 * phrase.start_utf16 : 2 * phrase.end_utf16].decode("utf-16-le") == phrase.text
            phrases += 1

    assert phrases > MUTATED
