"""The folder of FHIR JSON keeps the report feed's promises, and those of a folder."""

import json
import os
import shutil
import time

import pytest
from fhir_input import around, as_bytes, report
from report_feed_contract import ReportFeedContract, looked

from plugin.errors import TransientError
from plugin.reports.feeds import FolderReportFeed
from plugin.reports.folder import FolderReportStore

LONG_AGO_NS = 1_000_000_000 * 10**9


class Site:
    """A folder with a file for each report, and the results inside it."""

    def __init__(self, folder):
        self.folder = folder
        results = folder / "results"
        self.feed = FolderReportFeed(folder, results)
        self.store = FolderReportStore(folder, results)

    def put(self, resource, *, under=""):
        path = self.folder / under / f"{resource['id']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(around(resource)))
        return path


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "reports")


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "reports").mkdir()


@pytest.fixture
def hurried(monkeypatch):
    """Without overlap, so that a look shows only what its cursor lets through."""
    monkeypatch.setattr("plugin.reports.feeds.OVERLAP_S", 0)


class TestFolder(ReportFeedContract):
    """The contract."""


def test_a_file_that_did_not_change_is_not_read_again_after_the_overlap(site, hurried):
    site.put(report(id="a"))
    time.sleep(0.02)
    site.put(report(id="b"))
    _, cursor = looked(site.feed, tag="")

    assert set(looked(site.feed, cursor, tag="")[0]) == {"b"}


def test_a_file_that_is_being_written_is_shown_when_it_is_complete(site, hurried):
    path = site.put(report(id="a"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    site.put(report(id="b"))
    half, cursor = looked(site.feed, tag="")
    path.write_bytes(whole)

    assert set(half) == {"b"}
    assert set(looked(site.feed, cursor, tag="")[0]) >= {"a"}


def test_a_file_that_comes_with_an_old_time_is_shown(site, hurried, tmp_path):
    site.put(report(id="a"))
    _, cursor = looked(site.feed, tag="")
    late = tmp_path / "late.json"
    late.write_bytes(as_bytes(around(report(id="late"))))
    os.utime(late, ns=(LONG_AGO_NS, LONG_AGO_NS))
    shutil.move(late, site.folder / "late.json")

    assert "late" in looked(site.feed, cursor, tag="")[0]


def test_a_folder_that_is_moved_in_with_its_old_files_is_shown(site, hurried, tmp_path):
    before = Site(tmp_path / "elsewhere")
    before.put(report(id="old"), under="export")
    time.sleep(0.02)
    site.put(report(id="a"))
    _, cursor = looked(site.feed, tag="")
    shutil.move(tmp_path / "elsewhere" / "export", site.folder / "export")

    assert "old" in looked(site.feed, cursor, tag="")[0]


def test_a_file_from_the_future_does_not_hide_later_ones(site, hurried):
    path = site.put(report(id="a"))
    ahead = time.time_ns() + 10**15
    os.utime(path, ns=(ahead, ahead))
    _, cursor = looked(site.feed, tag="")
    site.put(report(id="b"))

    assert "b" in looked(site.feed, cursor, tag="")[0]


def test_files_that_are_no_fhir_and_our_own_results_are_passed_over(site):
    (site.folder / "a.json").write_bytes(b"{")
    (site.folder / "b.txt").write_bytes(as_bytes(report()))
    (site.folder / "c.json").mkdir()
    site.put(report(id="result"), under="results")

    assert looked(site.feed, tag="")[0] == {}


def test_a_file_of_several_reports_shows_each(site):
    entries = [{"resource": report(id=name)} for name in ("a", "b")]
    (site.folder / "two.json").write_text(
        json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    )

    assert set(looked(site.feed, tag="")[0]) == {"a", "b"}


def test_a_missing_folder_is_tried_again_later(tmp_path):
    with pytest.raises(TransientError, match="SIGHTLINE_REPORTS_DIR"):
        list(FolderReportFeed(tmp_path / "missing", tmp_path).look(""))
