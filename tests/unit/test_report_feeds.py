"""Polling a FHIR server that is not like the others: each fault that real servers have, on a played server."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fhir_input import attachment, report
from report_feed_contract import looked

from plugin.errors import InputError, TransientError
from plugin.fhir.client import FhirClient
from plugin.ports import ReportPage
from plugin.reports.feeds import OVERLAP_S, FhirReportFeed
from plugin.values import ReportRef

BASE = "https://fhir.example/fhir"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Server:
    """A search engine of DiagnosticReports with snapshot paging, like HAPI's, and what others do instead.

    Parameters
    ----------
    sorts, filters : whether it heeds ``_sort`` and ``_lastUpdated``.
    repeats : how many rows of a page the next page shows again.
    expires_after : pages after which a search is forgotten.
    longest : most rows of a page.
    shown : how it renders a time.
    """

    def __init__(
        self,
        *,
        sorts: bool = True,
        filters: bool = True,
        repeats: int = 0,
        expires_after: int = 10**6,
        longest: int = 1000,
        shown: Any = text,
    ) -> None:
        self.sorts, self.filters, self.repeats = sorts, filters, repeats
        self.expires_after, self.longest, self.shown = expires_after, longest, shown
        self.rows: dict[str, tuple[datetime, dict[str, Any]]] = {}
        self.pages = True
        self.asked: list[httpx.Request] = []
        self.failing: set[int] = set()
        self._snapshots: list[list[dict[str, Any]]] = []

    def put(self, name: str, moment: datetime, **changes: Any) -> None:
        version = changes.pop("version", "1")
        meta = {"versionId": version} if version else {}
        self.rows[name] = (moment, report(id=name, meta=meta, **changes))

    @property
    def feed(self) -> FhirReportFeed:
        pool = httpx.Client(transport=httpx.MockTransport(self._answer))
        server = FhirClient(BASE, client=pool, sleep=lambda _: None)
        return FhirReportFeed(server, clock=lambda: NOW)

    @property
    def searches(self) -> list[httpx.QueryParams]:
        """The searches that were begun."""
        return [asked.url.params for asked in self.asked if "_sort" in asked.url.params]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if len(self.asked) in self.failing:
            return httpx.Response(500)
        params = request.url.params
        if not params:
            return httpx.Response(404)  # what a report refers to is not here
        if "search" not in params:
            self._snapshots.append(self._found(params))
            return self._page(len(self._snapshots) - 1, 0, min(int(params["_count"]), self.longest))
        return self._page(int(params["search"]), int(params["offset"]), int(params["size"]))

    def _found(self, params: httpx.QueryParams) -> list[dict[str, Any]]:
        rows = list(self.rows.values())
        since = params.get("_lastUpdated", "")
        if since and self.filters:
            rows = [row for row in rows if row[0] >= datetime.fromisoformat(since.removeprefix("ge"))]
        if self.sorts:
            rows.sort(key=lambda row: row[0], reverse=params["_sort"].startswith("-"))
        return [each | {"meta": each["meta"] | {"lastUpdated": self.shown(moment)}} for moment, each in rows]

    def _page(self, search: int, offset: int, size: int) -> httpx.Response:
        if offset >= self.expires_after * size:
            return httpx.Response(410)
        rows = self._snapshots[search]
        shown = rows[max(0, offset - self.repeats) : offset + size]
        following = f"http://internal:8080/fhir?search={search}&offset={offset + size}&size={size}"
        link = [{"relation": "next", "url": following}] if offset + size < len(rows) and self.pages else []
        entries = [{"resource": each} for each in shown]
        page = {"resourceType": "Bundle", "type": "searchset", "total": len(rows), "entry": entries, "link": link}
        return httpx.Response(200, json=page)


def filled(server: Server, count: int, *, every: timedelta = timedelta(seconds=30)) -> set[str]:
    begin = NOW - timedelta(days=10)
    for number in range(count):
        server.put(f"r{number:05}", begin + number * every)
    return set(server.rows)


def test_a_poll_asks_for_everything_from_the_overlap_on_in_order_uncached_and_whatever_its_status() -> None:
    server = Server()
    pool = httpx.Client(transport=httpx.MockTransport(server._answer))
    feed = FhirReportFeed(FhirClient(BASE, client=pool), categories="RAD,http://loinc.org|LP29684-5")

    list(feed.look("2026-03-01T10:00:00.250000Z"))

    (asked,) = server.asked
    assert dict(asked.url.params) == {
        "category": "RAD,http://loinc.org|LP29684-5",
        "_lastUpdated": "ge2026-03-01T09:58:00Z",
        "_sort": "_lastUpdated",
        "_count": "100",
    }
    assert asked.headers["Cache-Control"] == "no-cache"


def test_the_cursor_is_the_latest_time_that_the_server_showed() -> None:
    server = Server()
    server.put("a", NOW - timedelta(hours=3))
    server.put("b", NOW - timedelta(hours=2))

    pages = list(server.feed.look(""))

    assert pages[-1] == ReportPage((), text(NOW - timedelta(hours=2)))


def test_an_empty_server_leaves_the_cursor_where_it_was() -> None:
    assert list(Server().feed.look(""))[-1].cursor == ""
    assert list(Server().feed.look("2026-03-01T10:00:00.000000Z"))[-1].cursor == "2026-03-01T10:00:00.000000Z"


def test_a_row_that_appears_late_with_an_older_time_is_shown() -> None:
    server = Server()
    server.put("a", NOW - timedelta(hours=1))
    _, cursor = looked(server.feed, tag="")
    server.put("late", NOW - timedelta(hours=1, seconds=OVERLAP_S - 1))

    assert set(looked(server.feed, cursor, tag="")[0]) == {"a", "late"}


@pytest.mark.parametrize("carry", [timedelta(0), timedelta(seconds=1)], ids=["cut off", "rounded up"])
def test_a_server_that_rounds_times_to_seconds_loses_nothing(carry: timedelta) -> None:
    server = Server(shown=lambda moment: (moment.replace(microsecond=0) + carry).isoformat())
    moment = NOW - timedelta(hours=1)
    server.put("a", moment + timedelta(milliseconds=100))
    _, cursor = looked(server.feed, tag="")
    server.put("b", moment + timedelta(milliseconds=900))

    assert "b" in looked(server.feed, cursor, tag="")[0]


def test_the_next_links_of_ten_thousand_reports_of_one_second_are_followed_to_their_end() -> None:
    server = Server()
    expected = filled(server, 10_000, every=timedelta(microseconds=90))

    seen, cursor = looked(server.feed, tag="")

    assert set(seen) == expected
    assert looked(server.feed, cursor, tag="")[0].keys() == expected  # all within the overlap, and it ends again


def test_a_server_that_sorts_moves_the_cursor_page_by_page() -> None:
    server = Server()
    filled(server, 250)

    cursors = [page.cursor for page in server.feed.look("")]

    assert cursors[0] == ""  # nobody knew yet that it sorts
    assert cursors[1] < cursors[2] == cursors[3]


def test_a_server_that_ignores_the_order_moves_the_cursor_only_when_all_was_shown() -> None:
    server = Server(sorts=False)
    expected = filled(server, 250)
    server.put("r00007", NOW - timedelta(minutes=1), version="2")  # changed last, still in its old place

    pages = list(server.feed.look(""))

    assert {ref.report_id for page in pages for ref in page.reports} == expected
    assert [page.cursor for page in pages] == ["", "", "", text(NOW - timedelta(minutes=1))]


def test_a_server_that_ignores_the_time_shows_everything_and_the_poll_still_ends() -> None:
    server = Server(filters=False)
    expected = filled(server, 250)
    _, cursor = looked(server.feed, tag="")

    seen, after = looked(server.feed, cursor, tag="")

    assert set(seen) == expected
    assert after == cursor


def test_rows_repeated_across_pages_do_no_harm() -> None:
    server = Server(repeats=7)
    expected = filled(server, 350)

    assert set(looked(server.feed, tag="")[0]) == expected


def test_two_versions_of_a_report_on_two_pages_are_both_shown() -> None:
    server = Server(longest=1)
    server.put("a", NOW - timedelta(hours=2))
    server.put("b", NOW - timedelta(hours=1))
    pages = server.feed.look("")
    shown = list(next(pages).reports)
    server._snapshots[0][1] = server._snapshots[0][0] | {"meta": {"versionId": "2"}}

    shown += [ref for page in pages for ref in page.reports]

    assert shown == [ReportRef("a", "1"), ReportRef("a", "2")]


@pytest.mark.parametrize("sorts", [True, False])
def test_an_expired_next_link_begins_the_search_again(sorts: bool) -> None:
    server = Server(sorts=sorts, expires_after=3)
    expected = filled(server, 1200)

    assert set(looked(server.feed, tag="")[0]) == expected


def test_a_sorted_search_that_expired_goes_on_where_it_was() -> None:
    server = Server(expires_after=3)
    filled(server, 500)

    list(server.feed.look(""))

    begun = [asked.get("_lastUpdated", "") for asked in server.searches if asked["_count"] != "1"]
    assert begun[0] == ""
    assert begun[1:] == sorted(set(begun[1:]))


def test_a_search_that_expires_again_and_again_is_given_up_and_what_was_shown_stays() -> None:
    server = Server(expires_after=1, longest=100)
    filled(server, 1000, every=timedelta(microseconds=1))
    shown = []

    with pytest.raises(TransientError, match="410"):
        shown.extend(server.feed.look(""))

    assert {page.cursor for page in shown} == {""}
    assert len(server.asked) < 20


def test_a_server_that_shows_the_first_page_and_no_next_is_not_taken_for_showing_all() -> None:
    server = Server()
    filled(server, 250)
    server.pages = False
    shown: list[ReportPage] = []

    with pytest.raises(TransientError, match="shows 100 hits of more, and no next page"):
        shown.extend(server.feed.look(""))

    assert [(len(page.reports), page.cursor) for page in shown] == [(100, "")]


def test_a_report_stamped_in_the_future_does_not_blind_the_feed() -> None:
    server = Server()
    server.put("wrong", NOW + timedelta(days=40_000))
    _, cursor = looked(server.feed, tag="")
    server.put("later", NOW + timedelta(seconds=1))

    assert "later" in looked(server.feed, cursor, tag="")[0]


def test_a_server_that_fails_in_the_middle_is_gone_on_with_by_the_next_look() -> None:
    server = Server()
    expected = filled(server, 1000)
    seen: set[str] = set()
    cursor = ""
    chance = itertools.cycle([8, 13, 21])

    for _ in range(12):
        server.failing = {len(server.asked) + next(chance) + extra for extra in range(4)}
        try:
            for page in server.feed.look(cursor):
                seen |= {ref.report_id for ref in page.reports}
                cursor = page.cursor
        except TransientError:
            continue

    assert seen == expected


def test_a_report_without_a_version_gets_the_one_that_reading_it_tells() -> None:
    server = Server()
    server.put("a", NOW, version="", presentedForm=[attachment("One.")])
    first, _ = looked(server.feed, tag="")
    server.put("a", NOW, version="", presentedForm=[attachment("Two.")])
    second, _ = looked(server.feed, tag="")

    assert first["a"] != second["a"]
    assert all(version.startswith("sha256:") for version in first["a"] | second["a"])


def test_rows_without_a_time_are_shown_and_move_nothing() -> None:
    server = Server(shown=lambda _: "yesterday")
    server.put("a", NOW)

    assert looked(server.feed, tag="") == ({"a": {"1"}}, "")


def test_a_server_that_refuses_us_is_told_apart_from_one_that_is_away() -> None:
    pool = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(404)))
    with pytest.raises(InputError, match="404"):
        list(FhirReportFeed(FhirClient(BASE, client=pool)).look(""))
