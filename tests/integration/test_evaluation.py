"""Every figure of an evaluation, on made-up boxes whose right answer is known."""

import json
import re
from collections import Counter
from html import unescape

import numpy as np
import pytest
from evaluation_input import Blind, Bright, write_boxes

from model.data.opening import open_dataset
from model.data.split import digest, held_out
from model.evaluation.bootstrap import Series, interval, patient_weights
from model.evaluation.cases import chosen_places
from model.evaluation.figures import BARS
from model.evaluation.report import html_of, shown
from model.evaluation.rows import chosen, headline, other_side, rows_of, wrong_phrase
from model.evaluation.run import Choice, NothingToMeasureError, evaluate, speed_of, trained_on
from model.values import Query

QUICK = Choice(speed=False)


def query_of(sample):
    side = next((side for side in ("left", "right") if side in sample.phrase), None)
    return Query(sample.phrase, "opacity", side, ("lung",))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    return open_dataset(str(write_boxes(tmp_path_factory.mktemp("boxes"))))


@pytest.fixture(scope="module")
def measured(boxes):
    return evaluate(boxes, Bright(), query_of=query_of, choice=QUICK)


@pytest.fixture(scope="module")
def figures(measured):
    return measured.figures


def test_every_bar_is_a_plain_number_by_its_name(figures):
    names = [bar.name for bar in BARS]

    assert names == [
        "Dice, phrase without side",
        "Dice, phrase with side",
        "CNR, phrase with side",
        "pointing game, phrase with side",
        "presence AUC",
        "side-swap: mass of the heatmap on the named side",
        "lungs Dice",
    ]
    assert all(isinstance(figures[name], float) for name in names[:-1])
    assert figures["lungs Dice"] is None
    json.dumps(figures, allow_nan=False)


def test_a_model_that_sees_what_is_there_is_nearly_perfect(figures):
    assert figures["Dice, phrase without side"] > 0.9
    assert figures["pointing game, phrase with side"] == 1.0
    assert figures["presence AUC"] == 1.0
    assert figures["side-swap: mass of the heatmap on the named side"] > 0.99  # a cell at the midline spreads
    assert figures["overall"]["set F1 at .5"] > 0.9
    assert figures["overall"]["Acc@0.5"] == 1.0


def test_the_words_alone_know_the_side_but_not_the_place_nor_the_presence(figures):
    words = figures["words only"]

    assert words["Dice, phrase without side"] < figures["Dice, phrase without side"]
    assert words["presence AUC"] == 0.5
    assert words["side-swap: mass of the heatmap on the named side"] > 0.8


def test_what_the_model_adds_to_its_prior_lies_above_zero(figures):
    for name in ("Dice, phrase without side", "CNR, phrase without side"):
        added = figures["full minus prior"][name]
        low, high = added["interval"]
        assert 0 < low <= added["difference"] <= high


def test_a_disordered_image_loses_the_place(figures):
    control = figures["controls"]["scrambled image"]

    assert control["Dice, scrambled"] < control["Dice"] / 2
    assert control["share refused"] == 0.0


def test_a_wrong_phrase_and_an_absent_finding_light_nothing(figures):
    assert figures["controls"]["wrong phrase"]["Dice, wrong phrase"] == 0.0
    assert figures["controls"]["absent test"]["called found"] == 0.0
    assert figures["controls"]["absent test"]["rows"] == 4


def test_the_light_crosses_the_midline_with_the_word(figures):
    swap = figures["side-swap test"]

    assert swap["mass on that side, other side named"] < 0.01
    assert swap["presence AUC, named against other side"] == 1.0
    assert swap["images with one side alone"] == 4


def test_groups_add_up_to_the_whole(figures):
    assert sum(group["rows"] for group in figures["by side"].values()) == figures["measured on"]["rows"] == 24
    assert set(figures["by view"]) == {"AP", "PA"}
    assert figures["presence AUC by view"]["PA"] == 1.0
    assert figures["measured on"]["patients"] == figures["measured on"]["images"] == 12


def test_recall_is_promised_at_three_points_and_measured_on_other_patients(figures):
    assert {name: point["promised"] for name, point in figures["conformal"].items()} == {
        "sensitive": 0.95,
        "balanced": 0.9,
        "specific": 0.8,
    }
    assert all(0 <= point["measured"] <= 1 for point in figures["conformal"].values())


def test_what_the_weights_promise_is_measured_at_their_threshold(boxes):
    found = evaluate(boxes, Bright(), query_of=query_of, choice=QUICK, promised={"specific": 0.5}).figures

    assert found["conformal"]["specific"]["threshold of the weights"] == 0.5
    at_half = next(point for point in found["threshold curve"] if point["threshold"] == 0.5)
    assert found["conformal"]["specific"]["measured"] == pytest.approx(at_half["pixel recall"], abs=0.05)
    assert found["conformal"]["balanced"]["threshold of the weights"] is None


