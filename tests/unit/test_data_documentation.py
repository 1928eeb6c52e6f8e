"""docs/training-data.md is held to the readers: its examples are read, and its forms are those that are recognised."""

from __future__ import annotations

import re
from pathlib import Path

from model.data.jsonl import samples_of
from model.data.regions import DECISIONS, read_regions, recognise_regions
from model.data.store import FolderStore

PAGE = (Path(__file__).parents[2] / "docs/training-data.md").read_text(encoding="utf-8")
REFERENCE, DECIDED = (block.encode() for block in re.findall(r"```jsonl\n(.*?)```", PAGE, re.DOTALL))


def test_the_examples_of_the_reference_form_are_read_as_they_are_explained() -> None:
    boxed, masked, absent = samples_of(REFERENCE, "page")

    assert (len(boxed.boxes), boxed.mask) == (1, None)
    assert (masked.present, masked.mask) == (True, "masks/0007.png")
    assert not absent.present
    assert not recognise_regions(REFERENCE)


def test_the_examples_of_decisions_are_read_as_they_are_explained(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(DECIDED)

    rows = read_regions(FolderStore(tmp_path), "decisions.jsonl").samples()

    assert recognise_regions(DECIDED)
    assert [(row.phrase, row.present) for row in rows] == [
        ("left effusion", True),
        ("right basal opacity", True),
        ("apical nodule", False),
    ]
    assert all(f"`{decision}`" in PAGE for decision in DECISIONS)


def test_every_option_of_the_command_is_documented() -> None:
    from plugin.cli import _parser

    (commands,) = [action for action in _parser()._actions if action.dest == "command"]
    options = [text for action in commands.choices["prepare"]._actions for text in action.option_strings]

    assert [option for option in options if option not in ("-h", "--help") and option not in PAGE] == []
