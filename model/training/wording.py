"""From a data set's phrase to the query that the network is asked, and to other wordings of the same thing. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from model.data.sample import Sample
from model.grounder import ALIKE, LEARNT
from model.twin.findings import TwinFinding
from model.twin.words import phrases_for
from model.values import Query

_WORDS = re.compile(r"[a-z]+")
_OTHER = {"left": "right", "right": "left"}
#: Words of phrases and labels that the lexicon names otherwise.
_SYNONYMS = {
    "effusion": "pleural effusion",
    "nodule": "pulmonary nodule",
    "infiltration": "opacity",
    "opacities": "opacity",
    "opacification": "opacity",
    "edema": "pulmonary edema",
    "enlarged heart": "cardiomegaly",
    "enlarged cardiac silhouette": "cardiomegaly",
}
_NAMES = {**{name: name for name in LEARNT}, **ALIKE, **_SYNONYMS}
_BY_LENGTH = sorted(_NAMES, key=lambda name: (-len(name), name))
_PLACES = (
    ("upper lobe", ("upper", "apical", "apex")),
    ("mid lung", ("mid", "middle", "perihilar", "lingula", "lingular")),
    ("lower lobe", ("lower", "base", "basal", "basilar", "bibasilar", "retrocardiac")),
)


def query_of_sample(sample: Sample) -> Query:
    """What the report reader would understand of the phrase, in the names that the network learns.

    Raises
    ------
    ValueError
        If the phrase has no words.
    """
    text = sample.phrase
    named = finding_of(text) or finding_of(sample.finding) or sample.finding.lower()
    return Query(text=text, finding=named, side=side_of(text), sites=_sites(text))


def finding_of(text: str) -> str | None:
    """The learnt name of the longest finding named in *text*, or None."""
    words = f" {' '.join(_WORDS.findall(text.lower()))} "
    found = next((name for name in _BY_LENGTH if f" {' '.join(_WORDS.findall(name.lower()))} " in words), None)
    return None if found is None else _NAMES[found]


def side_of(text: str) -> str | None:
    """The patient's side that *text* names."""
    words = set(_WORDS.findall(text.lower()))
    if words & {"bilateral", "bibasilar", "both"} or {"left", "right"} <= words:
        return "bilateral"
    return next((side for side in ("left", "right") if side in words), None)


def _sites(text: str) -> tuple[str, ...]:
    words = set(_WORDS.findall(text.lower()))
    return tuple(name for name, said in _PLACES if words & set(said))[:1]


def other_side(query: Query) -> Query:
    """*query* as it would be asked of the mirror image."""
    swapped = re.sub(r"\b(left|right)\b", lambda found: _OTHER[found.group().lower()], query.text, flags=re.IGNORECASE)
    return replace(query, text=swapped, side=_OTHER.get(query.side or "", query.side))


def reworded(query: Query, rng: np.random.Generator) -> Query:
    """Other words for the same finding that say the same side and third; *query* itself when none are drawn."""
    if query.finding not in LEARNT or (query.finding == "pneumothorax" and query.side is None):
        return query
    said = TwinFinding(query.finding, query.side, query.sites, np.zeros((1, 1), bool))
    for _ in range(4):
        text = phrases_for(said, rng)
        if side_of(text) == query.side and _sites(text) == query.sites:
            return replace(query, text=text)
    return query
