"""Score the reader on open data, with the scorers that lie beside the data."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

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
