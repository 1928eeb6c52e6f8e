"""The pages' own words: in one file, in plain language, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import pytest
import textstat
from evidence import make_evidence
from lxml import html

from nlp.lexicon import concepts
from plugin.page.linking import modules
from plugin.page.release import Wait, Withheld
from plugin.page.texts import texts_in
from plugin.page.view import Links, evidence_page
from plugin.page.waiting import withheld_page
from plugin.page.words import Audience, Kind

TEXTS = texts_in()
MARK = "¤"


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(each)


def marked(value: Any, key: str = "") -> Any:
    """The texts of a language in which every text bears a mark."""
    if isinstance(value, str):
        return value if key == "language" else MARK + value
    if isinstance(value, Mapping):
        return {name: marked(each, name) for name, each in value.items()}
    return [marked(each) for each in value]


PATIENT = {
    text
    for part in ("page", "patient", "withheld")
    for text in leaves(TEXTS[part])
    if len(text.split()) > 3  # a formula for sentences says nothing of labels
} | {meaning for _, meaning in TEXTS["kinds"]["patient"].values()}


def spoken(text: str) -> str:
    """*text* with words that the formula's dictionary has in the place of those it cannot look up."""
    plain = {"X-ray": "picture", "Sightline": "program", "0": "zero"}
    filled = re.sub(r"\{\w+\}", "noon", text)
    return re.sub("|".join(plain), lambda found: plain[found[0]], filled)


@pytest.mark.parametrize("text", sorted(PATIENT))
def test_an_eighth_grader_reads_what_patients_are_told(text: str) -> None:
    assert textstat.flesch_kincaid_grade(spoken(text)) <= 8


@pytest.mark.parametrize("concept", sorted(concepts()))
def test_every_finding_and_site_has_a_sentence_that_an_eighth_grader_reads(concept: str) -> None:
    assert textstat.flesch_kincaid_grade(TEXTS["concepts"][concept]) <= 8


def test_no_sentence_is_about_what_the_lexicon_does_not_have() -> None:
    assert set(TEXTS["concepts"]) == set(concepts())


def test_every_kind_has_a_name_and_a_sentence_for_each_audience() -> None:
    for audience in Audience:
        assert set(TEXTS["kinds"][audience]) == set(Kind)
        assert all(meaning.endswith(".") for _, meaning in TEXTS["kinds"][audience].values())


@pytest.mark.parametrize("audience", Audience)
def test_a_page_says_nothing_that_is_not_in_the_catalogue(audience: Audience) -> None:
    evidence = make_evidence()
    page = html.document_fromstring(evidence_page(evidence, audience=audience, texts=marked(TEXTS)))
    data = [evidence.report.text, *(grounded.phrase.text for grounded in evidence.phrases)]
    data += [word for grounded in evidence.phrases for site in grounded.phrase.sites for word in [site.name]]
    data += [grounded.phrase.finding.name for grounded in evidence.phrases]
    data += [place.reason for grounded in evidence.phrases for place in grounded.placements if place.reason]
    data += [grounded.phrase.not_groundable_reason or "" for grounded in evidence.phrases]

    shown = page.xpath("//body//text()[not(parent::script or parent::style)] | //@aria-label | //@title")
    own = [text.strip() for text in shown if re.search(r"[A-Za-z]{2}", text)]
    unmarked = [
        text
        for text in own
        if MARK not in text and not any(text.casefold().rstrip(".") in each.casefold() for each in data)
    ]

    assert len(own) > 50
    assert unmarked == ["PA"] * unmarked.count("PA")  # the view, as DICOM names it


@pytest.mark.parametrize("found", [None, *(Withheld(why) for why in Wait)])
def test_a_withheld_report_says_nothing_that_is_not_in_the_catalogue(found: Withheld | None) -> None:
    page = html.document_fromstring(withheld_page(found, links=Links({}), texts=marked(TEXTS)))

    assert all(MARK in text for text in page.xpath("//body//text()") if text.strip())


def test_modules_hold_no_sentences() -> None:
    for name in modules():
        code = files("plugin.page").joinpath("static", name).read_text(encoding="utf-8")
        bare = re.sub(r"/\*.*?\*/|//[^\n]*", "", code, flags=re.DOTALL)
        strings = re.findall(r'"([^"\n]*)"|`([^`]*)`', bare)
        assert not [text for pair in strings for text in pair if re.search(r"[A-Z][a-z]+ [a-z]+ [a-z]+", text)]
