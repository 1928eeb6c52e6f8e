import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import Config
from model.engines.pytorch import embedded
from model.geometry import UPRIGHT, Orientation
from model.grounder import ALIKE, LEARNT, NO_LUNGS, EngineGrounder, load_grounder
from model.network import seeded_network
from model.values import Query, Question, State, View
from model.weights import FILE_NAME, WeightsError, save_weights
from model.words import tokens_of

TINY = Config(size=64, widths=(8, 8, 8, 8, 8), pyramid=8, embedding=8, buckets=128)
FIGURES = {"threshold": 0.5, "presence_threshold": 0.5, "dice": 0.0}
EFFUSION = Query("left pleural effusion", "pleural effusion", "left", ("pleura",))


def chest(network, *, logit=9.0):
    """Make a tiny network see two lungs and, where *logit* says so, every finding everywhere."""
    size = network.config.heatmap
    anatomy = torch.full((1, 3, size, size), -9.0)
    anatomy[0, 0, 6:26, 4:13] = anatomy[0, 1, 6:26, 19:28] = 9.0

    class Anatomy(torch.nn.Module):
        def forward(self, features):
            return anatomy.expand(len(features.whole), -1, -1, -1)

    class Decoder(torch.nn.Module):
        def show(self, features, anatomy):
            return features

        def forward(self, shown, phrases, image):
            count = len(phrases)
            return torch.full((count, size, size), logit), torch.full((count,), logit)

    network.anatomy, network.decoder = Anatomy(), Decoder()
    return network


@pytest.fixture
def weights(tmp_path):
    save_weights(seeded_network(TINY, 0), tmp_path, figures=FIGURES, recipe={}, data={})
    return tmp_path


@pytest.fixture
def seeing(weights):
    def make(logit):
        loaded = load_grounder(weights)
        return EngineGrounder(chest(loaded._network, logit=logit), loaded._manifest)

    return make


PIXELS = np.random.default_rng(0).random((90, 64)).astype(np.float32)


def test_weights_come_back_as_they_were_saved(weights):
    first, second = load_grounder(weights), load_grounder(weights, threads=1)

    assert first.card == second.card
    state = seeded_network(TINY, 0).half().float().state_dict()
    assert all(torch.equal(state[name], value) for name, value in first._network.state_dict().items())


def test_the_card_is_bound_to_the_weights(weights):
    card = load_grounder(weights).card

    assert card.weights_sha256 == json.loads((weights / "manifest.json").read_text())["sha256"]
    assert card.threshold == 0.5


def damage(folder, how):
    file = folder / (FILE_NAME if how in ("changed", "gone", "not weights") else "manifest.json")
    if how == "gone":
        file.unlink()
    elif how == "other shape":
        manifest = json.loads(file.read_text())
        manifest["config"]["pyramid"] = 16
        file.write_text(json.dumps(manifest))
    else:
        file.write_bytes(b"{" if how == "no manifest" else b"0" * 100)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("changed", "SHA-256"),
        ("gone", "cannot be read"),
        ("no manifest", "not a manifest"),
        ("other shape", "do not fit"),
    ],
)
def test_weights_that_are_not_those_of_the_manifest_are_refused(weights, how, says):
    damage(weights, how)

    with pytest.raises(WeightsError, match=says):
        load_grounder(weights)


def test_the_same_image_and_phrase_give_the_same_answer(weights):
    answers = [load_grounder(weights).ground(PIXELS, UPRIGHT, (EFFUSION,)) for _ in range(2)]

    assert answers[0][0].probability == answers[1][0].probability


def test_an_operating_point_of_the_manifest_sets_the_threshold(weights):
    manifest = json.loads((weights / "manifest.json").read_text())
    (weights / "manifest.json").write_text(json.dumps(manifest | {"operating_points": {"sensitive": 0.25}}))

    assert load_grounder(weights, operating_point="sensitive").card.threshold == 0.25
    with pytest.raises(WeightsError, match="no operating point 'specific'"):
        load_grounder(weights, operating_point="specific")


def test_nothing_asked_is_nothing_answered(weights):
    assert load_grounder(weights).ground(PIXELS, UPRIGHT, ()) == ()


def test_an_image_without_lungs_is_not_guessed_at(weights):
    (answer,) = load_grounder(weights, judged=False).ground(np.zeros((64, 64), np.float32), UPRIGHT, (EFFUSION,))

    assert answer.state is State.NOT_GROUNDABLE
    assert answer.reason == NO_LUNGS


def test_a_finding_that_is_seen_lights_only_the_named_side(seeing):
    (answer,) = seeing(9.0).ground(PIXELS, UPRIGHT, (EFFUSION,))

    assert answer.state is State.FOUND
    assert all(region.box[0] > 32 for region in answer.regions)
    assert answer.heatmap.values[:, :16].max() == 0


def test_a_mirrored_plate_lights_the_same_side_of_the_patient(seeing):
    (answer,) = seeing(9.0).ground(PIXELS, Orientation(reverse_columns=True), (EFFUSION,))

    assert all(region.box[2] < 32 for region in answer.regions)


def test_a_finding_that_is_not_seen_shows_the_named_area_and_says_so(seeing):
    (answer,) = seeing(-9.0).ground(PIXELS, UPRIGHT, (EFFUSION,))

    assert answer.state is State.REGION_ONLY
    assert "the area that the report names" in answer.reason
    assert answer.probability < 0.5


def test_a_finding_that_is_not_seen_and_not_placed_is_not_found(seeing):
    (answer,) = seeing(-9.0).ground(PIXELS, UPRIGHT, (Query("nodule", "pulmonary nodule"),))

    assert answer.state is State.NOT_FOUND
    assert not answer.regions


