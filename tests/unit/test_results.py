"""Results as files: all or nothing, and the same again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from plugin.errors import InputError, TransientError
from plugin.results import KeptReport, ResultFile, ResultFolder, write_results
from plugin.values import ReportRef, ReportStatus, StudyRef

STUDY = StudyRef("1.2.3")
KEPT = KeptReport(ReportRef("report-1", "1"), ReportStatus.FINAL, datetime(2026, 3, 1, tzinfo=UTC))
FILES = (ResultFile("evidence.json", b"{}"), ResultFile("seg.dcm", b"\x00DICM"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriteResults:
    def test_a_new_folder_holds_exactly_the_files(self, tmp_path: Path) -> None:
        written = write_results(tmp_path / "deep" / "out", FILES)

        assert written == (tmp_path / "deep" / "out" / "evidence.json", tmp_path / "deep" / "out" / "seg.dcm")
        assert contents(tmp_path) == {"deep/out/evidence.json": b"{}", "deep/out/seg.dcm": b"\x00DICM"}

    def test_a_run_again_leaves_the_same_files(self, tmp_path: Path) -> None:
        write_results(tmp_path / "out", FILES)

        write_results(tmp_path / "out", FILES)

        assert contents(tmp_path / "out") == {"evidence.json": b"{}", "seg.dcm": b"\x00DICM"}
        assert entries(tmp_path / "out") == ["evidence.json", "seg.dcm"]

    def test_files_of_others_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")

        write_results(tmp_path, FILES)

        assert entries(tmp_path) == ["evidence.json", "notes.txt", "seg.dcm"]

    def test_a_file_in_place_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")

        with pytest.raises(InputError, match="is a file"):
            write_results(tmp_path / "out", FILES)

        assert contents(tmp_path) == {"out": b"mine"}

    def test_a_failed_write_puts_everything_back(self, tmp_path: Path) -> None:
        (tmp_path / "evidence.json").write_bytes(b"before")
        (tmp_path / "seg.dcm").mkdir()  # a folder cannot be replaced by a file

        with pytest.raises(InputError, match="Nothing was changed"):
            write_results(tmp_path, (*FILES[:1], ResultFile("new.txt", b"new"), FILES[1]))

        assert entries(tmp_path) == ["evidence.json", "seg.dcm"]
        assert (tmp_path / "evidence.json").read_bytes() == b"before"

    def test_a_folder_below_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")

        with pytest.raises(InputError, match="cannot be written"):
            write_results(tmp_path / "file" / "out", FILES)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "..\\b", "a\\b"])
    def test_a_name_with_a_folder_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="plain name"):
            ResultFile(name, b"")


class TestResultFolder:
    def test_what_was_written_is_read_back(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)

        written = folder.write(STUDY, KEPT, FILES)

        assert [path.read_bytes() for path in written] == [b"{}", b"\x00DICM"]
        assert folder.read(STUDY, "seg.dcm") == b"\x00DICM"

    def test_nothing_is_read_of_an_unknown_study_or_file(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, KEPT, FILES)

        assert folder.read(StudyRef("9.9"), "seg.dcm") is None
        assert folder.read(STUDY, "other.json") is None

    def test_the_same_results_again_change_nothing(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, KEPT, FILES)
        before = contents(tmp_path)

        folder.write(STUDY, KEPT, FILES)

        assert contents(tmp_path) == before

    def test_new_results_stand_beside_the_old_ones(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        (old, *_) = folder.write(STUDY, KEPT, FILES)

        folder.write(STUDY, KEPT, (ResultFile("evidence.json", b"{1}"),))

        assert folder.read(STUDY, "evidence.json") == b"{1}"
        assert folder.read(STUDY, "seg.dcm") is None
        assert old.read_bytes() == b"{}"

    def test_every_study_is_listed(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        for uid in ("1.2.4", "1.2.3"):
            folder.write(StudyRef(uid), KEPT, FILES)

        assert folder.studies() == (StudyRef("1.2.3"), StudyRef("1.2.4"))

    def test_no_results_yet_is_an_empty_list(self, tmp_path: Path) -> None:
        assert ResultFolder(tmp_path / "none").studies() == ()

    def test_a_disk_that_refuses_is_a_passing_trouble(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        with pytest.raises(TransientError, match="results cannot be written"):
            ResultFolder(tmp_path / "file").write(STUDY, KEPT, FILES)


class TestSeveralReports:
    def kept(self, report_id: str, *, day: int = 1, status: ReportStatus = ReportStatus.FINAL) -> KeptReport:
        return KeptReport(ReportRef(report_id, "1"), status, datetime(2026, 3, day, tzinfo=UTC))

    def test_each_is_read_by_its_id_and_the_newest_governs(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        for day, report_id in ((2, "b"), (3, "c"), (1, "a")):
            folder.write(STUDY, self.kept(report_id, day=day), (ResultFile("x", report_id.encode()),))

        assert [each.ref.report_id for each in folder.reports(STUDY)] == ["c", "b", "a"]
        assert folder.read(STUDY, "x") == b"c"
        assert folder.read(STUDY, "x", "a") == b"a"
        assert folder.read(STUDY, "x", "none") is None

    def test_a_final_one_governs_before_a_newer_preliminary_one(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, self.kept("final"), FILES)
        folder.write(STUDY, self.kept("draft", day=9, status=ReportStatus.PRELIMINARY), FILES)

        assert [each.ref.report_id for each in folder.reports(STUDY)] == ["final", "draft"]

    def test_times_without_a_zone_are_taken_as_utc(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, self.kept("zoned", day=2), FILES)
        naive = datetime(2026, 3, 3)  # noqa: DTZ001
        folder.write(STUDY, KeptReport(ReportRef("naive", "1"), ReportStatus.FINAL, naive), FILES)

        assert folder.reports(STUDY)[0].ref.report_id == "naive"

    def test_a_withdrawn_one_is_listed_last_remembered_and_never_read(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, self.kept("a"), FILES)
        folder.write(STUDY, self.kept("b", day=2), FILES)

        folder.withdraw(STUDY, "b")
        folder.withdraw(STUDY, "b")
        folder.withdraw(STUDY, "never written")

        assert [(each.ref.report_id, each.status.withdrawn) for each in folder.reports(STUDY)] == [
            ("a", False),
            ("b", True),
        ]
        assert folder.read(STUDY, "seg.dcm", "b") is None
        assert folder.remembered(STUDY, "b", "seg.dcm") == b"\x00DICM"
        folder.withdraw(STUDY, "a")
        assert folder.read(STUDY, "seg.dcm") is None
        assert folder.studies() == ()

    def test_one_that_comes_back_is_shown_again(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, self.kept("a"), FILES)
        folder.withdraw(STUDY, "a")

        folder.write(STUDY, self.kept("a"), FILES)

        assert folder.read(STUDY, "seg.dcm") == b"\x00DICM"

    def test_a_pointer_that_is_damaged_shows_nothing(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, KEPT, FILES)
        (pointer,) = tmp_path.glob("*/*/newest")
        for content in ("", "[]", '{"version": "../../x"}', '{"version": "x"}', "null"):
            pointer.write_text(content, encoding="utf-8")
            assert folder.reports(STUDY) == ()

    def test_a_second_worker_waits_until_the_first_is_done_with_the_study(self, tmp_path: Path) -> None:
        folder, hasty = ResultFolder(tmp_path), ResultFolder(tmp_path, patience_s=0.1)

        with folder.alone(STUDY):
            with pytest.raises(TransientError, match="Another worker"), hasty.alone(STUDY):
                pass
            with hasty.alone(StudyRef("9.9")):
                pass
        with hasty.alone(STUDY):
            pass
