"""What the model card says of the shipped weights, a little below what was measured: on the development data."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.locators import FullModel
from model.evaluation.lungs import lungs_dice
from model.grounder import load_grounder
from model.weights import FILE_NAME, SHIPPED, load_manifest


@pytest.fixture(scope="module")
def grounder():
    return load_grounder(judged=False)


def test_lungs_of_patients_that_were_not_trained_on_are_outlined(grounder, shared):
    seen = load_manifest(SHIPPED).data["lungs"]["patients"]

    scores = lungs_dice(FullModel(grounder), shared / "data" / "cxr" / "hannover", seen=seen)

    assert len(scores) >= 21
    assert np.mean(scores) > 0.92
    assert np.median(scores) > 0.92


def test_the_weights_are_small():
    assert (SHIPPED / FILE_NAME).stat().st_size < 20e6
