"""What phrases have to do with one another: explanation, reference, repetition, contradiction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nlp.mentions import Sentence
from nlp.phrases import Assertion, Change, Contradiction, Laterality, Phrase, Section
from nlp.spans import Span, family, linked, placeless

_REFERENCES = frozenset(("this", "these", "those", "appearance", "it", "such"))
_ALIKE = (
    frozenset(("opacity", "airspace disease", "consolidation", "infiltrate", "ground glass opacity", "density")),
    frozenset(("atelectasis", "plate-like atelectasis")),
    frozenset(("pulmonary edema", "pulmonary vascular congestion")),
    frozenset(("degenerative change", "osteophyte")),
)
_UNSPECIFIC = frozenset(("lung", "pleura", "interstitium", "heart", "mediastinum", "aorta"))
_WINDOW = 150  # phrases compared with one another: far more than one exam has
_CLAIMED = (Assertion.AFFIRMED, Assertion.PROBABLE)


def referred(sentence: Sentence, spans: tuple[Span, ...], last: Span | None) -> tuple[Span, ...]:
    """Give findings of a sentence that opens with "these" or "the appearance" the place of the one before it."""
    if last is None or not _REFERENCES.intersection(sentence.words[:2]):
        return spans
    return tuple(
        replace(span, laterality=last.laterality, sites=last.sites)
        if placeless(span) and family(span) == family(last)
        else span
        for span in spans
    )


def explained(sentence: Sentence, spans: tuple[Span, ...]) -> tuple[int | None, ...]:
    """For each finding of a sentence, the index of the one whose region it explains ("opacity, likely pneumonia")."""
    roots: list[int | None] = [None] * len(spans)
    for index in range(1, len(spans)):
        one, two = spans[index - 1], spans[index]
        same_place = one.laterality == two.laterality and (one.sites == two.sites or not two.sites)
        if not (same_place and family(one) == family(two) and linked(sentence, one, two)):
            continue
        if _hedged(sentence, one, two):
            roots[index] = index - 1 if roots[index - 1] is None else roots[index - 1]
        elif roots[index - 1] is not None:
            roots[index] = roots[index - 1]
    return tuple(roots)


def _hedged(sentence: Sentence, one: Span, two: Span) -> bool:
    return any(
        one.end <= cue.start and cue.end <= two.start and cue.meaning.startswith(("possible", "probable"))
        for cue in sentence.of("cue")
    )


def with_repeats(phrases: Sequence[Phrase]) -> tuple[Phrase, ...]:
    """Link what the impression repeats to where the findings say it, so that it is grounded once."""
    related: list[Phrase] = []
    for phrase in phrases:
        if phrase.groundable and phrase.shares_region_with is None and phrase.section is Section.IMPRESSION:
            earlier = [other for other in related[-_WINDOW:] if _repeats(phrase, other)]
            same = [other for other in earlier if other.laterality == phrase.laterality] or earlier
            if len({other.laterality for other in same}) == 1:
                phrase = replace(phrase, shares_region_with=(same[0].start, same[0].end))  # noqa: PLW2901 (replaced, not mutated)
        related.append(phrase)
    return tuple(related)


def _repeats(later: Phrase, earlier: Phrase) -> bool:
    return (
        earlier.groundable
        and earlier.section is not Section.IMPRESSION
        and earlier.shares_region_with is None
        and _alike(later, earlier)
        and later.laterality in (None, earlier.laterality)
        and _narrower(_specific(later), _specific(earlier))
    )


def _alike(one: Phrase, two: Phrase) -> bool:
    names = {one.finding.name, two.finding.name}
    return len(names) == 1 or any(names <= alike for alike in _ALIKE)


def _specific(phrase: Phrase) -> frozenset[str]:
    return frozenset(site.name for site in phrase.sites) - _UNSPECIFIC


def _narrower(later: frozenset[str], earlier: frozenset[str]) -> bool:
    return not later or not earlier or bool(later & earlier)


def contradictions(phrases: Sequence[Phrase]) -> tuple[Contradiction, ...]:
    """Findings that one place states and another denies outright, and sides that findings and impression swap."""
    return (*_claims(phrases), *_sides(phrases))


def _claims(phrases: Sequence[Phrase]) -> Iterable[Contradiction]:
    for index, denied in enumerate(phrases):
        if denied.assertion is not Assertion.NEGATED or denied.change is Change.RESOLVED or _qualified(denied):
            continue
        for stated in phrases[max(0, index - _WINDOW) : index + _WINDOW]:
            if (
                stated.assertion in _CLAIMED
                and stated.finding == denied.finding
                and stated.change is not Change.RESOLVED
                and denied.laterality in (None, stated.laterality)
            ):
                first, second = sorted(((denied.start, denied.end), (stated.start, stated.end)))
                yield Contradiction(first, second, "claim")


def _qualified(phrase: Phrase) -> bool:
    """Whether only a kind or place of the finding is denied: "no large effusion", "no nodule in the apex"."""
    named = phrase.text.lower().replace("-", " ").split()
    return phrase.degree is not None or bool(_specific(phrase)) or len(named) > len(phrase.finding.name.split())


def _sides(phrases: Sequence[Phrase]) -> Iterable[Contradiction]:
    for index, later in enumerate(phrases):
        if later.section is not Section.IMPRESSION or later.assertion not in _CLAIMED:
            continue
        before = phrases[max(0, index - _WINDOW) : index]
        earlier = [p for p in before if p.section is Section.FINDINGS and p.assertion in _CLAIMED and _alike(p, later)]
        if earlier and all(_opposite(other.laterality, later.laterality) for other in earlier):
            yield Contradiction((earlier[0].start, earlier[0].end), (later.start, later.end), "side")


def _opposite(one: Laterality | None, two: Laterality | None) -> bool:
    return {one, two} == {Laterality.LEFT, Laterality.RIGHT}