def test_a_finding_the_model_never_learnt_is_never_claimed(seeing):
    placed, unplaced = seeing(9.0).ground(
        PIXELS, UPRIGHT, (Query("right fibrosis", "fibrosis", "right", ("lung",)), Query("fibrosis", "fibrosis"))
    )

    assert (placed.state, placed.probability) == (State.REGION_ONLY, 0.0)
    assert (unplaced.state, unplaced.regions) == (State.NOT_GROUNDABLE, ())
    assert "does not know" in unplaced.reason


def test_pneumonia_is_looked_for_as_the_consolidation_it_looks_like(seeing):
    (answer,) = seeing(9.0).ground(PIXELS, UPRIGHT, (Query("pneumonia", "pneumonia"),))

    assert answer.state is State.FOUND


def test_an_image_that_is_no_radiograph_is_refused_with_the_reason(weights):
    grounder = load_grounder(weights)

    (answer,) = grounder.ground(PIXELS, UPRIGHT, (EFFUSION,))

    seen = grounder.suitability(PIXELS, UPRIGHT)
    assert seen.view is not View.FRONTAL
    assert (answer.state, answer.reason) == (State.NOT_GROUNDABLE, seen.reason)
    assert (answer.regions, answer.heatmap) == ((), None)


def test_many_images_are_answered_as_one_by_one_and_encoded_once(seeing):
    grounder = seeing(9.0)
    upside_down = Orientation(reverse_rows=True, reverse_columns=True)
    nodule = Query("nodule", "pulmonary nodule")
    questions = (
        Question(PIXELS, UPRIGHT, (EFFUSION, nodule)),
        Question(PIXELS, UPRIGHT, ()),
        Question(PIXELS, upside_down, (nodule,)),
    )
    encoded = []
    grounder._engine._network.image.register_forward_hook(lambda *_: encoded.append(1))

    together = grounder.ground_all(questions)

    assert len(encoded) == 2
    assert [len(answers) for answers in together] == [2, 0, 1]
    alone = [grounder.ground(each.pixels, each.orientation, each.queries) for each in questions]
    assert [[a.regions for a in answers] for answers in together] == [[a.regions for a in answers] for answers in alone]


def fixed(values):
    """As the images of a study are: nobody writes them any more."""
    made = np.array(values, np.float32)
    made.setflags(write=False)
    return made


def test_an_image_that_cannot_be_written_is_encoded_once_however_often_it_is_asked_about(weights):
    grounder = load_grounder(weights)
    encoded, image = [], fixed(PIXELS)
    grounder._engine._network.image.register_forward_hook(lambda *_: encoded.append(1))

    grounder.suitability(image, UPRIGHT)
    for _ in range(3):
        grounder.ground(image, UPRIGHT, (EFFUSION,) * 20)
    assert not encoded  # the judge refuses it, and is asked once
    grounder._judge = None
    for _ in range(3):
        grounder.ground(fixed(PIXELS), UPRIGHT, (EFFUSION,))

    assert len(encoded) == 3  # other arrays, though of the same numbers


def test_no_answer_depends_on_what_else_is_asked(seeing):
    grounder = seeing(9.0)
    rng = np.random.default_rng(1)
    films = [fixed(rng.random((90, 64))) for _ in range(4)]
    phrases = tuple(Query(f"nodule {'abcdefghijklmnopqrst'[number]}", "pulmonary nodule") for number in range(20))
    questions = [Question(film, UPRIGHT, phrases[: 5 * (number + 1)]) for number, film in enumerate(films)]

    together = grounder.ground_all(questions)
    alone = [seeing(9.0).ground(each.pixels, each.orientation, each.queries) for each in questions]

    assert [len(answers) for answers in together] == [5, 10, 15, 20]
    for ours, theirs in zip(together, alone, strict=True):
        assert [answer.probability for answer in ours] == [answer.probability for answer in theirs]
        assert all(np.array_equal(a.heatmap.values, b.heatmap.values) for a, b in zip(ours, theirs, strict=True))


def test_words_in_any_order_are_embedded_once_and_few_are_kept(seeing, monkeypatch):
    grounder, made = seeing(9.0), []
    monkeypatch.setattr(grounder._engine, "embed", lambda rows: made.extend(rows) or embedded(grounder._network, rows))
    first, second = (Query(text, "pulmonary nodule", "right") for text in ("right nodule", "Nodule, right"))

    grounder.ground(PIXELS, UPRIGHT, (first, second))
    grounder.ground(PIXELS, UPRIGHT, (second,))

    assert len(made) == 1


def test_every_finding_the_model_claims_is_a_name_of_the_reader():
    reader = Path(__file__).parents[2] / "nlp" / "lexicon.csv"
    names = {row["concept"] for row in csv.DictReader(reader.read_text(encoding="utf-8").splitlines())}

    assert names >= LEARNT | ALIKE.keys()
    assert set(ALIKE.values()) <= LEARNT


def test_words_are_tokens_in_any_order_and_numbers_are_alike():
    first = tokens_of(Query("12 mm right nodule", "pulmonary nodule", "right"), Config())
    second = tokens_of(Query("right nodule 9 mm", "pulmonary nodule", "right"), Config())

    assert first == second
    assert first != tokens_of(Query("9 mm left nodule", "pulmonary nodule", "left"), Config())


@pytest.mark.parametrize("size", [0, 63, 100])
def test_a_size_the_network_cannot_halve_is_refused(size):
    with pytest.raises(ValueError, match="multiple of 32"):
        Config(size=size)
