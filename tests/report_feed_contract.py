"""What every :class:`plugin.ports.ReportFeed` promises; run on the folder and on a real FHIR server.

A subclass has a fixture ``site``: ``site.feed``, ``site.store`` over the same place, and ``site.put(resource)``, which
adds a DiagnosticReport or replaces it by a new version. Ids are unique for each test, since a server outlives it.
"""

from __future__ import annotations

import uuid

import pytest
from fhir_input import attachment, report

from plugin.fhir.ours import MULTIMEDIA_REPORT
from plugin.ports import ReportFeed
from plugin.values import ReportStatus


def looked(feed: ReportFeed, cursor: str = "", *, tag: str) -> tuple[dict[str, set[str]], str]:
    """The versions of each report of this test that one look shows, and the cursor it ends with."""
    seen: dict[str, set[str]] = {}
    for page in feed.look(cursor):
        for ref in page.reports:
            if tag in ref.report_id:
                seen.setdefault(ref.report_id, set()).add(ref.version)
        cursor = page.cursor
    return seen, cursor


class ReportFeedContract:
    """The promises, one test each."""

    @pytest.fixture
    def tag(self) -> str:
        return uuid.uuid4().hex[:12]

    @pytest.fixture
    def many(self) -> int:
        return 250

    def test_every_report_is_shown_from_the_beginning(self, site, tag, many):
        for number in range(many):
            site.put(report(id=f"{tag}-{number}"))

        seen, _ = looked(site.feed, tag=tag)

        assert set(seen) == {f"{tag}-{number}" for number in range(many)}

    def test_after_a_look_only_what_came_since_need_be_shown_and_all_of_it_is(self, site, tag):
        site.put(report(id=f"{tag}-a"))
        _, cursor = looked(site.feed, tag=tag)
        site.put(report(id=f"{tag}-b"))

        seen, after = looked(site.feed, cursor, tag=tag)

        assert f"{tag}-b" in seen
        assert looked(site.feed, after, tag=tag)[1] == after

    def test_a_changed_report_is_shown_as_another_version(self, site, tag):
        site.put(report(id=tag, meta=None))
        first, cursor = looked(site.feed, tag=tag)
        site.put(report(id=tag, meta=None, status="amended", presentedForm=[attachment("No effusion.")]))

        second, _ = looked(site.feed, cursor, tag=tag)

        assert second[tag] - first[tag]

    def test_a_withdrawal_that_leaves_the_text_is_another_version(self, site, tag):
        site.put(report(id=tag, meta=None))
        first, cursor = looked(site.feed, tag=tag)
        site.put(report(id=tag, meta=None, status="entered-in-error"))

        second, _ = looked(site.feed, cursor, tag=tag)

        assert second[tag] - first[tag]

    def test_reports_of_every_status_are_shown(self, site, tag):
        for status in ReportStatus:
            site.put(report(id=f"{tag}-{status}", status=status))

        seen, _ = looked(site.feed, tag=tag)

        assert set(seen) == {f"{tag}-{status}" for status in ReportStatus}

    def test_a_report_without_usable_text_is_shown_too(self, site, tag):
        site.put(report(id=tag, presentedForm=None))

        assert set(looked(site.feed, tag=tag)[0]) == {tag}

    def test_what_is_shown_can_be_read(self, site, tag):
        site.put(report(id=tag, meta=None))

        refs = [ref for page in site.feed.look("") for ref in page.reports if ref.report_id == tag]

        assert [site.store.read(ref).ref for ref in refs] == refs != []

    def test_our_own_multimedia_reports_are_left_out(self, site, tag):
        site.put(report(id=f"{tag}-ours", meta={"tag": [MULTIMEDIA_REPORT]}))
        site.put(report(id=f"{tag}-theirs"))

        assert set(looked(site.feed, tag=tag)[0]) == {f"{tag}-theirs"}

    def test_a_look_that_ends_in_the_middle_is_gone_on_with_by_the_next(self, site, tag, many):
        for number in range(many):
            site.put(report(id=f"{tag}-{number}"))
        pages = site.feed.look("")
        first = next(pages)
        pages.close()

        rest, _ = looked(site.feed, first.cursor, tag=tag)

        assert set(rest) | {ref.report_id for ref in first.reports} >= {f"{tag}-{number}" for number in range(many)}
