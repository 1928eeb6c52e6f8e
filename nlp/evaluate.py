"""Score the reader on open data, with the scorers that lie beside the data: ``python -m nlp.evaluate``."""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from nlp.assertion import claim_about
from nlp.mentions import read_sentences
from nlp.phrases import Assertion, Phrase
from nlp.reader import find_phrases
from nlp.source import reading_copy

_ASSERTIONS = {
    Assertion.AFFIRMED: "present",
    Assertion.PROBABLE: "present",
    Assertion.POSSIBLE: "possible",
    Assertion.NEGATED: "absent",
    Assertion.NOT_REPORTED: "not-reported",
}
_DEGREES = {"minimal": "mild", "tiny": "small"}
_ANATOMY = {
    "lung base": ("base",),
    "apex": ("apex",),
    "upper lobe": ("upper lobe",),
    "upper lung zone": ("upper lobe",),
    "middle lobe": ("middle lobe",),
    "mid lung zone": ("middle lobe",),
    "lower lobe": ("lower lobe",),
    "lower lung zone": ("lower lobe", "base"),
    "lingula": ("lingula",),
    "hilum": ("hilum",),
    "retrocardiac region": ("retrocardiac",),
    "mediastinum": ("mediastinum",),
    "rib": ("ribs",),
    "clavicle": ("clavicle",),
    "thoracic spine": ("thoracic vertebrae",),
    "costophrenic angle": ("costophrenic angle",),
    "pleura": ("pleura",),
    "fissure": ("pleura",),
    "paratracheal region": ("paratracheal",),
    "trachea": ("trachea",),
    "carina": ("trachea, carina",),
    "humerus": ("humerus",),
    "aorta": ("aorta",),
    "aortic arch": ("aorta",),
    "sternum": ("sternum",),
    "interstitium": ("interstitial",),
    "lymph node": ("lymph nodes",),
    "diaphragm": ("diaphragm",),
}
_NOT_LUNG = {"mediastinum", "paratracheal region", "heart", "chest wall", "upper abdomen", "aorta", "rib", "spine"}
_LIMBS = {"shoulder", "humerus", "pelvis or limb", "clavicle"}


def predict_openi(text: str) -> list[dict[str, object]]:
    """The findings of a report in the schema of the Open-I scorer: one dictionary for each phrase and label."""
    return [_openi_row(phrase, label) for phrase in find_phrases(text) for label in _labels(phrase)]


def predict_negex(sentence: str, concept: str) -> bool:
    """Whether *sentence* denies *concept*, any words of it; the first place where they stand counts."""
    found = re.search(r"\s+".join(map(re.escape, concept.split())), sentence, re.IGNORECASE)
    if found is None:
        return False
    for part in read_sentences(reading_copy(sentence)):
        tokens = [index for index, start in enumerate(part.starts) if found.start() <= start < found.end()]
        if tokens:
            return claim_about(part, tokens[0], tokens[-1] + 1) is Assertion.NEGATED
    return False


def _openi_row(phrase: Phrase, label: str) -> dict[str, object]:
    return {
        "start": phrase.start,
        "end": phrase.end,
        "text": phrase.text,
        "label": label,
        "assertion": _ASSERTIONS[phrase.assertion],
        "laterality": phrase.laterality and phrase.laterality.value,
        "anatomy": [name for site in phrase.sites for name in _ANATOMY.get(site.name, ())],
        "severity": phrase.degree and _DEGREES.get(phrase.degree, phrase.degree),
    }


def _labels(phrase: Phrase) -> tuple[str, ...]:
    labels = _label_map().get(phrase.finding.name, ())
    sites = {site.name for site in phrase.sites}
    if "density" in phrase.finding.name and sites and sites <= _NOT_LUNG:
        return tuple(label for label in labels if label != "opacity")
    if phrase.finding.name in ("degenerative change", "osteophyte") and sites & _LIMBS:
        return ()
    return () if phrase.finding.name == "fracture" and "pelvis or limb" in sites else labels


@cache
def _label_map() -> dict[str, tuple[str, ...]]:
    labels: dict[str, tuple[str, ...]] = {}
    with (Path(__file__).parent / "openi.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name in row["concepts"].split(" | "):
                labels[name] = (*labels.get(name, ()), row["label"])
    return labels


def main() -> None:
    """Score the reader on a folder of data with a folder of scorers and print the table beside the peers' figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nlp"), help="openi_dev.jsonl and the others")
    parser.add_argument(
        "--scorers", type=Path, default=Path("../shared/eval/nlp"), help="score_openi.py and the others"
    )
    folders = parser.parse_args()
    Console().print(table_of(scores(folders.data, folders.scorers)))


@dataclass(frozen=True, slots=True)
class Score:
    """One measure: what is asked of it, what the best peer reached (None: not measured) and what was measured."""

    measure: str
    peer: str
    asked: float
    value: float


def scores(data: Path, scorers: Path) -> tuple[Score, ...]:
    """The reader's figures on *data* by the definitions in *scorers*."""
    openi = _scorer(scorers, "score_openi")
    found = openi.evaluate(predict_openi, _rows(data / "openi_dev.jsonl"))
    strict = found["strict"]
    lowest = min(strict["per_label"][label]["F"] for label in openi.CORE)
    negex, _ = _scorer(scorers, "score_negex").score(predict_negex, _rows(data / "negex_dev.jsonl"))
    traps, _ = _scorer(scorers, "score_challenge").score(predict_openi, _rows(data / "challenge_dev.jsonl"))
    return (
        Score("NegEx negated F1", ".949", 0.955, negex["f1"]),
        Score("Open-I 15 findings macro F1, strict", ".845", 0.930, strict["core"]["macroF1"]),
        Score("Open-I 15 findings micro F1, strict", ".858", 0.945, strict["core"]["microF1"]),
        Score("lowest F1 of the 15 findings", ".54", 0.85, lowest),
        Score("8 further findings macro F1", ".807", 0.94, strict["ext"]["macroF1"]),
        Score("normal reports with nothing positive", ".965", 0.975, strict["normal_clean"]),
        Score("side exact", ".926", 0.945, strict["laterality_acc"]),
        Score("anatomy", ".809", 0.88, strict["anatomy_acc"]),
        Score("severity", ".893", 0.93, strict["severity_acc"]),
        Score("challenge sentences", ".63", 0.90, traps["assertion"]),
        Score("offset errors", "-", 0, found["offset_errors"]),
        Score("reports per CPU second", "68", 200, found["reports_per_cpu_s"]),
        Score("memory, MB", "205", 250, found["maxrss_mb"]),
    )


def table_of(measured: Iterable[Score]) -> Table:
    """The scores as a table for the terminal."""
    table = Table("measure", "best peer", "at least", "Sightline", title="Report understanding on the open data")
    for score in measured:
        table.add_row(score.measure, score.peer, f"{score.asked:g}", f"{score.value:g}")
    return table


def _scorer(folder: Path, name: str) -> ModuleType:
    """The scorer *name*, from the folder where it lies beside the data."""
    spec = spec_from_file_location(name, folder / f"{name}.py")
    if spec is None or spec.loader is None or not (folder / f"{name}.py").is_file():
        raise FileNotFoundError(f"there is no scorer {name}.py in the folder given by --scorers")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
