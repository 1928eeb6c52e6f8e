"""The span grammar: which words belong to a finding, and what they say of it.

    phrase  = modifier* finding place*
    place   = preposition determiner* modifier* (site | side)

Words further off in the clause (a site before the verb, a change after it) are read but not part of the phrase.
Neighbours that one clause joins share what only one of them states: "left effusion and atelectasis".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from nlp.lexicon import named
from nlp.mentions import Mention, Sentence
from nlp.phrases import Change, Laterality, Severity

_PREPOSITIONS = frozenset((
    "in", "of", "at", "within", "along", "involving", "over", "overlying", "throughout", "on", "near",
    "projecting", "about", "around", "above",
))  # fmt: skip
_DETERMINERS = frozenset(("the", "both", "a", "an", "its", "either", "each"))
_AND_OR = frozenset(("and", "or", "and/or", "/", "&", "plus", "nor"))
_JOINERS = _AND_OR | {"to", ",", "versus", "vs"}
_TIES = _AND_OR | {"versus", "vs", "with", "from", "suggestive", "favoring", "due", "related", "relates", "represent"}
_NEW_SUBJECT = frozenset(
    ("there", "but", "without", "no", "clear", "normal", "unremarkable", "however", "although", ";")
)
_CLAUSE_ENDS = frozenset(
    ("but", "with", "without", "no", "clear", "normal", "unremarkable", "however", "although", ";")
)
_NEAR = 4
_NOT_ADJECTIVES = frozenset((
    "is", "are", "was", "were", "be", "been", "has", "have", "had", "appears", "appear", "remains", "remain",
    "seen", "noted", "may", "the", "a", "an", "this", "these", "that", "which", "with", "from", "for", "than",
    "then", "clear", "normal", "shows", "show", "demonstrates", "demonstrate", "suggests", "suggest", "reveals",
    "reveal", "identified", "present", "and", "or", "to", "by", "chest", "views", "view", "exam", "study", "as",
    "there", "patient", "it", "size", "contour", "contours", "silhouette",
))  # fmt: skip
_PREDICATES = tuple((word,) for word in ("is", "are", "was", "were", "has", "have", "remains", "appears"))
_MODIFIERS = ("side", "severity", "change", "descriptor", "site")
_UNITS = frozenset(("mm", "cm", "millimeter", "millimeters", "centimeter", "centimeters", "x", "by"))
_SEVERITY = {
    "minimal": Severity.MINIMAL,
    "mild": Severity.MILD,
    "small": Severity.MILD,
    "borderline": Severity.MINIMAL,
    "moderate": Severity.MODERATE,
    "large": Severity.SEVERE,
    "severe": Severity.SEVERE,
}
_SIDE_IN_WORD = {
    "rul": "right", "rml": "right", "rll": "right", "lul": "left", "lll": "left", "lingula": "left", "lingular": "left",
    "bibasilar": "bilateral", "bibasal": "bilateral", "biapical": "bilateral", "bihilar": "bilateral",
    "levoscoliosis": "left", "levocurvature": "left", "levoconvex": "left", "levorotoscoliosis": "left",
    "dextroscoliosis": "right", "dextrocurvature": "right", "dextroconvex": "right", "dextrorotoscoliosis": "right",
}  # fmt: skip
_SIDELESS = frozenset(("right atrium", "heart"))
_PAIRED = frozenset(
    ("lung base", "apex", "hilum", "lung", "costophrenic angle", "upper lobe", "lower lobe", "diaphragm")
)
_PLURAL_PAIRS = frozenset(
    (
        "bases",
        "basilar",
        "basal",
        "diaphragms",
        "apices",
        "hila",
        "hemidiaphragms",
        "hemithoraces",
        "sulci",
        "costophrenic angles",
        "lower lobes",
        "upper lobes",
    )
)
_BOTH_TOPS = (
    ("apical", "scarring"),
    ("apical", "scars"),
    ("apical", "thickening"),
    ("apical", "pleural"),
    ("apical", "capping"),
)
_LOBES = frozenset(("upper lobe", "middle lobe", "lower lobe"))
_CHEST = frozenset(("lung", "pleura", "costophrenic angle", "hilum"))


@dataclass(frozen=True, slots=True)
class Span:
    """A finding with its own words; *start*, *end* half-open, in tokens of the sentence."""

    head: Mention
    start: int
    end: int
    sites: tuple[str, ...]
    laterality: Laterality | None
    degree: str | None
    change: Change | None

    @property
    def severity(self) -> Severity | None:
        """The degree, folded to four steps."""
        return _SEVERITY.get(self.degree or "")


def spans_of(sentence: Sentence) -> tuple[Span, ...]:
    """The finding phrases of a sentence, in order, none overlapping another."""
    heads = _heads(sentence)
    if not heads:
        return ()
    modifier = _modifier_tokens(sentence)
    places = {index for mention in sentence.of("site", "side") for index in range(mention.start, mention.end)}
    spans, previous = [], 0
    for index, head in enumerate(heads):
        following = heads[index + 1].start if index + 1 < len(heads) else len(sentence.words)
        start = _extend_left(sentence, head, modifier, previous)
        previous = _extend_right(sentence, head, modifier=modifier, places=places, limit=following)
        span = _read(sentence, head, start, previous)
        spans.append(replace(span, start=_after_change(sentence, head, start)))
    return tuple(_share(sentence, _with_loose_words(sentence, spans)))


def _after_change(sentence: Sentence, head: Mention, start: int) -> int:
    """The start of the phrase without the change that opens it: "new" and "stable" are read but not quoted."""
    changes = {mention.start: mention.end for mention in sentence.of("change")}
    while start in changes and changes[start] <= head.start:
        start = changes[start]
    return start


def _heads(sentence: Sentence) -> list[Mention]:
    kept: list[Mention] = []
    for mention in sorted(sentence.of("finding", "device", "generic"), key=_longest_first):
        if all(mention.end <= other.start or other.end <= mention.start for other in kept):
            kept.append(mention)
    return sorted((head for head in kept if head.kind != "generic"), key=lambda mention: mention.start)


def _longest_first(mention: Mention) -> tuple[int, int, str]:
    return (mention.start - mention.end, mention.start, mention.meaning)


def _modifier_tokens(sentence: Sentence) -> frozenset[int]:
    tokens = {
        index
        for mention in sentence.of(*_MODIFIERS)
        if mention.kind != "change" or mention.end - mention.start == 1
        for index in range(mention.start, mention.end)
    }
    tokens.update(
        index for index, word in enumerate(sentence.words) if _is_mark(word) or word in _UNITS or word[0].isdigit()
    )
    return frozenset(tokens)


def _is_mark(word: str) -> bool:
    return len(word) >= 3 and not word.strip("x")


def _extend_left(sentence: Sentence, head: Mention, modifier: frozenset[int], limit: int) -> int:
    start = index = head.start
    while index > limit:
        index -= 1
        if index in modifier:
            start = index
        elif not (_joins(sentence, index, modifier) or _is_adjective(sentence, index, modifier)):
            break
    while start < head.start and _opens_no_phrase(sentence.words[start]):
        start += 1
    return start


def _joins(sentence: Sentence, index: int, modifier: frozenset[int]) -> bool:
    """Whether the word at *index* joins two modifiers of one finding; a comma does so only after an adjective."""
    word = sentence.words[index]
    if word not in _JOINERS or index - 1 not in modifier:
        return False
    return word != "," or not any(m.start < index <= m.end and m.end - m.start <= 3 for m in sentence.of("site"))


def _is_adjective(sentence: Sentence, index: int, modifier: frozenset[int]) -> bool:
    """Whether an unknown word stands among modifiers, as in "mild surrounding airspace disease"."""
    word = sentence.words[index]
    if index - 1 not in modifier or not word.isalpha() or word in _NOT_ADJECTIVES or word in _PREPOSITIONS:
        return False
    if any(m.start <= index < m.end for m in sentence.mentions if m.kind != "part"):
        return False
    return not any(m.start < index <= m.end for m in sentence.of("site"))


def _opens_no_phrase(word: str) -> bool:
    """Whether *word* is a joiner, or a mark that may stand for a hedge as well as for a modifier."""
    return word in _JOINERS or word in ("x", "by") or _is_mark(word)


def _extend_right(
    sentence: Sentence, head: Mention, *, modifier: frozenset[int], places: Collection[int], limit: int
) -> int:
    words, end = sentence.words, head.end
    if end < limit and words[end] in ("bilaterally", "bilateral"):
        end += 1
    while end < limit:
        index = end
        if words[index] in _AND_OR and end > head.end:
            index += 1
        apposed = index == head.end and index in modifier
        if index >= limit or not (apposed or words[index] in _PREPOSITIONS):
            break
        begin = index if apposed else index + 1
        place = _place_end(words, begin, modifier=modifier, places=places, limit=limit)
        if place is None or (apposed and words[place : place + 1] in _PREDICATES):
            break
        if place == limit < len(words):
            return _before_joiner(words, begin, place)
        end = place
    return end


def _before_joiner(words: tuple[str, ...], begin: int, end: int) -> int:
    """The end of a place that runs into the next finding: "in the right lung and left | effusion" ends before "and"."""
    return next((index for index in reversed(range(begin + 1, end)) if words[index] in _AND_OR), end)


def _place_end(
    words: tuple[str, ...], index: int, *, modifier: frozenset[int], places: Collection[int], limit: int
) -> int | None:
    """The end of the place that begins at *index*, or None."""
    while index < limit and words[index] in _DETERMINERS:
        index += 1
    stop = index
    while stop < limit and (
        stop in modifier
        or (stop > index and words[stop] in ("and", "or", "of", "the") and _goes_on(words, stop, places))
    ):
        stop += 1
    while stop > index and stop - 1 not in places:
        stop -= 1
    return stop if stop > index else None


def _goes_on(words: tuple[str, ...], index: int, places: Collection[int]) -> bool:
    return index + 1 in places or (index + 2 in places and words[index + 1] in ("the", "of"))


def _read(sentence: Sentence, head: Mention, start: int, end: int) -> Span:
    inside = [mention for mention in sentence.of(*_MODIFIERS) if start <= mention.start and mention.end <= end]
    return Span(
        head=head,
        start=start,
        end=end,
        sites=_sites(inside, head),
        laterality=_side(sentence, inside, range(start, end)),
        degree=_degree(inside),
        change=_change(inside),
    )


def _of_kind(mentions: Collection[Mention], kind: str) -> list[Mention]:
    """The mentions of *kind* that no longer one of the same kind contains."""
    same = [mention for mention in mentions if mention.kind == kind]
    return [one for one in same if not any(_within(one, other) for other in same)]


def _within(one: Mention, other: Mention) -> bool:
    """Whether *one* is only a part of *other*; the lower lobe in "upper and lower lobes" is not."""
    longer = other.start <= one.start and one.end <= other.end and other.end - other.start > one.end - one.start
    return longer and not (one.meaning in _LOBES and other.meaning in _LOBES)


def _sites(mentions: Collection[Mention], head: Mention) -> tuple[str, ...]:
    """Their sites, those of the finding's own name last, the lung only where nothing within it is named."""
    found = _of_kind(mentions, "site")
    if head.kind == "device":
        found = [mention for mention in found if not head.start <= mention.start < head.end]
    found.sort(key=lambda mention: head.start <= mention.start < head.end)
    names = list(dict.fromkeys(mention.meaning for mention in found))
    return tuple(name for name in names if name != "lung" or len(names) == 1)


