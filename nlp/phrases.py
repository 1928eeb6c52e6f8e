"""The values of report understanding: what a finding phrase is and where it stands in the text.

Offsets are half-open and refer to the exact source text, untouched: ``text[phrase.start : phrase.end]``
is the phrase. Each span is given twice, in Unicode code points (Python) and in UTF-16 code units (browsers).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Assertion(StrEnum):
    """What the report claims about a finding."""

    AFFIRMED = "affirmed"
    PROBABLE = "probable"  # "likely", "versus", "consistent with"
    POSSIBLE = "possible"  # "may represent", "cannot be excluded"
    NEGATED = "negated"
    NOT_REPORTED = "not-reported"  # indication, comparison, request, hypothetical, technique


class Laterality(StrEnum):
    """The patient's side, never the viewer's."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


class Severity(StrEnum):
    """How much, in the report's words folded to four steps."""

    MINIMAL = "minimal"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


class Change(StrEnum):
    """How the finding compares with earlier images."""

    NEW = "new"
    INCREASED = "increased"
    DECREASED = "decreased"
    UNCHANGED = "unchanged"
    RESOLVED = "resolved"


class Section(StrEnum):
    """The part of the report a phrase stands in."""

    INDICATION = "indication"
    TECHNIQUE = "technique"
    COMPARISON = "comparison"
    FINDINGS = "findings"
    IMPRESSION = "impression"
    ADDENDUM = "addendum"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept; *scheme* is a DICOM Coding Scheme Designator ("SCT", "DCM", "RADLEX"; PS3.16 8)."""

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        if not (self.scheme and self.value and self.meaning):
            raise ValueError("a code needs scheme, value and meaning")


@dataclass(frozen=True, slots=True)
class Concept:
    """One finding or anatomical site of the lexicon: its preferred name and verified codes (may be none)."""

    name: str
    codes: tuple[Code, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a concept needs a name")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A size the report states. *unit* is UCUM ("mm", "cm"); *start*, *end* in code points of the source text."""

    value: float
    unit: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Phrase:
    """The shortest contiguous span that names one finding with its own modifiers.

    Parameters
    ----------
    text : ``source[start:end]``, verbatim.
    start, end : half-open, Unicode code points.
    start_utf16, end_utf16 : the same span in UTF-16 code units.
    finding : the concept named.
    sites : anatomical sites, most specific first; may be inherited from a coordinated conjunct.
    groundable : whether a region may be lit for this phrase at all.
    not_groundable_reason : why not, one short sentence for the reader; None exactly when *groundable*.
    degree : the report's own step that *severity* folds: "minimal", "mild", "small", "borderline", "moderate",
        "large" or "severe".
    shares_region_with : (start, end) of the phrase whose region this one explains or repeats, or None.

    Raises
    ------
    ValueError
        If the span is empty or does not fit *text*, if a negated or unreported phrase claims to be
        groundable, or if *groundable* and *not_groundable_reason* disagree.
    """

    text: str
    start: int
    end: int
    start_utf16: int
    end_utf16: int
    finding: Concept
    assertion: Assertion
    section: Section
    groundable: bool
    not_groundable_reason: str | None = None
    laterality: Laterality | None = None
    sites: tuple[Concept, ...] = ()
    severity: Severity | None = None
    degree: str | None = None
    change: Change | None = None
    measurements: tuple[Measurement, ...] = ()
    shares_region_with: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or self.end - self.start != len(self.text) or not self.text:
            raise ValueError("a phrase spans at least one character and exactly its text")
        if self.end_utf16 - self.start_utf16 != len(self.text.encode("utf-16-le", "surrogatepass")) // 2:
            raise ValueError("UTF-16 offsets do not span the phrase")
        if self.groundable != (self.not_groundable_reason is None):
            raise ValueError("a phrase is groundable, or says why not")
        if self.groundable and self.assertion in (Assertion.NEGATED, Assertion.NOT_REPORTED):
            raise ValueError("a negated or unreported finding is never groundable")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two phrases of one report that cannot both be right; *first* and *second* are (start, end) in code points.

    Parameters
    ----------
    kind : "claim" when one denies what the other states, "side" when findings and impression name opposite sides.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    kind: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was understood of one report.

    Parameters
    ----------
    phrases : in order of *start*; spans of different phrases may overlap only when one explains the other.
    language : BCP 47 tag of the text as recognised ("en"; "und" when it cannot be told).
    notes : what the reader of the result should know ("the text is not English: nothing was read"),
        without quoting the report.
    contradictions : pairs of phrases that cannot both be right.
    """

    phrases: tuple[Phrase, ...]
    language: str = "en"
    notes: tuple[str, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
