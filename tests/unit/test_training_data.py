"""What is asked of a training image, who is trained on, and which data is refused."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from model.config import Config
from model.data.sample import Sample
from model.data.split import digest, held_out
from model.network import seeded_network
from model.training.config import LabelData, LesionData, PhraseData, Recipe, Split, Training
from model.training.gather import DataFaultError, gather, patients_of
from model.training.pictures import Picture, Truth, odds_of, part_of
from model.training.sources import ViewSource, drawn_from
from model.training.wording import finding_of, other_side, query_of_sample, reworded, side_of
from model.twin.sample import sample as chest
from model.values import Query
from model.weights import save_weights

SIZE = {"size": 64}
PARTS = ("training", "validation")


def rows_of(count, **changed):
    row = {"image": "0.png", "patient": "p", "phrase": "opacity in the left lung", "boxes": [[40, 20, 20, 20]]}
    return [{**row, "image": f"{n}.png", "patient": f"p{n}", **changed} for n in range(count)]


@pytest.fixture
def write(tmp_path):
    def write(rows, **keys):
        for row in rows:
            cv2.imwrite(str(tmp_path / row["image"]), np.full((80, 80), 90, np.uint8))
        (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = PhraseData("phrases", 1.0, str(tmp_path / "set.jsonl"), **keys)
        return Training(
            out=tmp_path,
            recipe=Recipe(steps=1),
            data=(data,),
            network=SIZE,
            split=Split(held_out=False, validation=0.3),
        )

    return write


def refusal(training):
    with pytest.raises(DataFaultError) as refused:
        gather(training, print)
    return str(refused.value)


def test_faults_are_counted_and_named_before_training(write, tmp_path):
    rows = rows_of(30)
    rows[1]["boxes"] = [[70, 70, 40, 40]]
    rows[2]["phrase"] = "??"
    training = write(rows)
    (tmp_path / "4.png").write_bytes(b"no image")

    said = refusal(training)

    assert "a box lies outside the image: 1" in said
    assert "a phrase has no words: 1" in said
    assert "the image cannot be read: 1" in said


def test_faulty_samples_are_left_out_by_setting(write, tmp_path, capsys):
    rows = rows_of(30)
    rows[1]["boxes"] = [[70, 70, 40, 40]]
    training = write(rows, faults="skip")
    (tmp_path / "4.png").write_bytes(b"no image")

    (source,) = gather(training, print)

    assert len(source.training) + len(source.checks) == 28
    assert "left out" in capsys.readouterr().out


def test_an_empty_mask_is_a_fault(write, tmp_path):
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((80, 80), np.uint8))

    assert "the mask is empty: 30" in refusal(write(rows_of(30, boxes=[], mask="mask.png")))


def test_a_patient_in_both_given_sets_is_refused(write, tmp_path):
    training = write(rows_of(10), validation_open=str(tmp_path / "set.jsonl"))

    assert "10 patients are in training and in validation" in refusal(training)


def test_a_set_that_is_not_there_is_refused_or_left_out(write, tmp_path, capsys):
    training = write(rows_of(30))
    (tmp_path / "set.jsonl").unlink()
    assert "data.0 (phrases)" in refusal(training)

    assert "no source has images" in refusal(
        Training(
            out=tmp_path,
            recipe=training.recipe,
            data=(PhraseData("phrases", 1.0, str(tmp_path / "set.jsonl"), optional=True),),
        )
    )
    assert "is left out" in capsys.readouterr().out


def test_shelved_images_are_read_again_from_the_cache(write, tmp_path):
    training = write(rows_of(20), cache=tmp_path / "cache")
    (first,) = gather(training, print)

    (again,) = gather(training, print)

    assert np.array_equal(first.shelf.pixels, again.shelf.pixels)
    assert np.array_equal(first.shelf.masks, again.shelf.masks)
    assert isinstance(again.shelf.pixels, np.memmap)


def test_the_manifest_lists_every_patient_that_was_seen_under_a_digest(write):
    said = patients_of(gather(write(rows_of(30)), print))

    assert len(said["patients"]) == 30
    assert not any("p1" in each for each in said["patients"])


def test_patients_who_are_measured_neither_train_nor_validate():
    parts = {f"p{n}": part_of(f"p{n}", Split(validation=0.5)) for n in range(400)}

    assert all((part == "held out") == held_out(patient) for patient, part in parts.items())
    assert 100 < sum(part == "validation" for part in parts.values()) < 220


def test_each_patient_validates_in_one_fold_and_trains_in_the_others():
    patients = [f"p{n}" for n in range(300) if not held_out(f"p{n}")]
    split = Split(folds=3)

    for patient in patients:
        parts = [part_of(patient, replace(split, fold=fold)) for fold in range(3)]
        assert sorted(parts) == ["training", "training", "validation"]
        assert part_of(patient, split) == "training"


def test_a_fold_does_not_begin_from_weights_that_have_seen_its_patients(write, tmp_path):
    split, recipe = Split(held_out=False, folds=2, fold=0), Recipe(steps=1, keep="last")
    training = replace(write(rows_of(30)), split=split, recipe=recipe)
    network = seeded_network(training.measures(), 1)
    seen = {part: [digest(f"p{n}") for n in range(30) if part_of(f"p{n}", training.split) == part] for part in PARTS}
    for part, patients in seen.items():
        figures = {"threshold": 0.5, "presence_threshold": 0.5}
        save_weights(network, tmp_path / part, figures=figures, recipe={}, data={"patients": patients})

    gather(replace(training, start=tmp_path / "training"), print)
    assert f"have seen {len(seen['validation'])} of its patients" in refusal(
        replace(training, start=tmp_path / "validation")
    )


def test_a_drawn_image_asks_the_other_side_as_absent(write):
    (source,) = gather(write(rows_of(20), swap_sides=1.0, mirror=0.0, reword=0.0), print)
    item = source.draw(np.random.default_rng(1))

    assert [(each.query.side, each.present) for each in item.asked] == [("left", True), ("right", False)]
    assert not item.asked[1].mask.any()


def test_a_mirrored_image_swaps_sides_in_picture_and_words(write):
    (source,) = gather(write(rows_of(20), swap_sides=0.0, mirror=1.0, reword=0.0), print)
    (asked,) = source.draw(np.random.default_rng(1)).asked

    assert asked.query.text == "opacity in the right lung"
    assert np.argwhere(asked.mask)[:, 1].mean() < 16  # drawn right of the middle of 32 cells


def test_each_combination_of_traits_is_drawn_as_often():
    def picture(row, view, present):
        return Picture(row, "", view, (Truth(Query("opacity", "opacity"), present, True),))

    pictures = [picture(0, "AP", True), *(picture(n, "PA", False) for n in range(1, 5))]
    odds = odds_of(pictures, ("present", "view"))

    assert odds.tolist() == pytest.approx([0.5, 0.125, 0.125, 0.125, 0.125])
    assert odds_of(pictures, ()).tolist() == pytest.approx([0.2] * 5)


def test_labels_of_whole_images_train_presence_alone(tmp_path):
    lines = ["image,patient,labels"]
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number}.png.jpg"), np.full((80, 80), 90, np.uint8))
        lines.append(f"{number}.png,p{number},{'Effusion|Mass' if number % 2 else 'No Finding'}")
    (tmp_path / "table.csv").write_text("\n".join([*lines, "none.png,p,"]))
    data = LabelData("labels", 1.0, tmp_path / "table.csv", ("Effusion",), suffix=".jpg", score=1.0)
    training = Training(out=tmp_path, recipe=Recipe(steps=1), data=(data,), network=SIZE)

    (source,) = gather(training, print)
    (asked,) = source.draw(np.random.default_rng(0)).asked

    assert asked.query.finding == "pleural effusion"
    assert not asked.drawn
    assert {truth.present for each in source.training for truth in each.truths} == {True, False}
    known = {"image": "7.png.jpg", "phrase": "effusion", "boxes": [], "patient": "p7"}
    (tmp_path / "known.jsonl").write_text(json.dumps(known))
    apart = replace(data, without=str(tmp_path / "known.jsonl"))
    (rest,) = gather(replace(training, data=(apart,)), print)
    assert {p.patient for p in (*source.training, *source.checks)} - {
        p.patient for p in (*rest.training, *rest.checks)
    } == {"p7"}
    (tmp_path / "table.csv").write_text("image,labels\n")
    assert "table.csv has no column patient" in refusal(training)


def test_each_source_gets_its_share_of_a_batch():
    class Counting(ViewSource):
        def draw(self, rng):
            return self.name

    sources = [Counting(weight, Config(), name) for weight, name in ((9, "a"), (1, "b"), (1, "c"))]
    drawn = drawn_from(sources, np.random.default_rng(0), count=11)

    assert [drawn.count(name) for name in "abc"] == [9, 1, 1]


@pytest.mark.parametrize(
    ("phrase", "finding", "side"),
    [
        ("lung opacity", "opacity", None),
        ("left pneumonia", "consolidation", "left"),
        ("Large right-sided pleural effusion", "pleural effusion", "right"),
        ("bibasilar atelectasis", "atelectasis", "bilateral"),
        ("hernia", "hernia", None),
    ],
)
def test_a_phrase_is_asked_as_the_reader_would_understand_it(phrase, finding, side):
    query = query_of_sample(Sample("i", "p", phrase, finding="Hernia"))

    assert (query.text, query.finding, query.side) == (phrase, finding, side)


def test_other_words_say_the_same_finding_side_and_third():
    rng = np.random.default_rng(0)
    for side in (None, "left", "right"):
        for sites in ((), ("lower lobe",)):
            query = Query(f"{side or ''} opacity", "opacity", side, sites)
            for _ in range(20):
                said = reworded(query, rng)
                assert (said.finding, said.side, said.sites) == ("opacity", side, sites)
                assert side_of(said.text) == side
                assert finding_of(said.text) == "opacity"


def test_the_other_side_keeps_everything_else():
    swapped = other_side(Query("Left lower lobe opacity", "opacity", "left", ("lower lobe",)))

    assert swapped == Query("right lower lobe opacity", "opacity", "right", ("lower lobe",))


def test_lesions_are_put_into_normal_radiographs_of_training_patients_alone(tmp_path):
    rows = []
    for number in range(12):
        present = number % 3 == 0
        boxes = [[100, 60, 40, 40]] if present else []
        rows.append({"image": f"{number}.png", "patient": f"p{number}", "phrase": "opacity", "boxes": boxes})
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.round(chest(number, size=192).pixels * 255).astype(np.uint8))
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = LesionData("lesions", 1.0, str(tmp_path / "set.jsonl"), rounds=2)
    beside = PhraseData("phrases", 1.0, str(tmp_path / "set.jsonl"))
    split = Split(held_out=False, validation=0.3)
    training = Training(out=tmp_path, recipe=Recipe(steps=1), data=(data, beside), network=SIZE, split=split)

    lesions, _ = gather(training, print)

    normal = {f"p{number}" for number in range(12) if number % 3}
    wanted = {patient for patient in normal if part_of(patient, split) == "training"}
    assert {picture.patient for picture in lesions.training} == wanted
    assert len(lesions.training) == 2 * len(wanted)
    assert lesions.score == 0
    item = lesions.draw(np.random.default_rng(1))
    assert item.asked[0].present
    assert item.asked[0].mask.any()
