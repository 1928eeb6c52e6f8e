"""How good the shipped grounder is, on samples of the twin that nothing was trained or tuned on, and on real boxes.

    python -m model.evaluate [--twin COUNT] [--boxes grounding.jsonl]

*grounding.jsonl*: one object a line with ``image`` (relative to the file), ``phrase``, ``finding`` and ``boxes`` as
[left, top, width, height] in the image's pixels; no box means that a reader saw none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.batches import absent, query_of
from model.geometry import UPRIGHT
from model.grounder import TorchGrounder, load_grounder
from model.twin.sample import sample
from model.values import Grounding, Query, State

Mask = npt.NDArray[np.bool_]
EVALUATION_SEEDS = range(200_000, 210_000)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One phrase on one image with its truth, bool (rows, columns); an empty one means absent."""

    query: Query
    truth: Mask
    answer: Grounding

    @property
    def lit(self) -> Mask:
        """All regions of the answer."""
        lit = np.zeros(self.truth.shape, bool)
        for region in self.answer.regions:
            lit |= region.mask(*self.truth.shape)
        return lit


def dice(one: Mask, other: Mask) -> float:
    """2 |A and B| / (|A| + |B|); 1 when both are empty."""
    total = int(one.sum() + other.sum())
    return 1.0 if not total else 2 * int((one & other).sum()) / total


def right_side(lit: Mask, truth: Mask) -> bool:
    """Whether *lit* is on the side of the image where *truth* is.

    A truth of one side, with four fifths of its area in one half of the image, wants most of the light there; one that
    lies on both sides, or across the middle, wants light on it.
    """
    if not lit.any():
        return False
    there, shown = _halves(truth), _halves(lit)
    if max(there) < 0.8:
        return bool((lit & truth).any())
    return shown[there.index(max(there))] > 0.5


def _halves(mask: Mask) -> tuple[float, float]:
    """Shares of the area in the left and the right half of the image."""
    middle, total = mask.shape[1] // 2, mask.sum()
    return float(mask[:, :middle].sum() / total), float(mask[:, middle:].sum() / total)


def auc(present: list[float], missing: list[float]) -> float:
    """Share of pairs that the score puts in order (the area under the ROC curve)."""
    if not present or not missing:
        return float("nan")
    ranked = np.asarray(present)[:, None] - np.asarray(missing)[None, :]
    return float((ranked > 0).mean() + 0.5 * (ranked == 0).mean())


def twin_cases(grounder: TorchGrounder, seeds: range, *, size: int = 512) -> Iterator[Case]:
    """Every finding of each sample, and one or two that are not there."""
    for seed in seeds:
        made = sample(seed, size=size)
        rng = np.random.Generator(np.random.PCG64(seed))
        wanted = [(query_of(finding, rng), finding.mask) for finding in made.findings]
        nothing = np.zeros((size, size), bool)
        wanted += [(query_of(finding, rng), nothing) for finding in absent(made.findings, rng)]
        answers = grounder.ground(made.pixels, UPRIGHT, tuple(query for query, _ in wanted))
        for (query, truth), answer in zip(wanted, answers, strict=True):
            yield Case(query, truth, answer)


def box_cases(grounder: TorchGrounder, file: Path) -> Iterator[Case]:
    """Every line of *file*."""
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        stored = cv2.imread(str(file.parent / row["image"]), cv2.IMREAD_GRAYSCALE)
        pixels = np.asarray(stored, np.float32) / 255
        truth = np.zeros(pixels.shape, bool)
        for left, top, width, height in row["boxes"]:
            truth[round(top) : round(top + height), round(left) : round(left + width)] = True
        side = next((side for side in ("left", "right") if side in row["phrase"].split()), None)
        query = Query(row["phrase"], _finding(row), side, ("lung",))  # as the report reader gives it
        yield Case(query, truth, grounder.ground(pixels, UPRIGHT, (query,))[0])


_FINDINGS = {"lung opacity": "opacity", "effusion": "pleural effusion", "nodule": "pulmonary nodule"}


def _finding(row: dict[str, str]) -> str:
    """The lexicon's name of what a line asks for; where nothing was seen, the phrase tells."""
    name = row["finding"].lower()
    return "opacity" if "opacity" in row["phrase"] else _FINDINGS.get(name, name)


def figures_of(cases: list[Case]) -> dict[str, float]:
    """The figures of a set of cases; those about places over the phrases that are there."""
    there = [case for case in cases if case.truth.any()]
    sided = [case for case in there if case.query.side in ("left", "right")]
    peaks = [case for case in there if case.answer.heatmap is not None]
    return {
        "phrases": len(there),
        "absent phrases": len(cases) - len(there),
        "Dice": float(np.mean([dice(case.lit, case.truth) for case in there])),
        "lit": float(np.mean([bool(case.answer.regions) for case in there])),
        "right side": float(np.mean([right_side(case.lit, case.truth) for case in sided])) if sided else float("nan"),
        "pointing game": float(np.mean([_hit(case) for case in peaks])) if peaks else float("nan"),
        "presence AUC": auc(
            [case.answer.probability for case in there],
            [case.answer.probability for case in cases if not case.truth.any()],
        ),
        "absent called found": float(
            np.mean([float(case.answer.state is State.FOUND) for case in cases if not case.truth.any()])
        ),
    }


def _hit(case: Case) -> bool:
    if case.answer.heatmap is None:
        return False
    values = case.answer.heatmap.on_source()
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return bool(case.truth[row, column])


def main() -> None:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(description="Measure the shipped grounder.")
    parser.add_argument("--twin", type=int, default=100, help="unseen samples of the twin")
    parser.add_argument("--boxes", type=Path, help="real images with phrases and boxes (JSONL)")
    parsed = parser.parse_args()
    grounder = load_grounder(judged=False)
    cases = list(twin_cases(grounder, EVALUATION_SEEDS[: parsed.twin]))
    print("twin", json.dumps(figures_of(cases), indent=1))
    for finding in sorted({case.query.finding for case in cases}):
        chosen = [case for case in cases if case.query.finding == finding and case.truth.any()]
        if chosen:
            print(f"{finding:22} {len(chosen):4} {np.mean([dice(case.lit, case.truth) for case in chosen]):.3f}")
    if parsed.boxes:
        print("boxes", json.dumps(figures_of(list(box_cases(grounder, parsed.boxes))), indent=1))


if __name__ == "__main__":
    main()
