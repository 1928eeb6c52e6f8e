"""Which phrases are measured: the rows of a data set, as queries, chosen and parted by patient. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from model.data.sample import Sample
from model.values import Query

#: What the table of bars is measured on, where a file has such rows.
HEADLINE_SOURCE, HEADLINE_FINDING = "RSNA 2018", "Lung Opacity"
_OTHER = {"left": "right", "right": "left"}


@dataclass(frozen=True, slots=True)
class Row:
    """One phrase on one image, *number* in its file from 1 on."""

    number: int
    sample: Sample
    query: Query

    @property
    def present(self) -> bool:
        """Whether a reader marked the finding."""
        return self.sample.present


def rows_of(samples: Iterable[Sample], query_of: Callable[[Sample], Query]) -> tuple[Row, ...]:
    """All rows in their order."""
    return tuple(Row(number, sample, query_of(sample)) for number, sample in enumerate(samples, start=1))


def chosen(rows: Sequence[Row], *, source: str | None = None, finding: str | None = None) -> tuple[Row, ...]:
    """The rows of *source* and *finding*, as the data set names them.

    A row without boxes belongs to a finding when its phrase is one that is present elsewhere under that finding: files
    name such rows after what the reader said instead ("Normal").
    """
    here = [row for row in rows if source is None or row.sample.source == source]
    if finding is None:
        return tuple(here)
    phrases = {row.sample.phrase for row in here if row.present and row.sample.finding == finding}
    return tuple(
        row for row in here if row.sample.finding == finding or (not row.present and row.sample.phrase in phrases)
    )


def headline(rows: Sequence[Row]) -> tuple[tuple[Row, ...], str]:
    """The rows of the table of bars, and which these are, in words."""
    rsna = chosen(rows, source=HEADLINE_SOURCE, finding=HEADLINE_FINDING)
    if any(row.present for row in rsna):
        return rsna, f"rows of source {HEADLINE_SOURCE} and finding {HEADLINE_FINDING}"
    return tuple(rows), "all rows"


def other_side(query: Query) -> Query:
    """*query* with left and right exchanged, in words and fields."""
    swapped = re.sub(r"\b(left|right)\b", lambda found: _OTHER[found.group().lower()], query.text, flags=re.IGNORECASE)
    sites = tuple(re.sub(r"\b(left|right)\b", lambda found: _OTHER[found.group()], site) for site in query.sites)
    return replace(query, text=swapped, side=_OTHER.get(query.side or "", query.side), sites=sites)


#: Findings that are asked in place of the right one, and how a report says them.
_WRONG = (("pneumothorax", "pneumothorax"), ("cardiomegaly", "cardiomegaly"), ("pulmonary nodule", "nodule"))


def wrong_phrase(query: Query, taken: Iterable[str]) -> Query:
    """Another finding, on the same side, that is none of *taken*."""
    excluded = {query.finding, *taken}
    finding, said = next((each for each in _WRONG if each[0] not in excluded), _WRONG[0])
    side = query.side if finding != "cardiomegaly" else None
    return Query(f"{side} {said}" if side in _OTHER else said, finding, side)


def one_per_image(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The first row without a side of each image and finding: those on which presence is measured."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.query.side is None:
            first.setdefault((row.sample.image, row.query.finding), row)
    return tuple(first.values())
