"""What becomes of a film that cannot be grounded as it lies: from file to evidence, and what a reader is told."""

import numpy as np
import pytest
from builders import chest, part10

from model.geometry import Orientation
from model.twin.sample import sample
from plugin.cli import main
from plugin.dicom.result import read_segmentation
from plugin.page.document import read_evidence

REPORT = "FINDINGS: Large left pleural effusion. No pneumothorax."


@pytest.fixture(scope="module")
def upright():
    """A chest with an effusion on its left side."""
    for seed in range(900_000, 900_200):
        made = sample(seed, size=256)
        if any(each.concept == "pleural effusion" and each.side == "left" for each in made.findings):
            return np.round(made.pixels * 255).astype(np.uint8)
    raise LookupError("no sample has a left effusion")


def grounded(films, folder):
    for number, pixels in enumerate(films):
        content = part10(chest(np.ascontiguousarray(pixels), name=str(number), InstanceNumber=number))
        (folder / f"{number}.dcm").write_bytes(content)
    (folder / "report.txt").write_text(REPORT)
    files = [str(folder / f"{number}.dcm") for number in range(len(films))]
    out = folder / "out"
    assert main(["ground", "--study", *files, "--report", str(folder / "report.txt"), "--out", str(out)]) == 0
    return read_evidence((out / "evidence.json").read_bytes()), out


def of_effusion(evidence):
    (found,) = (phrase for phrase in evidence.phrases if phrase.finding.name == "pleural effusion")
    return found


def test_a_film_on_its_side_is_refused_and_page_and_evidence_say_why(upright, tmp_path):
    evidence, out = grounded([np.rot90(upright)], tmp_path)

    (placement,) = of_effusion(evidence).placements
    assert placement.state == "not-groundable"
    assert placement.reason == "the image lies on its side (turned by 90 degrees)"
    assert not placement.regions
    assert any("lies on its side" in warning for warning in evidence.warnings)
    assert "lies on its side" in (out / "evidence.html").read_text()


def test_by_setting_it_is_grounded_and_its_regions_lie_in_the_stored_pixels(upright, tmp_path, monkeypatch):
    plain, turned = tmp_path / "plain", tmp_path / "turned"
    plain.mkdir()
    turned.mkdir()
    _, expected = grounded([upright], plain)
    monkeypatch.setenv("SIGHTLINE_CORRECT_ORIENTATION", "true")

    evidence, out = grounded([np.rot90(upright)], turned)

    assert any("searched as if it were upright" in warning for warning in evidence.warnings)
    (mask,) = (segment.mask for segment in read_segmentation((out / "seg.dcm").read_bytes()))
    (wanted,) = (segment.mask for segment in read_segmentation((expected / "seg.dcm").read_bytes()))
    wanted = np.rot90(wanted)
    assert (mask & wanted).sum() > 0.9 * (mask | wanted).sum()
    assert Orientation(transpose=True, reverse_columns=True).apply(mask).shape == upright.shape


def test_of_repeats_the_one_that_can_be_grounded_is_taken(upright, tmp_path):
    evidence, _ = grounded([upright, upright[:, ::-1]], tmp_path)

    assert of_effusion(evidence).placements[0].state == "found"
    assert not any("mirrored" in warning for warning in evidence.warnings)
