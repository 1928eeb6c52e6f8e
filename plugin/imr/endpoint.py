"""What the FHIR endpoint answers: reports found and read, their pages, regions and Observations (RAD-143, RAD-144)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from plugin.fhir.multimedia import FHIR_ROOT, rendered, report_at, withdrawn_report
from plugin.fhir.parts import Fhir
from plugin.fhir.selections import KIND
from plugin.imr.held import OUTLINED, SORTS, Held, Shelf, held, parameters, selection_parameters, sort_key
from plugin.imr.redacting import for_patients
from plugin.imr.refusal import not_found, outcome
from plugin.imr.search import Query, query_of

T = TypeVar("T")
Pairs = Sequence[tuple[str, str]]
INCLUDES = ("DiagnosticReport:result",)
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
# R4 DiagnosticReport: elements of the summary, and those that are needed in any subset (search.html#summary).
_NEEDED = ("resourceType", "id", "meta", "status", "code")
_SUMMARY = (
    *_NEEDED,
    "identifier",
    "basedOn",
    "category",
    "subject",
    "encounter",
    "effectiveDateTime",
    "effectivePeriod",
    "issued",
    "performer",
    "resultsInterpreter",
)
_OWN = ("Observation", KIND)
_GONE = "There is no such resource here."


class Eyes(Protocol):
    """Of somebody who sees some reports and not others."""

    def sees(self, held: Held) -> bool:
        """Whether they see it."""

    def looked(self, held: Held, *, seen: bool) -> None:
        """They asked for it, and were answered it or, when it is not *seen*, nothing."""

    @property
    def workings(self) -> bool:
        """Whether they see who decided about regions and why, and the model's figures."""


class Everybodys:
    """:class:`Eyes` that see everything."""

    def sees(self, held: Held) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def looked(self, held: Held, *, seen: bool) -> None:
        """Nobody is told."""

    @property
    def workings(self) -> bool:
        """They do."""
        return True


EVERYBODYS = Everybodys()


@dataclass(frozen=True, slots=True)
class MultimediaReports:
    """The reports of *shelf*, as FHIR.

    Parameters
    ----------
    others : base URL of the FHIR server that holds patients, orders and the radiologists' reports; references to them
        are made absolute. "": they stay relative.
    eyes : of whoever asks.
    """

    shelf: Shelf
    others: str = ""
    eyes: Eyes = EVERYBODYS

    def seen_by(self, eyes: Eyes) -> MultimediaReports:
        """These reports as *eyes* see them; what they do not see is not there."""
        return replace(self, eyes=eyes)

    def find(self, pairs: Pairs, *, base: str, lenient: bool = False) -> Fhir:
        """The searchset Bundle of DiagnosticReports; *base* is where this service is reached, without a slash.

        Raises
        ------
        RefusalError
            If the query cannot be understood.
        """
        query = query_of(pairs, parameters(self.others), sorts=SORTS, includes=INCLUDES, lenient=lenient)
        hits = [each for each in self.shown() if all(holds(each) for holds in query.criteria)]
        for name, falling in reversed((*query.sort, ("issued", True), ("_id", False))):
            hits.sort(key=lambda each, by=name: sort_key(each, by), reverse=falling)  # type: ignore[misc]
        page = _page(hits, query)
        for each in page:
            self.eyes.looked(each, seen=True)
        matches = (_subset(self._report(each, base=base), query.summary) for each in page)
        included = (each for report in page for each in report.observations) if query.include else ()
        others = (self._observation(each) for each in included)
        return _searchset(
            "DiagnosticReport", query, base=base, total=len(hits), matches=matches, included=_once(others)
        )

    def find_selections(self, pairs: Pairs, *, base: str, lenient: bool = False) -> Fhir:
        """The searchset Bundle of ImagingSelections, as R5, in the order of reports and text.

        Raises
        ------
        RefusalError
            If the query cannot be understood.
        """
        query = query_of(pairs, selection_parameters(self.others), sorts=(), lenient=lenient)
        asked = zip((name.partition(":") for name, _ in query.asked), query.criteria, strict=True)
        # Most reports are told apart without reading their evidence.
        rough = [holds for (name, _, modifier), holds in asked if name in OUTLINED and modifier != "not"]
        likely = (each for each in self.shown() if all(holds(each.outline) for holds in rough))
        every = ((report, selection) for report in likely for selection in report.selections)
        hits = [(report, each) for report, each in every if all(holds(each) for holds in query.criteria)]
        page = _page(hits, query)
        for report, _ in page:
            self.eyes.looked(report, seen=True)
        matches = (self._placed(each) for _, each in page)
        return _searchset(KIND, query, base=base, total=len(hits), matches=matches, included=())

    def read(self, report_id: str, *, base: str) -> Fhir:
        """One DiagnosticReport; of a withdrawn one only that it was withdrawn.

        Raises
        ------
        RefusalError
            If there is none.
        """
        return self._report(self._one(lambda each: each.id == report_id), base=base)

    def page(self, report_id: str, *, base: str) -> bytes:
        """The rendered report (RAD-144), as HTML; raises RefusalError if there is none, or it was withdrawn."""
        found = self._one(lambda each: each.id == report_id)
        if found.kept.withdrawn:
            raise not_found("The report was withdrawn.")
        return rendered(found.document, base=base)

    def selection(self, selection_id: str) -> Fhir:
        """One ImagingSelection, as R5; raises RefusalError if there is none."""
        found = self._one(lambda each: selection_id in each.known.selections)
        return self._placed(next(each for each in found.selections if each["id"] == selection_id))

    def observation(self, observation_id: str) -> Fhir:
        """One Observation that a report has as its result; raises RefusalError if there is none to show."""
        reference = {"reference": f"Observation/{observation_id}"}
        found = self._one(lambda each: not each.kept.withdrawn and reference in each.frame.get("result", ()))
        written = next((each for each in found.observations if each["id"] == observation_id), None)
        if written is None:
            raise not_found(_GONE)
        return self._observation(written)

    def shown(self) -> Iterator[Held]:
        """Every report that is shown, in the order of the shelf."""
        return (each for each in held(self.shelf) if not each.kept.withdrawn and self.eyes.sees(each))

    def _one(self, is_it: Callable[[Held], bool]) -> Held:
        found = next(filter(is_it, held(self.shelf)), None)
        if found is None:
            raise not_found(_GONE)
        seen = self.eyes.sees(found)
        self.eyes.looked(found, seen=seen)
        if not seen:
            raise not_found(_GONE)
        return found

    def _report(self, found: Held, *, base: str) -> Fhir:
        if found.kept.withdrawn:
            return withdrawn_report(found.frame)
        return self._placed(report_at(found.frame, found.document, base=base))

    def _observation(self, observation: Fhir) -> Fhir:
        return self._placed(observation if self.eyes.workings else for_patients(observation))

    def _placed(self, resource: Fhir) -> Fhir:
        """*resource* with absolute references to what another server holds."""
        return dict(_absolute(resource, self.others)) if self.others else resource


