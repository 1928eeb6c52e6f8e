"""Phrases found again in an amended report, by what they say and what stands around them. Pure.

The selector is W3C's TextQuoteSelector (Web Annotation Data Model, 4.2.4): the phrase, and a little text before and
after it. Places are not compared: they move with every edit. See docs/adr/0014-phrases-are-anchored-by-quote.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

from nlp.phrases import Phrase
from plugin.identity import derived_uid
from plugin.values import Report, StudyRef

CONTEXT = 32
"""Characters before and after a phrase that its selector keeps; W3C leaves the number open."""
MOST_ALIKE = 64
"""Phrases of equal words beyond this many in one report are not told apart across versions."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A phrase as it is looked for in another version of its report.

    Parameters
    ----------
    exact : what it says; only equal ones are the same phrase.
    prefix, suffix : the text around it, "" where it is not known.
    """

    exact: Hashable
    prefix: str = ""
    suffix: str = ""


def reanchor(old: Sequence[Quote], new: Sequence[Quote]) -> dict[int, int]:
    """Which of *old* each of *new* is: index in *new* -> index in *old*, each at most once.

    As many phrases of equal words are joined as both have. Those that stay in order come first, and among the ways to
    join most of them the one with most of the surrounding text in common; then those that moved, likewise.
    """
    joined = dict(_in_order(old, new))
    taken = set(joined.values())
    moved = sorted(
        (-_alike(one, other), at_new, at_old)
        for at_new, other in enumerate(new)
        if at_new not in joined
        for at_old, one in enumerate(old)
        if at_old not in taken and one.exact == other.exact
    )
    for _, at_new, at_old in moved:
        if at_new not in joined and at_old not in taken:
            joined[at_new] = at_old
            taken.add(at_old)
    return joined


def context_of(text: str, start: int, end: int) -> tuple[str, str]:
    """The characters before and after ``text[start:end]``, at most :data:`CONTEXT` of each."""
    return text[max(0, start - CONTEXT) : start], text[end : end + CONTEXT]


def tracking_uids(
    study: StudyRef,
    report: Report,
    phrases: Sequence[Phrase],
    *,
    before: Sequence[str] = (),
    contexts: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> tuple[str, ...]:
    """The tracking UID of each of the *phrases* of *report*, so that what was there before keeps its own.

    Parameters
    ----------
    before : tracking UIDs of the version before, in the order of its text.
    contexts : the text before and after of those of them where it is known.
    """
    key = (study.study_instance_uid, report.ref.report_id)
    words = [_words(phrase) for phrase in phrases]
    # A UID tells its words only to who has them, so the words of phrases that went away stay unknown and match none.
    claims = {_uid(key, each, number): each for each in set(words) for number in range(1, MOST_ALIKE + 1)}
    old = [Quote(claims.get(uid, uid), *contexts.get(uid, ("", ""))) for uid in before]
    around = (context_of(report.text, phrase.start, phrase.end) for phrase in phrases)
    new = [Quote(each, *context) for each, context in zip(words, around, strict=True)]
    kept = {at_new: before[at_old] for at_new, at_old in reanchor(old, new).items()}
    fresh = {each: _unused(key, each, frozenset(kept.values())) for each in set(words)}
    return tuple(kept.get(at) or next(fresh[each]) for at, each in enumerate(words))


def _unused(key: tuple[str, ...], words: tuple[str, ...], used: frozenset[str]) -> Iterator[str]:
    return (uid for number in count(1) if (uid := _uid(key, words, number)) not in used)


def _uid(key: tuple[str, ...], words: tuple[str, ...], number: int) -> str:
    return derived_uid("tracking", *key, *words, str(number))


def _words(phrase: Phrase) -> tuple[str, ...]:
    """What a phrase says: an edit of any of it makes another phrase."""
    return phrase.finding.name, phrase.laterality or "", phrase.assertion, " ".join(phrase.text.lower().split())


def _in_order(old: Sequence[Quote], new: Sequence[Quote]) -> Iterator[tuple[int, int]]:
    """(new, old) of the longest common subsequence that has most context in common (Needleman and Wunsch, 1970)."""
    best = [[(0, 0)] * (len(new) + 1) for _ in range(len(old) + 1)]  # (joined, characters in common) of the rests
    for at_old in reversed(range(len(old))):
        for at_new in reversed(range(len(new))):
            best[at_old][at_new] = max(
                best[at_old + 1][at_new],
                best[at_old][at_new + 1],
                _with(old[at_old], new[at_new], best[at_old + 1][at_new + 1]),
            )
    at_old = at_new = 0
    while at_old < len(old) and at_new < len(new):
        here = best[at_old][at_new]
        if old[at_old].exact == new[at_new].exact and here == _with(
            old[at_old], new[at_new], best[at_old + 1][at_new + 1]
        ):
            yield at_new, at_old
            at_old, at_new = at_old + 1, at_new + 1
        elif here == best[at_old + 1][at_new]:
            at_old += 1
        else:
            at_new += 1


def _with(one: Quote, other: Quote, rest: tuple[int, int]) -> tuple[int, int]:
    """*rest* and these two joined, if they may be."""
    if one.exact != other.exact:
        return -1, 0
    return rest[0] + 1, rest[1] + _alike(one, other)


def _alike(one: Quote, other: Quote) -> int:
    """How many characters around two phrases are the same, outwards from each."""
    return _common(one.prefix[::-1], other.prefix[::-1]) + _common(one.suffix, other.suffix)


def _common(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
