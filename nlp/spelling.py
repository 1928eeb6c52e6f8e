"""Misspelt words of the lexicon: scispaCy's candidate generation over the lexicon's own words.

Only a word one slip away from a word of the lexicon (two in long words) is looked up, so that most reports never load
the index; the answer is kept for each word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from nlp.lean import without_torch
from nlp.lexicon import entries

if TYPE_CHECKING:
    from scispacy.candidate_generation import CandidateGenerator

_SHORTEST = 6
_SUBSTITUTED = 10
_LONG = 11
_CANDIDATES = 8


@lru_cache(maxsize=50_000)
def respelled(word: str) -> str:
    """The name of a finding that *word* (lower case) misspells, or *word* itself."""
    known, names, slips = _words()
    if len(word) < _SHORTEST or not word.isalpha() or word in known or slips.isdisjoint(_slips_of(word)):
        return word
    for candidate in _generator()([word], _CANDIDATES)[0]:
        if candidate.concept_id in names and _is_slip(word, candidate.concept_id):
            return str(candidate.concept_id)
    return word


def _is_slip(word: str, name: str) -> bool:
    """Whether one letter is missing, added or swapped; in long words also wrong, in longer ones two."""
    if word[0] != name[0]:
        return False
    if len(name) >= _LONG:
        return _slips_between(word, name) <= 2
    one = _slips_between(word, name) == 1
    return one and (len(word) != len(name) or sorted(word) == sorted(name) or len(name) >= _SUBSTITUTED)


@cache
def _words() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """All words of the lexicon; those that alone name a finding or device; the latter with one letter dropped."""
    known = {word for entry in entries() for term in entry.terms for word in term.split()}
    single = {term for entry in entries() if entry.kind in ("finding", "device") for term in entry.terms}
    single = {word for word in single if len(word) >= _SHORTEST and word.isalpha()}
    names = single | {word + "s" for word in single} | {word[:-1] + "ies" for word in single if word.endswith("y")}
    return frozenset(known | names), frozenset(names), frozenset(slip for word in names for slip in _slips_of(word))


def _slips_of(word: str) -> Iterator[str]:
    """*word* and what is left of it when one letter is dropped: words one slip apart have one of these in common."""
    yield word
    for index in range(1, len(word)):
        yield word[:index] + word[index + 1 :]


def _slips_between(one: str, two: str) -> int:
    """Letters wrong, missing, added or swapped with their neighbour (optimal string alignment distance)."""
    before: list[int] = []
    above = list(range(len(two) + 1))
    for i, letter in enumerate(one, start=1):
        row = [i]
        for j, other in enumerate(two, start=1):
            best = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == two[j - 2] and one[i - 2] == other:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, above = above, row
    return above[-1]


@cache
def _generator() -> CandidateGenerator:
    with without_torch():
        from scispacy.candidate_generation import CandidateGenerator
        from scispacy.linking_utils import Entity, KnowledgeBase
        from sklearn.feature_extraction.text import TfidfVectorizer

    words = sorted(_words()[1])
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), min_df=1)
    vectors = vectorizer.fit_transform(words)
    knowledge = KnowledgeBase([Entity(word, word, [], [], None) for word in words])
    return CandidateGenerator(
        ann_index=_ExactIndex(vectors), tfidf_vectorizer=vectorizer, ann_concept_aliases_list=words, kb=knowledge
    )


class _ExactIndex:
    """Exact nearest neighbours behind the one method of nmslib's index that scispaCy calls; the same on every run."""

    def __init__(self, vectors: Any) -> None:  # scipy's sparse matrices carry no types
        self._vectors = vectors

    def knnQueryBatch(self, queries: Any, k: int) -> Iterable[tuple[Any, Any]]:  # noqa: N802 (nmslib's name)
        """For each row of *queries*, the *k* nearest rows and their cosine distances."""
        distances = 1 - (queries @ self._vectors.T).toarray()
        nearest = distances.argsort(axis=1, kind="stable")[:, :k]
        return [(order, row[order]) for order, row in zip(nearest, distances, strict=True)]