def _side(sentence: Sentence, mentions: Collection[Mention], tokens: Collection[int]) -> Laterality | None:
    sideless = [mention for mention in mentions if mention.kind == "site" and mention.meaning in _SIDELESS]
    sides = [
        mention.meaning
        for mention in _of_kind(mentions, "side")
        if not any(site.start <= mention.start and mention.end <= site.end for site in sideless)
    ]
    sides += [_SIDE_IN_WORD[sentence.words[index]] for index in tokens if sentence.words[index] in _SIDE_IN_WORD]
    if "bilateral" in sides or ("left" in sides and "right" in sides):
        return Laterality.BILATERAL
    if sides:
        return Laterality(sides[0])
    return Laterality.BILATERAL if any(_is_pair(sentence, site) for site in _of_kind(mentions, "site")) else None


def _is_pair(sentence: Sentence, mention: Mention) -> bool:
    """Whether a paired site stands in the plural: "the lung bases"."""
    return mention.kind == "site" and (
        sentence.words[mention.end - 1] in _PLURAL_PAIRS
        or " ".join(sentence.words[mention.start : mention.end]) in _PLURAL_PAIRS
        or sentence.words[mention.end - 1 : mention.end + 1] in _BOTH_TOPS
    )


def _degree(mentions: Collection[Mention]) -> str | None:
    return next((mention.meaning for mention in _of_kind(mentions, "severity")), None)


