"""From report and pixels to regions on 50 studies of the twin that nothing was trained or tuned on."""

from dataclasses import dataclass

import numpy as np
import pytest

from model.data.opening import open_dataset
from model.evaluation.measures import dice
from model.evaluation.run import Choice, evaluate
from model.geometry import UPRIGHT
from model.grounder import load_grounder
from model.training.config import TRAINING_SEEDS, VALIDATION_SEEDS
from model.twin.study import sample_seed, study
from model.weights import SHIPPED, load_manifest
from nlp.phrases import Phrase
from nlp.reader import read_report
from plugin.commands.evaluate import query_of_sample
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


def right_side(lit, truth):
    """Whether most of the light falls on the half of the image where four fifths of the truth lie.

    A truth on both halves wants light on it.
    """
    if not lit.any():
        return False
    there, shown = halves(truth), halves(lit)
    if max(there) < 0.8:
        return bool((lit & truth).any())
    return shown[there.index(max(there))] > 0.5


def halves(mask):
    middle, total = mask.shape[1] // 2, mask.sum()
    return mask[:, :middle].sum() / total, mask[:, middle:].sum() / total


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
    lately = load_manifest(SHIPPED).data["twin"]["seeds"]
    trained = {*range(*TRAINING_SEEDS), *range(*VALIDATION_SEEDS), *range(*lately)}

    assert not {sample_seed(seed) for seed in SEEDS} & trained


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


def test_the_model_finds_what_is_there_and_tells_it_from_what_is_not(tmp_path):
    dataset = open_dataset("twin:200000-200060", cache=tmp_path)
    figures = evaluate(dataset, load_grounder(), query_of=query_of_sample, choice=Choice()).figures

    assert figures["overall"]["Dice"] >= 0.75
    assert figures["overall"]["presence AUC"] > 0.95
    assert figures["controls"]["absent test"]["called found"] < 0.3