def _absolute(part: Any, root: str) -> Any:
    if isinstance(part, list):
        return [_absolute(each, root) for each in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("reference")
    placed = {name: _absolute(value, root) for name, value in part.items()}
    if isinstance(reference, str) and ":" not in reference and reference.partition("/")[0] not in _OWN:
        placed["reference"] = f"{root}/{reference}"
    return placed


def _page(hits: Sequence[T], query: Query[Any]) -> Sequence[T]:
    counted = query.summary == "count" or query.count == 0
    return () if counted else hits[query.offset : query.offset + query.count]


def _subset(report: Fhir, summary: str) -> Fhir:
    kept = {"true": _SUMMARY, "text": (*_NEEDED, "text"), "data": [name for name in report if name != "text"]}
    if summary not in kept:
        return report
    part = {name: value for name, value in report.items() if name in kept[summary]}
    return part | {"meta": report["meta"] | {"tag": [*report["meta"]["tag"], _SUBSETTED]}}


def _once(resources: Iterable[Fhir]) -> Iterable[Fhir]:
    return {each["id"]: each for each in resources}.values()


def _searchset(
    kind: str, query: Query[Any], *, base: str, total: int, matches: Iterable[Fhir], included: Iterable[Fhir]
) -> Fhir:
    root = f"{base}{FHIR_ROOT}"
    entries = [_entry(each, root, "match") for each in matches]
    entries += [_entry(each, root, "include") for each in included]
    if query.ignored:
        text = "Search parameters that are not known here were passed over."
        entries.append({"resource": outcome("not-supported", text, severity="warning"), "search": {"mode": "outcome"}})
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": [{"relation": name, "url": f"{root}/{kind}{_query(query, at)}"} for name, at in _pages(query, total)],
    }
    return bundle | {"entry": entries} if entries else bundle


def _entry(resource: Fhir, root: str, mode: str) -> Fhir:
    url = f"{root}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def _pages(query: Query[Any], total: int) -> Iterator[tuple[str, int]]:
    """(relation, offset) of the links of a page."""
    yield "self", query.offset
    if query.summary == "count" or query.count == 0:
        return
    if query.offset + query.count < total:
        yield "next", query.offset + query.count
    if query.offset:
        yield "previous", max(0, query.offset - query.count)


def _query(query: Query[Any], offset: int) -> str:
    sort = ",".join(f"-{name}" if falling else name for name, falling in query.sort)
    pairs = [*query.asked, *(("_include", each) for each in query.include)]
    pairs += [("_sort", sort)] if sort else []
    pairs += [("_summary", query.summary)] if query.summary != "false" else []
    pairs += [("_count", str(query.count))]
    pairs += [("_offset", str(offset))] if offset else []
    return f"?{urlencode(pairs)}"