def _change(mentions: Collection[Mention]) -> Change | None:
    return next((Change(mention.meaning) for mention in _of_kind(mentions, "change")), None)


def _with_loose_words(sentence: Sentence, spans: list[Span]) -> list[Span]:
    """Give each span the sides, sites, degrees and changes of its clause that no span holds."""
    held = {index for span in spans for index in range(span.start, span.end)}
    loose: dict[int, list[Mention]] = {}
    for mention in sentence.of("side", "site", "severity", "change"):
        owner = None if mention.start in held or mention.end - 1 in held else _owner(sentence, spans, mention)
        if owner is not None:
            loose.setdefault(owner, []).append(mention)
    return [_complete(sentence, span, loose.get(index, [])) for index, span in enumerate(spans)]


def _owner(sentence: Sentence, spans: list[Span], mention: Mention) -> int | None:
    before = next((i for i in reversed(range(len(spans))) if spans[i].end <= mention.start), None)
    after = next((i for i in range(len(spans)) if spans[i].start >= mention.end), None)
    if before is not None and not _CLAUSE_ENDS.intersection(sentence.words[spans[before].end : mention.start]):
        between = sentence.words[spans[before].end : mention.start]
        rest = sentence.words[mention.end : spans[after].start] if after is not None else ()
        if "," not in between or after is None or "," in rest or mention.kind == "change":
            return before
    if after is not None and not (_CLAUSE_ENDS - {"with"}).intersection(
        sentence.words[mention.end : spans[after].start]
    ):
        near = mention.kind != "severity" or spans[after].start - mention.end <= _NEAR
        return after if near else None
    return None


