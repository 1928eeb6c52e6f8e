"""From report and pixels to regions on 50 studies of the twin that nothing was trained or tuned on."""

from dataclasses import dataclass

import numpy as np
import pytest

from model.evaluate import auc, dice, figures_of, right_side, twin_cases
from model.geometry import UPRIGHT
from model.grounder import load_grounder
from model.training.config import TRAINING_SEEDS, VALIDATION_SEEDS
from model.twin.study import sample_seed, study
from nlp.phrases import Phrase
from nlp.reader import read_report
from plugin.pipeline import query_of

SEEDS = range(50)


@dataclass(frozen=True)
class Result:
    """One phrase of the truth on one image, and what was made of it; *phrase* is None when the reader missed it."""

    claimed: bool
    side: str | None
    phrase: Phrase | None
    lit: np.ndarray
    truth: np.ndarray


def overlapping(phrases, start, end):
    found = [phrase for phrase in phrases if phrase.start < end and start < phrase.end]
    return max(found, key=lambda phrase: min(end, phrase.end) - max(start, phrase.start), default=None)


def results_of(seed, grounder):
    made = study(seed, size=512)
    phrases = read_report(made.report.text).phrases
    for image in made.images:
        if image.view not in ("PA", "AP"):
            continue
        asked = [phrase for phrase in phrases if phrase.groundable]
        answers = grounder.ground(image.pixels, UPRIGHT, tuple(query_of(phrase) for phrase in asked))
        for said in made.report.phrases:
            phrase = overlapping(phrases, said.start, said.end)
            lit = np.zeros(image.pixels.shape, bool)
            for region in answers[asked.index(phrase)].regions if phrase in asked else ():
                lit |= region.mask(*lit.shape)
            truth = image.masks[said.finding] if said.finding is not None else np.zeros(lit.shape, bool)
            yield Result(said.assertion in ("affirmed", "probable", "possible"), said.side, phrase, lit, truth)


@pytest.fixture(scope="module")
def results():
    grounder = load_grounder()
    return [result for seed in SEEDS for result in results_of(seed, grounder)]


def test_the_studies_were_never_trained_on():
    assert not {sample_seed(seed) for seed in SEEDS} & {*range(*TRAINING_SEEDS), *range(*VALIDATION_SEEDS)}


def test_nine_in_ten_positive_phrases_are_found_and_lit_on_the_right_side(results):
    positive = [result for result in results if result.claimed and result.truth.any()]
    right = [result.phrase is not None and right_side(result.lit, result.truth) for result in positive]

    assert len(positive) > 100
    assert np.mean(right) >= 0.9


def test_what_is_lit_covers_the_finding(results):
    positive = [result for result in results if result.claimed and result.truth.any()]

    assert np.mean([dice(result.lit, result.truth) for result in positive]) >= 0.5


def test_no_denied_phrase_is_lit(results):
    denied = [result for result in results if not result.claimed]

    assert len(denied) > 50
    assert not any(result.lit.any() for result in denied)


def test_the_model_tells_what_is_there_from_what_is_not():
    figures = figures_of(list(twin_cases(load_grounder(), range(300_000, 300_020), size=256)))

    assert figures["Dice"] > 0.5
    assert figures["presence AUC"] > 0.9
    assert figures["absent called found"] < 0.2


@pytest.mark.parametrize(
    ("lit", "truth", "right"),
    [
        ("left", "left", True),
        ("right", "left", False),
        ("none", "left", False),
        ("both", "both", True),
        ("elsewhere", "both", False),
    ],
)
def test_the_side_is_right_where_most_of_the_light_falls_on_the_half_of_the_truth(lit, truth, right):
    def mask(halves):
        drawn = np.zeros((10, 20), bool)
        drawn[2:5, 2:5] = halves in ("left", "both")
        drawn[2:5, 12:15] = halves in ("right", "both")
        drawn[8:, 2:5] = halves == "elsewhere"
        return drawn

    assert right_side(mask(lit), mask(truth)) is right


def test_the_area_under_the_curve_is_the_share_of_ordered_pairs():
    assert auc([0.9, 0.5], [0.5, 0.1]) == pytest.approx(3.5 / 4)
    assert np.isnan(auc([], [0.5]))
