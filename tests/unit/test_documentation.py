"""The documentation names files that are there."""

from __future__ import annotations

import re

import pytest
from servers import ROOT

# Decisions say what was there when they were made.
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "conformance", "orthanc", "model")
    for path in (ROOT / folder).glob("*.md")
)
_FILE = re.compile(r"(?<![\w/.-])(?:plugin|nlp|model|orthanc|conformance|tests|docs)/[\w/.-]*\w")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_whatever_a_page_names_or_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")

    named = {ROOT / found for found in _FILE.findall(text)}
    linked = {(ROOT / page).parent / found for found in _LINK.findall(text)}
    assert sorted(str(path) for path in named | linked if not path.exists()) == []
