"""The pinned version of a data set: written, read, and refused when it was meddled with."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from model.data.pins import DataError, main, parse_pins, version_of, write_pins
from model.data.store import FolderStore

DIGEST = hashlib.sha256(b"a").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    return tmp_path


def test_the_version_is_what_sha256sum_of_sha256sums_lines_gives() -> None:
    lines = f"{DIGEST}  a\n{DIGEST}  b\n"

    assert version_of([("b", DIGEST), ("a", DIGEST)]) == hashlib.sha256(lines.encode()).hexdigest()


def test_the_command_pins_every_file_of_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pins", str(folder)])

    main()
    main()  # VERSION.json is not pinned by itself

    pins = parse_pins((folder / "VERSION.json").read_bytes(), "VERSION.json")
    assert pins == {"images/a": DIGEST, "b": hashlib.sha256(b"b").hexdigest()}
    assert capsys.readouterr().out.split() == [version_of(pins.items())] * 2


def test_the_command_says_how_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pins"])

    with pytest.raises(SystemExit, match=r"usage: python -m model.data.pins FOLDER"):
        main()


def test_a_list_that_was_changed_by_hand_is_refused(folder: Path) -> None:
    write_pins(folder)
    held = json.loads((folder / "VERSION.json").read_text())
    held["files"]["b"] = DIGEST
    (folder / "VERSION.json").write_text(json.dumps(held))

    with pytest.raises(DataError, match="does not agree with itself"):
        FolderStore(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "{",
        '{"files": [], "version": ""}',
        "<html>",
        f"{DIGEST}  ../b\n",
        f"{DIGEST}  /b\n",
        f"{DIGEST} b c d\nx\n",
    ],
)
def test_what_lists_no_files_of_the_folder_is_refused(content: str) -> None:
    with pytest.raises(DataError, match=r"expected VERSION.json or the output of sha256sum"):
        parse_pins(content.encode(), "VERSION.json")


@pytest.mark.parametrize("mark", [" ", "*"])
def test_the_output_of_sha256sum_is_read_in_both_of_its_forms(mark: str) -> None:
    assert parse_pins(f"{DIGEST.upper()} {mark}./a b\n\n".encode(), "SHA256SUMS.txt") == {"a b": DIGEST}


def test_a_file_that_is_not_listed_is_read_and_one_that_differs_is_not(folder: Path) -> None:
    write_pins(folder)
    (folder / "new").write_bytes(b"new")
    (folder / "b").write_bytes(b"other")
    store = FolderStore(folder)

    assert store.read("new") == b"new"
    with pytest.raises(DataError, match="b is not the file of the pinned version"):
        store.read("b")
