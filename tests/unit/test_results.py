"""Results as files: all or nothing, and the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin.errors import InputError, TransientError
from plugin.results import ResultFile, ResultFolder, write_results
from plugin.values import StudyRef

STUDY = StudyRef("1.2.3")
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

        written = folder.write(STUDY, FILES)

        assert [path.read_bytes() for path in written] == [b"{}", b"\x00DICM"]
        assert folder.read(STUDY, "seg.dcm") == b"\x00DICM"

    def test_nothing_is_read_of_an_unknown_study_or_file(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, FILES)

        assert folder.read(StudyRef("9.9"), "seg.dcm") is None
        assert folder.read(STUDY, "other.json") is None

    def test_the_same_results_again_change_nothing(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        folder.write(STUDY, FILES)
        before = contents(tmp_path)

        folder.write(STUDY, FILES)

        assert contents(tmp_path) == before

    def test_new_results_stand_beside_the_old_ones(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        (old, *_) = folder.write(STUDY, FILES)

        folder.write(STUDY, (ResultFile("evidence.json", b"{1}"),))

        assert folder.read(STUDY, "evidence.json") == b"{1}"
        assert folder.read(STUDY, "seg.dcm") is None
        assert old.read_bytes() == b"{}"

    def test_every_study_is_listed(self, tmp_path: Path) -> None:
        folder = ResultFolder(tmp_path)
        for uid in ("1.2.4", "1.2.3"):
            folder.write(StudyRef(uid), FILES)

        assert folder.studies() == (StudyRef("1.2.3"), StudyRef("1.2.4"))

    def test_no_results_yet_is_an_empty_list(self, tmp_path: Path) -> None:
        assert ResultFolder(tmp_path / "none").studies() == ()

    def test_a_disk_that_refuses_is_a_passing_trouble(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        with pytest.raises(TransientError, match="results cannot be written"):
            ResultFolder(tmp_path / "file").write(STUDY, FILES)
