"""The index of the folder: nothing is missed, and only what changed is read."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from fhir_input import IDENTITY, OTHER_STUDY_UID, around, as_bytes, bundle, imaging_study, order, patient, report

from plugin.ports import StudyIdentity
from plugin.reports.folder import FolderReportStore
from plugin.reports.index import FolderIndex
from plugin.values import ReportRef, StudyRef


@pytest.fixture
def read() -> list[str]:
    return []


@pytest.fixture
def index(tmp_path: Path, read: list[str]) -> FolderIndex:
    def keys_of(path: Path) -> tuple[str, ...]:
        read.append(path.name)
        return tuple(path.read_text().split())

    return FolderIndex(tmp_path, tmp_path / "results", keys_of)


def put(path: Path, keys: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(keys)
    return path


def settled() -> None:
    """Until the files are older than what may change without a trace."""
    time.sleep(0.06)


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_files_are_found_by_their_keys_at_any_depth_and_in_order(index: FolderIndex, tmp_path: Path) -> None:
    put(tmp_path / "b.json", "x y")
    put(tmp_path / "deep" / "er" / "a.json", "x")
    put(tmp_path / "c.json", "z")
    put(tmp_path / "results" / "d.json", "x")
    put(tmp_path / "e.txt", "x")

    assert names(index.found("x")) == ["b.json", "a.json"]
    assert names(index.found("y", "z")) == ["b.json", "c.json"]
    assert index.found("unknown") == ()


def test_a_file_is_read_once_while_it_stays_as_it_is(index: FolderIndex, tmp_path: Path, read: list[str]) -> None:
    put(tmp_path / "a.json", "x")
    put(tmp_path / "b.json", "y")
    settled()
    index.found("x")
    settled()
    index.found("x", thoroughly=True)
    before = len(read)

    for key in ("x", "y") * 20:
        index.found(key, thoroughly=True)

    assert read[before:] == []


def test_only_the_changed_file_is_read_again(index: FolderIndex, tmp_path: Path, read: list[str]) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / f"{name}.json", name)
    settled()
    index.found("a")
    settled()
    index.found("a", thoroughly=True)
    read.clear()
    put(tmp_path / "b.json", "b again")

    assert names(index.found("again")) == ["b.json"]
    assert set(read) == {"b.json"}


@pytest.mark.parametrize("pause_s", [0.0, 0.06])
def test_whatever_happens_to_the_files_is_seen_at_once(index: FolderIndex, tmp_path: Path, pause_s: float) -> None:
    def found(key: str) -> list[str]:
        time.sleep(pause_s)
        return names(index.found(key))

    a = put(tmp_path / "a.json", "x")
    assert found("x") == ["a.json"]
    put(a, "y")  # the same size, perhaps the same time
    assert found("x") == []
    assert found("y") == ["a.json"]
    put(tmp_path / "b.json", "y")
    assert found("y") == ["a.json", "b.json"]
    shutil.move(tmp_path / "b.json", tmp_path / "c.json")
    assert found("y") == ["a.json", "c.json"]
    put(tmp_path / "new" / "d.json", "y")
    assert found("y") == ["a.json", "c.json", "d.json"]
    shutil.rmtree(tmp_path / "new")
    a.unlink()
    assert found("y") == ["c.json"]


def test_a_file_that_others_rewrite_is_seen_within_a_second(index: FolderIndex, tmp_path: Path) -> None:
    put(tmp_path / "a.json", "x")
    b = put(tmp_path / "b.json", "y")
    settled()
    index.found("x")
    settled()
    put(b, "x too")
    clock = index.clock_ns
    index.clock_ns = lambda: clock() + 1_100_000_000

    assert names(index.found("x")) == ["a.json", "b.json"]


# The report store on it


def test_ten_thousand_questions_do_not_read_ten_thousand_times_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        (tmp_path / f"{number}.json").write_bytes(as_bytes(around(report(id=f"r{number}"))))
    settled()
    store = FolderReportStore(tmp_path, tmp_path / "results")
    opened: list[Path] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path), whole(path))[1])
    store.describe("r0")
    first = len(opened)

    for number in range(60):
        assert store.describe(f"r{number}") is not None
        assert store.read(ReportRef(f"r{number}", "3")).ref.report_id == f"r{number}"

    assert first <= 61
    assert len(opened) - first <= 60 * 2 + 60  # the files asked for, and once more all that were young


def test_a_report_is_found_by_study_and_by_order_and_by_no_other(tmp_path: Path) -> None:
    store = FolderReportStore(tmp_path, tmp_path / "results")
    (tmp_path / "a.json").write_bytes(as_bytes(around(report(id="by-both"))))
    (tmp_path / "b.json").write_bytes(
        as_bytes(bundle(patient(), order(), report(id="by-order", imagingStudy=None, meta={"versionId": "1"})))
    )
    other = imaging_study(identifier=[{"system": "urn:dicom:uid", "value": OTHER_STUDY_UID}])
    (tmp_path / "c.json").write_bytes(as_bytes(bundle(patient(), other, report(id="another", basedOn=None))))

    assert {ref.report_id for ref in store.find(IDENTITY)} == {"by-both", "by-order"}
    assert [ref.report_id for ref in store.find(StudyIdentity(StudyRef(OTHER_STUDY_UID)))] == ["another"]
