"""The tables that a radiologist edits, held to their form."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlp.lexicon import concepts, digest, entries
from nlp.phrases import Assertion, Change, Laterality, Severity
from nlp.spans import _SEVERITY

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "nlp" / "lexicon.csv"
REPORT = "FINDINGS: Small left effuson and atelectasis, likely pneumonia. No pneumothorax.\nIMPRESSION: Left effusion."


def test_every_term_is_lower_case_and_names_one_concept() -> None:
    seen: dict[tuple[str, str], str] = {}
    for entry in entries():
        for term in entry.terms:
            assert term == term.lower().strip()
            assert term.count("~") <= 1
            if entry.kind in ("finding", "device"):
                assert seen.setdefault(("finding", term), entry.meaning) == entry.meaning, term


def test_every_word_means_a_value_the_reader_knows() -> None:
    allowed = {
        "side": {side.value for side in Laterality},
        "severity": set(_SEVERITY),
        "change": {change.value for change in Change},
        "descriptor": {""},
        "cue": {f"{claim}/{way}" for claim in Assertion for way in ("before", "after", "both")} | {"stop/both"},
    }

    for entry in entries():
        assert entry.meaning in allowed.get(entry.kind, {entry.meaning})
    assert all(level in Severity for level in _SEVERITY.values())


def test_every_implied_site_is_a_site() -> None:
    sites = {name for name, concept in concepts().items() if concept.kind == "site"}

    assert all(set(concept.sites) <= sites for concept in concepts().values())


def test_only_verified_codes_are_used() -> None:
    if not SHARED.exists():
        pytest.skip("the table of verified codes is not beside the checkout")
    with SHARED.open(encoding="utf-8", newline="") as file:
        verified = {(row["code_system"], row["code"]) for row in csv.DictReader(file) if row["status"] == "verified"}

    used = {(code.scheme, code.value) for named in concepts().values() for code in named.concept.codes}
    assert used
    assert used <= verified


def test_two_processes_with_different_hash_seeds_read_the_same() -> None:
    program = f"from nlp.reader import read_report; print(read_report({REPORT!r}))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert len(answers) == 1


def test_importing_the_values_loads_neither_spacy_nor_torch() -> None:
    program = "import sys, nlp.phrases, nlp.reader; print(sorted({'spacy', 'torch', 'scispacy'} & set(sys.modules)))"

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert answer.strip() == "[]"


def test_the_digest_is_a_sha256() -> None:
    assert len(digest()) == 64


def test_reading_asks_nothing_of_the_network() -> None:
    program = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        f"from nlp.reader import find_phrases; print(len(find_phrases({REPORT!r})))"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert answer.strip() == "5"
