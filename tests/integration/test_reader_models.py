"""A site's own spaCy model beside the rules, and the evaluation over folders of data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import spacy

from nlp.evaluate import predict_negex, predict_openi, scores, table_of
from nlp.reader import find_phrases

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture
def site_model(tmp_path: Path) -> str:
    """A tiny pipeline in the form in which a site installs its own."""
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns(
        [{"label": "ENTITY", "pattern": "lacy quilted nodule"}, {"label": "DISEASE", "pattern": "Castleman disease"}]
    )
    pipeline.to_disk(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_site_model_widens_phrases_and_names_diseases_the_lexicon_lacks(site_model: str) -> None:
    text = "Lungs show a lacy quilted nodule. Castleman disease. lacy quilted nodule"

    without, with_model = find_phrases(text), find_phrases(text, site_model)

    assert without[0].text == "nodule"
    assert [phrase.text for phrase in with_model] == ["lacy quilted nodule", "Castleman disease", "lacy quilted nodule"]
    assert with_model[1].finding.codes == ()
    assert not with_model[1].groundable


def test_a_site_model_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(OSError, match="no_such_model"):
        find_phrases("Small effusion.", "no_such_model")


def test_the_predictors_answer_in_the_scorers_form() -> None:
    (row,) = predict_openi("Small left pleural effusion at the base.")

    assert row == {
        "start": 0, "end": 39, "text": "Small left pleural effusion at the base", "label": "effusion",
        "assertion": "present", "laterality": "left", "anatomy": ["base", "pleura"], "severity": "small",
    }  # fmt: skip
    assert (
        predict_openi("Fracture of the left hip. Degenerative changes of the shoulder. Density over the breast.") == []
    )
    assert predict_negex("no sign of   splenic rupture today", "splenic rupture")
    assert not predict_negex("splenic rupture is seen", "splenic rupture")
    assert not predict_negex("nothing of the kind", "splenic rupture")


def test_the_table_sets_our_scores_beside_the_peers(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip("the scorers and their data are not beside the checkout")
    for name in ("openi_dev.jsonl", "negex_dev.jsonl", "challenge_dev.jsonl"):
        rows = (SHARED / "data" / "nlp" / name).read_text(encoding="utf-8").splitlines()[:120]
        (tmp_path / name).write_text("\n".join(rows), encoding="utf-8")

    measured = {score.measure: score.value for score in scores(tmp_path, SHARED / "eval" / "nlp")}

    assert measured["offset errors"] == 0
    assert measured["NegEx negated F1"] >= 0.9
    assert table_of(scores(tmp_path, SHARED / "eval" / "nlp")).row_count == len(measured)
    shutil.rmtree(tmp_path)


def test_a_missing_scorer_is_named(tmp_path: Path) -> None:
    (tmp_path / "openi_dev.jsonl").write_text(json.dumps({}), encoding="utf-8")

    with pytest.raises(FileNotFoundError, match=r"score_openi\.py"):
        scores(tmp_path, tmp_path)
