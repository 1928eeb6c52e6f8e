"""What the judge says of real films of patients that it never saw, and of DICOM files that show no chest."""

from collections import Counter

import pytest

from model.geometry import UPRIGHT
from model.suitability.judge import load_judge
from model.suitability.measure import plane_of
from model.suitability.pictures import films
from model.suitability.train import part_of
from model.values import Fault
from plugin.dicom.pixels import radiograph_of

NO_CHEST = ("RG3_J2KI.dcm", "RG3_J2KR.dcm")


@pytest.fixture(scope="module")
def kept(shared):
    return [each for each in films(shared / "data" / "cxr") if part_of(each.patient) == "held out"]


def faults(pictures, pose=(False, False, False), *, inverted=False):
    judge = load_judge()
    return Counter(judge.look(plane_of(each, pose, inverted=inverted), UPRIGHT).fault for each in pictures)


def test_upright_films_are_grounded(kept):
    upright = [each for each in kept if not each.turned]
    found = faults(upright)

    assert len(upright) > 100
    assert found[None] >= 0.96 * len(upright)
    assert found[Fault.MIRRORED] <= 2  # of one patient, whose heart is drawn to the right; see the judge's card


@pytest.mark.parametrize("pose", [(True, False, True), (True, True, False), (False, True, True)])
def test_turned_films_are_refused(kept, pose):
    upright = [each for each in kept if not each.turned]

    assert faults(upright, pose)[None] <= 0.02 * len(upright)


def test_films_that_their_source_calls_turned_are_refused(shared):
    turned = [each for each in films(shared / "data" / "cxr") if each.turned]

    assert len(turned) == 40
    assert faults(turned)[None] <= 2


def test_inverted_films_are_refused(kept):
    upright = [each for each in kept if not each.turned]

    assert faults(upright, inverted=True)[None] <= 0.05 * len(upright)


def test_limbs_in_dicom_are_refused(shared):
    judge = load_judge()
    paths = [path for name in NO_CHEST for path in (shared / "data" / "dicom").rglob(f"*{name}")]
    seen = [radiograph_of(path.read_bytes()) for path in paths]

    assert len(seen) == len(NO_CHEST)
    assert all(judge.look(each.pixels, each.orientation).fault is not None for each in seen)
