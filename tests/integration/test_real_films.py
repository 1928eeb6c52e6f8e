"""The command line on real radiographs, which lie beside the checkout and are no part of the project."""

import json

import cv2
import numpy as np
import torch
from builders import chest, part10

from model.anatomy import field_of
from model.evaluation.figures import BARS
from model.geometry import UPRIGHT
from model.grounder import load_grounder
from model.values import Query
from plugin.cli import main
from plugin.dicom.pixels import radiograph_of
from plugin.dicom.result import read_segmentation
from plugin.page.document import read_evidence

NODULES = "FINDINGS: Multiple bilateral pulmonary nodules. No pleural effusion or pneumothorax."
OPACITY = "FINDINGS: Opacity in the {side} lung. No pneumothorax or pleural effusion."


def grounded(films, text, folder):
    for number, content in enumerate(films):
        (folder / f"{number}.dcm").write_bytes(content)
    (folder / "report.txt").write_text(text)
    out = folder / "out"
    files = [str(folder / f"{number}.dcm") for number in range(len(films))]
    assert main(["ground", "--study", *files, "--report", str(folder / "report.txt"), "--out", str(out)]) == 0
    return read_evidence((out / "evidence.json").read_bytes()), out


def near_the_lungs(radiograph):
    """Where the lungs are and a little around them, on the source pixels: bool (rows, columns)."""
    lungs = load_grounder().lungs(radiograph.pixels, radiograph.orientation)
    assert lungs.plausible
    field = field_of(lungs, Query("opacity", "opacity"))
    rows, columns = radiograph.pixels.shape
    side = max(rows, columns)
    whole = cv2.resize(field.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST).astype(bool)
    left, top = radiograph.letterbox.padding
    return whole[top : top + rows, left : left + columns]


def check(evidence, out, film):
    """Nothing denied is lit; what is lit lies at the lungs; the SEG holds what the evidence says."""
    lit = {phrase.tracking_uid: phrase for phrase in evidence.phrases if any(p.regions for p in phrase.placements)}
    assert {phrase.assertion for phrase in lit.values()} <= {"affirmed"}
    if lit:
        segments = {s.tracking_uid: s.mask for s in read_segmentation((out / "seg.dcm").read_bytes())}
        assert set(segments) == set(lit)
        lungs = near_the_lungs(radiograph_of(film))
        for mask in segments.values():
            assert (mask & lungs).sum() > 0.95 * mask.sum()
    return lit


def test_nodules_of_both_lungs_are_lit_in_both_lungs_and_what_is_denied_is_not(shared, tmp_path):
    (path,) = (shared / "data" / "dicom").rglob("RG1_J2KI*")
    film = path.read_bytes()

    evidence, out = grounded([film], NODULES, tmp_path)

    (nodules,) = check(evidence, out, film).values()
    assert nodules.finding.name == "pulmonary nodule"
    mask = read_segmentation((out / "seg.dcm").read_bytes())[0].mask
    half = mask.shape[1] // 2
    assert mask[:, :half].any()
    assert mask[:, half:].any()


def test_ten_films_are_grounded_on_the_named_side(shared, tmp_path):
    folder = shared / "data" / "cxr" / "nih"
    rows = [json.loads(line) for line in (folder / "grounding.jsonl").read_text().splitlines()]
    chosen = [row for row in rows if row["boxes"] and row["phrase"].startswith("opacity in the")][::13][:10]

    assert len(chosen) == 10
    for number, row in enumerate(chosen):
        stored = cv2.imread(str(folder / row["image"]), cv2.IMREAD_GRAYSCALE)
        film = part10(chest(stored, name=str(number), ViewPosition=row["view"]))
        side = "left" if "left" in row["phrase"] else "right"
        here = tmp_path / str(number)
        here.mkdir()

        evidence, out = grounded([film], OPACITY.format(side=side), here)

        (opacity,) = check(evidence, out, film).values()
        centre = np.mean([point[0] for place in opacity.placements for r in place.regions for point in r.outline])
        assert (centre > stored.shape[1] / 2) == (side == "left")


def test_real_films_are_seen_as_frontal_chests(shared):
    grounder = load_grounder()
    films = sorted((shared / "data" / "cxr" / "nih" / "images").glob("*.jpg"))[::40]
    views = [
        grounder.suitability(cv2.imread(str(film), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255, UPRIGHT).view
        for film in films
    ]

    assert np.mean([view == "frontal" for view in views]) > 0.9


def test_the_shipped_weights_hold_their_bars_on_patients_kept_aside(shared, tmp_path):
    films = shared / "data" / "cxr"
    data, lungs, out = films / "nih" / "grounding.jsonl", films / "hannover", tmp_path / "measured"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # browsers are tested beside
    try:
        assert main(["evaluate", str(data), "--held-out", "--lungs", str(lungs), "--out", str(out)]) == 0
    finally:
        torch.set_num_threads(threads)
    figures = json.loads((out / "metrics.json").read_text())

    assert figures["trained on"]["seen in training"] == 0
    assert not {bar.name: figures[bar.name] for bar in BARS if figures[bar.name] < bar.least}
    gains = [figures["full minus prior"][f"{name}, phrase without side"]["interval"][0] for name in ("Dice", "CNR")]
    assert max(gains) > 0
    for promise in figures["conformal"].values():
        assert abs(promise["measured"] - promise["promised"]) <= 0.02
    # 57 films cannot tell .08 from more: perfect probabilities have .12 on them.
    assert figures["calibration"]["ECE"] <= figures["calibration"]["ECE by chance"]["to"]
