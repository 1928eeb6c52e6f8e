"""The report text cut at its phrases stays exact, whatever it holds."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin.page.spans import Run, plain_text, runs, safe_text

TEXT = "FINDINGS: left effusion and opacity, likely pneumonia."


def span(part: str, text: str = TEXT) -> tuple[int, int]:
    return text.index(part), text.index(part) + len(part)


def shown(markup: str) -> str:
    """What a browser's textContent gives for *markup*."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_a_text_without_phrases_is_one_run_but_for_its_heading() -> None:
    assert [(run.text, run.heading) for run in runs(TEXT, ())] == [("FINDINGS", True), (TEXT[8:], False)]


def test_a_phrase_is_a_run_of_its_own() -> None:
    (run,) = (run for run in runs(TEXT, (span("left effusion"),)) if run.phrases)

    assert run == Run("left effusion", (0,), first=True, last=True)


def test_of_nested_phrases_the_shorter_owns_its_words() -> None:
    pieces = [run for run in runs(TEXT, (span("opacity, likely pneumonia"), span("likely pneumonia"))) if run.phrases]

    assert [(run.text, run.owner, run.phrases) for run in pieces] == [
        ("opacity, ", 0, (0,)),
        ("likely pneumonia", 1, (1, 0)),
    ]


def test_of_crossing_phrases_each_has_words_of_its_own() -> None:
    pieces = [run for run in runs(TEXT, (span("left effusion and"), span("and opacity"))) if run.phrases]

    assert [(run.text, run.owner) for run in pieces] == [("left effusion ", 0), ("and", 1), (" opacity", 1)]
    assert [run.first for run in pieces] == [True, True, False]


def test_a_phrase_wholly_under_shorter_ones_is_an_orphan_at_its_end() -> None:
    pieces = runs("opacity pneumonia", ((0, 17), (0, 8), (8, 17)))

    assert [(run.owner, run.orphans) for run in pieces] == [(1, ()), (2, (0,))]


def test_of_equal_phrases_the_second_is_an_orphan() -> None:
    (run,) = runs("opacity", ((0, 7), (0, 7)))

    assert (run.owner, run.orphans) == (0, (1,))


@given(st.text(), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=8))
def test_the_runs_joined_are_the_text_and_every_phrase_can_be_reached(text: str, starts: list[tuple[int, int]]) -> None:
    spans = tuple((start, min(start + length, len(text))) for start, length in starts if start < len(text))

    pieces = runs(text, spans)

    assert "".join(run.text for run in pieces) == text
    for number, (start, end) in enumerate(spans):
        assert "".join(run.text for run in pieces if number in run.phrases) == text[start:end]
        owned = sum(run.owner == number and run.first for run in pieces)
        assert owned + sum(number in run.orphans for run in pieces) == 1


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&\"'\r\n\u202e")))
def test_the_markup_shows_the_exact_text(text: str) -> None:
    printable = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)

    assert shown(safe_text(text)) == printable


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a\r\nb", "a&#13;\nb"),
        ("a\rb", "a&#13;<br/>b"),
        ("a\x00b", "a\ufffdb"),
        ("a\u202eb", 'a<span class="control">&#8238;</span>b'),
        ("]]>&amp;", "]]&gt;&amp;amp;"),
    ],
)
def test_markup_of_text(text: str, markup: str) -> None:
    assert str(safe_text(text)) == markup


def test_an_attribute_gets_no_controls_and_one_line() -> None:
    assert plain_text("left\r\n  \u202eeffusion\x00") == "left effusion"