def test_the_curve_passes_through_the_table(figures):
    there = [point for point in figures["threshold curve"] if point["threshold"] == 0.5]

    assert there[0]["Dice"] == pytest.approx(figures["overall"]["Dice"], abs=1e-3)


def test_a_model_that_refuses_every_image_scores_nothing(boxes):
    refused = evaluate(boxes, Blind(), query_of=query_of, choice=QUICK).figures

    assert refused["Dice, phrase without side"] == refused["CNR, phrase with side"] == 0.0
    assert refused["presence AUC"] == 0.5
    assert refused["controls"]["scrambled image"]["share refused"] == 1.0
    json.dumps(refused, allow_nan=False)


def test_only_patients_kept_aside_are_measured_when_asked(boxes):
    aside = {sample.patient for sample in boxes.samples() if held_out(sample.patient)}
    found = evaluate(boxes, Bright(), query_of=query_of, choice=Choice(held_out=True, speed=False)).figures

    assert found["measured on"]["patients"] == len(aside) > 0


def test_nothing_to_measure_is_refused(boxes):
    with pytest.raises(NothingToMeasureError):
        evaluate(boxes, Bright(), query_of=query_of, choice=Choice(source="nobody", speed=False))


def test_patients_seen_in_training_are_counted(boxes):
    rows = rows_of(boxes.samples(), query_of)
    kept = sum(held_out(f"patient-{number}") for number in range(12))

    assert trained_on(rows, {})["seen in training"] == 0
    assert trained_on(rows, {"patients": [digest("patient-3"), digest("x")]})["seen in training"] == 1
    assert trained_on(rows, {"held_out": "the rule"})["seen in training"] == 12 - kept


def test_a_filter_keeps_the_rows_where_the_finding_was_looked_for_and_not_seen(boxes):
    rows = rows_of(boxes.samples(), query_of)

    assert len(chosen(rows, finding="Lung Opacity")) == len(headline(rows)[0]) == len(rows)
    assert len(chosen(rows, finding="Normal")) == 4
    assert headline(rows[:1])[1] == "all rows"


FIGURE = re.compile(r'<data value="([^"]*)">([^<]*)</data>')


def test_each_figure_of_the_report_is_that_of_the_metrics(measured, tmp_path):
    page = html_of(measured.figures, measured.cases)
    written = json.loads(json.dumps(measured.figures))
    found = FIGURE.findall(page)

    assert len(found) > 150
    for place, said in found:
        value = written
        for name in json.loads(unescape(place)):
            value = value[name]
        assert unescape(said) == shown(value)


def test_the_report_needs_nothing_else_and_names_nobody(measured):
    page = html_of(measured.figures, measured.cases)

    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "patient-" not in page
    assert "film-of" not in page
    assert page.count('class="picture"') == 9
    assert page.count('class="chart"') == 3


def test_the_report_warns_of_patients_seen_in_training(measured):
    seen = {**measured.figures, "trained on": {"patients": 12, "seen in training": 3, "how this is known": "x"}}

    assert "Beware" in html_of(seen, ())
    assert "Beware" not in html_of(measured.figures, ())


def test_best_median_and_worst_are_different_cases():
    scores = [0.1, 0.9, 0.5, np.nan, 0.3, 0.7, 0.2, 0.8]

    assert chosen_places(scores, each=1) == {"best": [1], "median": [2], "worst": [0]}
    assert chosen_places([0.4, np.nan]) == {"best": [], "median": [], "worst": [0]}


def test_patients_are_drawn_whole():
    weights = patient_weights(["a", "a", "b", "c"], repeats=500)

    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 1:].sum(axis=1) == 3).all()


def test_an_interval_of_rows_that_agree_has_no_width():
    weights = patient_weights(list("abcd"), repeats=200)

    assert interval(Series(np.array([0.5, 0.5, np.nan, 0.5])).estimate(weights)) == pytest.approx((0.5, 0.5))
    assert interval(np.array([np.nan])) is None


def test_the_other_side_and_the_wrong_phrase_are_worded():
    asked = Query("Opacity in the RIGHT lung", "opacity", "right", ("right upper lobe",))

    assert other_side(asked) == Query("Opacity in the left lung", "opacity", "left", ("left upper lobe",))
    assert wrong_phrase(asked, ()).text == "right pneumothorax"
    assert wrong_phrase(asked, ("pneumothorax",)) == Query("cardiomegaly", "cardiomegaly")


def test_a_study_and_a_further_phrase_are_timed():
    asked, words = [], []

    class Counted(Bright):
        def ground(self, pixels, orientation, queries):
            asked.append((pixels.shape, len(queries)))
            words.append(tuple(each.text for each in queries))
            return super().ground(pixels, orientation, queries)

    found = speed_of(Counted())

    assert set(asked) == {((2500, 2048), 8), ((2500, 2048), 16)}
    assert set(Counter(words).values()) == {2}  # once for each image: words that are known need not be embedded again
    assert found["study_s"] > 0
    assert found["phrase_share"] == pytest.approx(found["phrase_s"] / found["study_s"], abs=0.01)
