"""Report texts for what the twin shows, with the truth about every finding they mention; all wording is our own."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from model.twin.findings import TwinFinding
from model.twin.layout import Claim, Paper, Sentence, written
from model.twin.words import phrases_for

_STATEMENTS = (
    "There {is} {p}.",
    "{p}.",
    "{p} {be} seen.",
    "{p} {be} noted.",
    "{p}, unchanged compared with the prior study.",
    "{p}, which {have} increased since the previous examination.",
    "Redemonstration of {p}.",
    "New {p} {be} present.",
)
_DEVICES = ("{p} in place.", "There {is} {p}.", "{p} {be} in satisfactory position.", "{p} {be} unchanged in position.")
_DOUBTS = (
    ("Possible {p}.", "possible"),
    ("Questionable {p}.", "possible"),
    ("{p} cannot be excluded.", "possible"),
    ("Findings may represent {p}.", "possible"),
    ("Probable {p}.", "probable"),
    ("Findings are most consistent with {p}.", "probable"),
)
_CAUSES = (
    (", which may represent ", "possible"),
    (", concerning for ", "possible"),
    (", likely representing ", "probable"),
    (", possibly due to ", "possible"),
)
_DENIALS = ("No {p}.", "There is no {p}.", "No evidence of {p}.", "There is no radiographic evidence of {p}.")
_DENIED = {
    "pneumothorax": ("pneumothorax",),
    "pleural effusion": ("pleural effusion", "effusion"),
    "consolidation": ("focal consolidation", "consolidation", "airspace consolidation"),
    "pulmonary edema": ("pulmonary edema", "overt pulmonary edema"),
    "mass": ("mass", "suspicious mass"),
}
_DEVICE_CONCEPTS = ("pacemaker", "central venous line", "endotracheal tube")
_INDICATIONS: tuple[tuple[str, str], ...] = (
    ("Shortness of breath.", ""),
    ("Chest pain for two days.", ""),
    ("Preoperative examination.", ""),
    ("Cough and fever, evaluate for pneumonia.", "pneumonia"),
    ("Fall from a ladder, rule out pneumothorax.", "pneumothorax"),
    ("History of heart failure.", "heart failure"),
)
_SUBTYPES = (
    ("nodular opacit", "nodular opacity"),
    ("blunting", "blunted costophrenic angle"),
    ("linear atelectasis", "plate-like atelectasis"),
    ("plate-like atelectasis", "plate-like atelectasis"),
    ("subsegmental atelectasis", "plate-like atelectasis"),
)


@dataclass(frozen=True, slots=True)
class TwinPhrase:
    """One finding phrase and what is true about it; ``text[start:end]`` of the report is *text* (code points).

    Parameters
    ----------
    concept : the lexicon's name for these words.
    assertion : "affirmed", "probable", "possible", "negated" or "not-reported".
    side : the patient's side that the words name (for a cause, those of the finding it explains), or None; the finding
        may lie on a side that they leave out.
    finding : index of the finding that the phrase is about, or None when nothing in the picture answers to it.
    """

    start: int
    end: int
    text: str
    concept: str
    assertion: str
    side: str | None
    sites: tuple[str, ...]
    finding: int | None


@dataclass(frozen=True, slots=True)
class TwinReport:
    """A report and its phrases in order of *start*."""

    text: str
    phrases: tuple[TwinPhrase, ...]


def report(
    findings: tuple[TwinFinding, ...], rng: np.random.Generator, *, views: str = "Frontal radiograph of the chest"
) -> TwinReport:
    """A report that states every one of *findings*, denies some that are absent, and doubts some."""
    paper = Paper()
    labelled = rng.random() < 0.75
    if labelled:
        reason, asked = _INDICATIONS[int(rng.integers(len(_INDICATIONS)))]
        parts = _around(reason, _claim(asked, asked, "not-reported")) if asked else (reason,)
        paper.section("INDICATION", (parts,))
        paper.section("TECHNIQUE", ((f"{views}.",),))
        paper.section("COMPARISON", ((_pick(("None.", "Earlier radiograph of the chest."), rng),),))
    body = [*_statements(findings, rng), *_absences(findings, rng), *_normal(findings, rng)]
    paper.section("FINDINGS" if labelled else "", tuple(body))
    if labelled or rng.random() < 0.4:
        paper.section("IMPRESSION", _impression(findings, rng), numbered=bool(rng.random() < 0.6))
    text, placed = written(paper)
    return TwinReport(text, tuple(_phrase(text, claim, start=start) for start, claim in placed))


def _statements(findings: tuple[TwinFinding, ...], rng: np.random.Generator) -> list[Sentence]:
    sentences: list[Sentence] = []
    waiting = list(enumerate(findings))
    while waiting:
        index, finding = waiting.pop(0)
        coordinate = waiting and rng.random() < 0.2 and not _is_device(finding) and not _is_device(waiting[0][1])
        if coordinate:
            other, second = waiting.pop(0)
            both = (_affirmed(index, finding, rng), " and ", _affirmed(other, second, rng), ".")
            sentences.append(("There is ", *both) if rng.random() < 0.5 else both)
        else:
            sentences.append(_statement(index, finding, rng))
    return sentences


def _statement(index: int, finding: TwinFinding, rng: np.random.Generator) -> Sentence:
    claim = _affirmed(index, finding, rng)
    if _is_device(finding):
        return _filled(_pick(_DEVICES, rng), claim)
    if finding.severity in ("", "small") and rng.random() < 0.16:
        form, assertion = _DOUBTS[int(rng.integers(len(_DOUBTS)))]
        return _filled(form, _claim(claim.text, claim.concept, assertion, finding=index, sites=claim.sites))
    if finding.size_mm and not re.search(r"\d", claim.text):
        return (claim, f" measuring {finding.size_mm:.0f} mm.")
    if finding.concept in ("consolidation", "opacity") and rng.random() < 0.4:
        link, assertion = _CAUSES[int(rng.integers(len(_CAUSES)))]
        return (claim, link, Claim("pneumonia", "pneumonia", assertion, finding=index, explains=claim.text), ".")
    return _filled(_pick(_STATEMENTS, rng), claim)


def _absences(findings: tuple[TwinFinding, ...], rng: np.random.Generator) -> list[Sentence]:
    """Denials of what is not there: a list, one alone, or the other side of what is on one side."""
    present = {finding.concept for finding in findings}
    absent = [concept for concept in _DENIED if concept not in present]
    order = [absent[int(index)] for index in rng.permutation(len(absent))][: int(rng.integers(1, 4))]
    sentences: list[Sentence] = []
    if order:
        claims = [_claim(_pick(_DENIED[concept], rng), concept, "negated") for concept in order]
        opening, ending = _pick(_DENIALS, rng).split("{p}")
        sentences.append((opening, *_listed(claims), ending))
    for finding in findings:
        one_sided = finding.concept in ("pleural effusion", "pneumothorax") and finding.side in ("left", "right")
        if one_sided and rng.random() < 0.4:
            other = "left" if finding.side == "right" else "right"
            sentences.append(("No ", _claim(f"{other} {finding.concept}", finding.concept, "negated"), "."))
    return sentences


def _listed(claims: list[Claim]) -> Sentence:
    parts: list[str | Claim] = []
    for index, claim in enumerate(claims):
        joint = "" if index == 0 else " or " if index == len(claims) - 1 else ", "
        parts += [joint, claim]
    return tuple(parts)


def _normal(findings: tuple[TwinFinding, ...], rng: np.random.Generator) -> list[Sentence]:
    present = {finding.concept for finding in findings}
    sentences: list[Sentence] = [("The mediastinal contours are unremarkable.",), ("The visualized bones are intact.",)]
    if "cardiomegaly" not in present:
        sentences.append((_pick(("Heart size is normal.", "The heart is normal in size."), rng),))
    if not present - {"cardiomegaly", *_DEVICE_CONCEPTS}:
        sentences.append(("The lungs are clear.",))
    return [each for each in sentences if rng.random() < 0.6]


def _impression(findings: tuple[TwinFinding, ...], rng: np.random.Generator) -> tuple[Sentence, ...]:
    named = [(index, finding) for index, finding in enumerate(findings) if not _is_device(finding)]
    if not named:
        return (("No acute cardiopulmonary abnormality.",),)
    sentences: list[Sentence] = [(_affirmed(index, finding, rng), ".") for index, finding in named[:3]]
    absent = [
        concept for concept in ("pneumothorax", "pleural effusion") if all(concept != f.concept for f in findings)
    ]
    if absent and rng.random() < 0.5:
        sentences.append(("No ", _claim(absent[0], absent[0], "negated"), "."))
    return tuple(sentences)


def _affirmed(index: int, finding: TwinFinding, rng: np.random.Generator) -> Claim:
    return _claim(phrases_for(finding, rng), finding.concept, "affirmed", finding=index, sites=finding.sites)


def _claim(
    text: str, concept: str, assertion: str, *, finding: int | None = None, sites: tuple[str, ...] = ()
) -> Claim:
    named = next((subtype for words, subtype in _SUBTYPES if words in text), concept)
    return Claim(text, named, assertion, sites, finding)


def _is_device(finding: TwinFinding) -> bool:
    return finding.concept in _DEVICE_CONCEPTS


def _filled(form: str, claim: Claim) -> Sentence:
    """The sentence of *form* about *claim*, with article and verb that agree with its words."""
    words = claim.text
    plural = re.search(r"(?:effusions|nodules|opacities)\b", words) is not None
    bare = re.search(r"consolidation|atelectasis|opacification|edema|cardiomegaly|enlargement|blunting", words)
    article = "" if plural or bare else "an " if words[0] in "aeiou" else "a "
    verbs = {"is": "are", "be": "are", "have": "have"} if plural else {"is": "is", "be": "is", "have": "has"}
    opening, ending = form.split("{p}")
    start = opening.format(**verbs)
    return (f"{start}{article if start.startswith('There') else ''}", claim, ending.format(**verbs))


def _around(sentence: str, claim: Claim) -> Sentence:
    before, after = sentence.split(claim.text)
    return (before, claim, after)


def _pick(forms: tuple[str, ...], rng: np.random.Generator) -> str:
    return forms[int(rng.integers(len(forms)))]


def _phrase(text: str, claim: Claim, *, start: int) -> TwinPhrase:
    end = start + len(claim.text)
    words = text[start:end]
    side = _side(claim.explains or words)
    return TwinPhrase(start, end, words, claim.concept, claim.assertion, side, claim.sites, claim.finding)


def _side(words: str) -> str | None:
    lowered = words.lower()
    if re.search(r"\b(bilateral|bibasilar|both)\b", lowered):
        return "bilateral"
    found = re.search(r"\b(left|right)\b", lowered)
    return found.group(1) if found else None