def _complete(sentence: Sentence, span: Span, loose: list[Mention]) -> Span:
    if not loose:
        return span
    tokens = [index for mention in loose if mention.kind == "site" for index in range(mention.start, mention.end)]
    own = [name for name in span.sites if name not in ("lung", "interstitium", "pleura")]
    sites = _sites(loose, span.head)
    return replace(
        span,
        laterality=span.laterality or _side(sentence, loose, tokens),
        sites=span.sites
        if own
        else (*sites, *(name for name in span.sites if name not in sites and name != "lung")) or span.sites,
        degree=span.degree or _degree(loose),
        change=span.change or _change(loose),
    )


def _share(sentence: Sentence, spans: list[Span]) -> list[Span]:
    """Let neighbours that a clause joins share the place and degree that only one of them states."""
    for index in range(1, len(spans)):
        one, two = spans[index - 1], spans[index]
        if linked(sentence, one, two) and placeless(two) and family(one) == family(two):
            degree = two.degree or (one.degree if two.start == two.head.start else None)
            spans[index] = replace(two, laterality=one.laterality, sites=one.sites or two.sites, degree=degree)
    for index in reversed(range(1, len(spans))):
        one, two = spans[index - 1], spans[index]
        joined = _AND_OR.issuperset(sentence.words[one.end : two.start])
        placed_after = two.end > two.head.end or two.start == two.head.start
        if joined and placed_after and placeless(one) and not placeless(two) and family(one) == family(two):
            spans[index - 1] = replace(one, laterality=two.laterality, sites=two.sites or one.sites)
    return spans


def placeless(span: Span) -> bool:
    """Whether the span names neither a side nor a site more specific than lung or pleura."""
    return span.laterality is None and not [
        name for name in span.sites if name not in ("lung", "pleura", "interstitium")
    ]


def family(span: Span) -> str:
    """Findings of one family can share a place: those of lungs and pleura, those of the spine, devices."""
    concept = named(span.head.meaning)
    if concept.kind == "device":
        return "device"
    return "chest" if not concept.sites or _CHEST.intersection(concept.sites) else concept.sites[0]


_LIST_WORDS = tuple((word,) for word in (*sorted(_AND_OR), "versus", "vs", ","))


def linked(sentence: Sentence, one: Span, two: Span) -> bool:
    """Whether only joiners, hedges, marks and words about *one* stand between the two findings."""
    words, between = sentence.words, range(one.end, two.start)
    if words[one.end : two.start] in ((), (",",)):
        return two.start == two.head.start and words[two.end : two.end + 1] in _LIST_WORDS
    ties = {
        index
        for mention in sentence.of("cue")
        if mention.meaning.startswith(("possible", "probable"))
        for index in range(mention.start, mention.end)
    }
    ties.update(index for index in between if words[index] in _TIES or _is_mark(words[index]))
    return bool(ties.intersection(between)) and _NEW_SUBJECT.isdisjoint(words[one.end : two.start])
