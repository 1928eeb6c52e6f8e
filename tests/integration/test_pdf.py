"""PDF reports, read in a process of its own: their text, and what is refused."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from pathlib import Path

import pypdf
import pytest
from fhir_input import IDENTITY, around, as_bytes, attachment, report
from pdf_input import bomb, circular, pdf, pdf_of, scan

from plugin.errors import InputError
from plugin.fhir import pdf as reading
from plugin.fhir.pdf import MOST_PAGES, answer, text_of_pdf
from plugin.fhir.reading import report_from_file, report_of
from plugin.fhir.resource import Element, Resources
from plugin.identity import sha256_hex
from plugin.reports.feeds import FolderReportFeed
from plugin.reports.folder import FolderReportStore

PAGE = "FINDINGS:\nSmall left pleural effusion (5 mm).\nNo pneumothorax. Größe \\ unverändert."


def encrypted(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(PAGE)))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def test_the_text_of_all_pages_is_read_line_by_line() -> None:
    assert text_of_pdf(pdf(PAGE, "IMPRESSION:\nEffusion.")) == f"{PAGE}\n\nIMPRESSION:\nEffusion."


def test_words_divided_at_a_line_end_stay_as_they_are() -> None:
    assert text_of_pdf(pdf("Left-\nsided effu-\nsion.")) == "Left-\nsided effu-\nsion."


def test_a_pdf_that_opens_without_a_password_is_read() -> None:
    assert text_of_pdf(encrypted("")) == PAGE


def test_damage_that_takes_nothing_away_is_mended() -> None:
    content = pdf(PAGE)

    assert text_of_pdf(content.replace(b"startxref\n", b"startxref\n9")) == PAGE


def test_a_pdf_that_breaks_off_is_not_read_in_part() -> None:
    content = pdf(PAGE, PAGE)

    for share in (0.5, 0.7, 0.9):
        with pytest.raises(InputError, match=r"cannot be read|without text"):
            text_of_pdf(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (scan(), "without text, as a scan is"),
        (pdf(" \n "), "without text"),
        (encrypted("secret"), "needs a password"),
        (pdf(*["page"] * (MOST_PAGES + 1)), f"more than {MOST_PAGES} pages"),
        (b"%PDF-1.7 and nothing else", "cannot be read"),
        (b"%PDF-1.7\n" + b"<<" * 100_000, "cannot be read"),
        (pdf_of([]), "without text"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(content: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        text_of_pdf(content)

    assert "give the report as text/plain" in str(refused.value)


def test_text_without_a_usable_encoding_is_refused() -> None:
    with pytest.raises(InputError, match="no usable encoding"):
        text_of_pdf(pdf_of([b"BT /F 11 Tf 50 800 Td (" + bytes(range(1, 9)) * 20 + b" ab) Tj ET"]))


@pytest.mark.parametrize("content", [circular(), bomb(200)], ids=["circular", "bomb"])
def test_a_hostile_pdf_costs_a_bounded_time_and_the_next_is_read(content: bytes) -> None:
    began = time.monotonic()

    try:
        text_of_pdf(content, timeout_s=5)
    except InputError as refused:
        assert "PDF" in str(refused)  # noqa: PT017 - either is right, as long as it ends

    assert time.monotonic() - began < 10
    assert text_of_pdf(pdf(PAGE)) == PAGE


def test_a_reader_that_hangs_is_ended_and_the_next_is_read() -> None:
    text_of_pdf(pdf(PAGE))
    os.kill(reading._CHILD._running().pid, signal.SIGSTOP)

    with pytest.raises(InputError, match="cannot be read"):
        text_of_pdf(pdf(PAGE), timeout_s=0.2)

    assert text_of_pdf(pdf(PAGE)) == PAGE


def test_mutated_pdfs_are_read_or_refused_and_never_bring_the_reader_down() -> None:
    chance = random.Random(6)
    whole = pdf(PAGE, PAGE)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(9, len(content))] = chance.randrange(256)
        assert answer(bytes(content)).startswith(b"{")


# As reports


def test_a_report_that_is_a_pdf_is_read_when_the_site_says_so() -> None:
    changed = report(presentedForm=[attachment(pdf(PAGE), "application/pdf")])
    resources = Resources([("", Element(changed))], read_pdf=text_of_pdf)

    found = report_of(Element(changed), resources)

    assert (found.text, found.text_source) == (PAGE, "presentedForm application/pdf")
    with pytest.raises(InputError, match="SIGHTLINE_READ_PDF"):
        report_of(Element(changed), Resources([("", Element(changed))]))


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        (
            {"presentedForm": [attachment(pdf(PAGE), "application/pdf"), attachment("Left.")]},
            "presentedForm text/plain",
        ),
        ({"presentedForm": [attachment(pdf(PAGE), "application/pdf")], "conclusion": "Left."}, "conclusion"),
        ({"presentedForm": [attachment(pdf(PAGE), "text/plain")]}, "presentedForm application/pdf"),
    ],
)
def test_a_pdf_is_the_last_place_that_text_is_taken_from(changes: dict[str, object], source: str) -> None:
    changed = report(**changes)

    assert report_of(Element(changed), Resources([("", Element(changed))], read_pdf=text_of_pdf)).text_source == source


def test_a_pdf_file_is_a_report_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(pdf(PAGE))

    (found,) = report_from_file(tmp_path / "report.pdf", read_pdf=text_of_pdf)

    assert (found.text, found.text_source) == (PAGE, "file, text of the PDF")
    assert found.ref.version == f"sha256:{sha256_hex(PAGE.encode())}"
    with pytest.raises(InputError, match="SIGHTLINE_READ_PDF"):
        report_from_file(tmp_path / "report.pdf")


def test_store_and_feed_agree_about_a_pdf_without_a_version(tmp_path: Path) -> None:
    for number, page in enumerate((PAGE, f"{PAGE} Amended.")):
        changed = report(id=f"r{number}", meta=None, presentedForm=[attachment(pdf(page), "application/pdf")])
        (tmp_path / f"{number}.json").write_bytes(as_bytes(around(changed)))
    store = FolderReportStore(tmp_path, tmp_path / "results", read_pdf=text_of_pdf)
    feed = FolderReportFeed(tmp_path, tmp_path / "results", read_pdf=text_of_pdf)

    shown = {ref for page in feed.look("") for ref in page.reports}

    assert shown == set(store.find(IDENTITY))
    assert {store.read(ref).text for ref in shown} == {PAGE, f"{PAGE} Amended."}
