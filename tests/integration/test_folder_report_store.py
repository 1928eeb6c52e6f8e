"""The folder of FHIR JSON keeps the report store's promises, and those of a folder."""

import json
from pathlib import Path

import pytest
from evidence import make_evidence
from fhir_input import IDENTITY, around, as_bytes, bundle, report
from report_store_contract import ReportStoreContract

from plugin.errors import InputError, TransientError
from plugin.fhir.writing import bundle_of
from plugin.reports.folder import FolderReportStore
from plugin.values import ReportRef


class Site:
    """A folder of reports with the results inside it."""

    def __init__(self, folder):
        self.folder = folder
        self.results = folder / "results"
        self.store = FolderReportStore(folder, self.results)

    def put(self, *resources):
        """One growing bundle, since references are followed within a file."""
        path = self.folder / "deep" / "export.json"
        path.parent.mkdir(exist_ok=True)
        before = json.loads(path.read_text())["entry"] if path.exists() else []
        document = bundle(*resources)
        path.write_bytes(as_bytes(document | {"entry": [*before, *document["entry"]]}))

    def written(self, kind, name):
        return json.loads((self.results / f"{kind}-{name}.json").read_text(encoding="utf-8"))

    def everything(self, _):
        files = (path for path in self.results.rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


class TestFolder(ReportStoreContract):
    """The contract."""


def test_the_newest_version_of_a_report_is_found_and_older_ones_can_still_be_read(tmp_path):
    for version in ("2", "10", "9"):
        changed = report(meta={"versionId": version}, conclusion=version)
        (tmp_path / f"{version}.json").write_bytes(as_bytes(around(changed)))
    store = FolderReportStore(tmp_path, tmp_path / "results")

    assert store.find(IDENTITY) == (ReportRef("report", "10"),)
    assert store.read(ReportRef("report", "9")).ref.version == "9"
    with pytest.raises(InputError, match="not in the folder"):
        store.read(ReportRef("report", "11"))


def test_files_that_are_no_fhir_are_passed_over(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{")
    (tmp_path / "b.json").write_bytes(b"[1]")
    (tmp_path / "c.txt").write_bytes(as_bytes(around(report())))
    (tmp_path / "d.json").mkdir()
    with (tmp_path / "e.json").open("wb") as sparse:
        sparse.truncate(60_000_000)
    (tmp_path / "f.json").write_bytes(as_bytes(around(report())))

    assert FolderReportStore(tmp_path, tmp_path / "results").find(IDENTITY) == (ReportRef("report", "3"),)


def test_references_do_not_lead_into_another_file(tmp_path):
    (tmp_path / "a.json").write_bytes(as_bytes(report()))
    (tmp_path / "b.json").write_bytes(as_bytes(bundle(*(e["resource"] for e in bundle()["entry"][:3]))))

    assert FolderReportStore(tmp_path, tmp_path / "results").find(IDENTITY) == ()


def test_our_own_results_are_never_taken_for_reports(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_bytes(as_bytes(around(report())))

    assert FolderReportStore(tmp_path, tmp_path / "results").find(IDENTITY) == ()


def test_a_missing_folder_is_tried_again_later(tmp_path):
    with pytest.raises(TransientError, match="SIGHTLINE_REPORTS_DIR"):
        FolderReportStore(tmp_path / "missing", tmp_path).find(IDENTITY)


def test_results_that_cannot_be_written_are_tried_again_later_and_leave_nothing_behind(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    store = FolderReportStore(tmp_path, tmp_path / "results")

    with pytest.raises(TransientError, match="cannot be written"):
        store.write(bundle_of(make_evidence(), page_url=None, instances=()))


@pytest.mark.parametrize("results", ["there", "missing"])
def test_a_write_that_fails_leaves_neither_half_nor_temporary_file(tmp_path, monkeypatch, results):
    def full(*_):
        raise OSError(28, "No space left on device")

    if results == "there":
        (tmp_path / "results").mkdir()
    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(Path, "rename", full)
    store = FolderReportStore(tmp_path, tmp_path / "results")

    with pytest.raises(TransientError, match="No space left"):
        store.write(bundle_of(make_evidence(), page_url=None, instances=()))
    assert list(tmp_path.rglob("*")) == ([tmp_path / "results"] if results == "there" else [])
