"""docs/security.md tells what is: the tests that it names are there, and its limits are those of the code."""

from __future__ import annotations

import ast
import importlib
import re

import pytest
from servers import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def rows(table: str) -> list[list[str]]:
    """The rows of a table below its comment, as cells."""
    section = DOCUMENT.partition(f"<!-- {table} -->\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines()[2:]]


@pytest.mark.parametrize("row", rows("threats"), ids=lambda row: row[0])
def test_the_test_of_each_threat_exists(row: list[str]) -> None:
    _, control, named = row
    file, _, name = named.strip("` ").partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))

    assert control
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", rows("limits"), ids=lambda row: row[0])
def test_each_limit_is_the_one_of_the_code(row: list[str]) -> None:
    _, told, constant = row
    module, _, name = constant.strip("` ").rpartition(".")

    assert float(re.match(r"\d+", told)[0]) == getattr(importlib.import_module(module), name)  # type: ignore[index]


def test_the_tables_are_not_empty() -> None:
    assert len(rows("threats")) > 25
    assert len(rows("limits")) > 15
    assert len(rows("kept")) > 4
