"""Names that lead out of folders, XML that reads files, and markup that runs: each attack by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import STUDY, chest, part10
from evidence import kept_of, make_evidence
from traps import run_trap

from plugin.archive import folder_archive, web_archive
from plugin.endpoint import Endpoint
from plugin.errors import InputError
from plugin.hl7v2.inbox import Inbox
from plugin.hl7v2.message import message_of
from plugin.hl7v2.reports import ACCESSION_FIELDS, reports_in
from plugin.identity import derived_uid
from plugin.page.evidence import evidence_page
from plugin.results import ResultFile, ResultFolder
from plugin.values import ReportRef, StudyRef

TRAVERSALS = (
    "../../outside",
    "/etc/cron.d/x",
    "..",
    "a/../../../outside",
    "..\\..\\outside",
    "x\0y",
    "\r\nX: 1",
    "." * 300,
)


def files_below(folder: Path) -> set[Path]:
    return {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", TRAVERSALS)
def test_attack_a_report_id_that_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    evidence = make_evidence()
    evidence = replace(evidence, report=replace(evidence.report, ref=ReportRef(name, "1")))
    results = ResultFolder(tmp_path / "data" / "results")

    results.write(evidence.study, kept_of(evidence), (ResultFile("evidence.json", b"{}"),))

    assert results.read(evidence.study, "evidence.json", name) == b"{}"
    assert files_below(tmp_path)
    assert all(file.parts[:2] == ("data", "results") for file in files_below(tmp_path))


@pytest.mark.parametrize("uid", ["../../outside", "..", "1.2/../../outside", "1.2\0", "1.2\n", "/etc"])
def test_attack_a_study_uid_that_leads_out_of_the_folder(uid: str) -> None:
    with pytest.raises(ValueError, match="UID"):
        StudyRef(uid)


@pytest.mark.parametrize("name", TRAVERSALS)
def test_attack_an_instance_uid_that_leads_out_of_the_archive(tmp_path: Path, name: str) -> None:
    archive = folder_archive((), store_in=tmp_path / "archive")
    uid = derived_uid("test", "instance", "a").encode()
    content = part10(chest()).replace(uid, name.encode()[: len(uid)].ljust(len(uid)))

    with pytest.raises(InputError, match="cannot be referenced"):
        archive.store(StudyRef(STUDY), (content,))

    assert not files_below(tmp_path)


def test_attack_an_hl7_order_number_that_leads_out_of_the_inbox(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from hl7_input import MSH, OBR, OBX, ORC, field, oru

    inbox = Inbox(tmp_path / "reports" / "hl7")
    for name in ("../../outside", "..\\outside", "/etc/x"):
        content = oru(field(ORC, 3, name), field(OBR, 3, name), *OBX, msh=field(MSH, 4, name))
        for report in reports_in(message_of(content, otherwise="utf-8"), accession_fields=tuple(ACCESSION_FIELDS[:1])):
            inbox.keep(report, now=datetime(2026, 1, 1, tzinfo=UTC))

    assert files_below(tmp_path)
    assert all(file.parts[:2] == ("reports", "hl7") for file in files_below(tmp_path))


@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "{elsewhere}/x.dtd">',
        "<!DOCTYPE x ["
        + '<!ENTITY a0 "ha">'
        + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
        + "]>",
    ],
    ids=["a file", "another server", "a billion laughs"],
)
def test_attack_xml_with_entities_from_an_archive(declared: str) -> None:
    with run_trap() as elsewhere, run_trap() as server:
        body = f'<?xml version="1.0"?>{declared.format(elsewhere=elsewhere.base) if "{" in declared else declared}'
        body += "<NativeDicomModel>&e;&a9;</NativeDicomModel>"
        server.answers = lambda _: (200, {"Content-Type": "application/dicom+xml"}, body.encode())

        with pytest.raises(InputError, match="document type"):
            web_archive(Endpoint(server.base, timeout_s=5)).store(StudyRef(STUDY), (part10(chest()),))

        assert not elsewhere.visits


def test_attack_markup_in_a_report_is_shown_and_not_run() -> None:
    evidence = make_evidence()
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)></textarea>{{7*7}}"
    text = evidence.report.text + hostile

    page = evidence_page(replace(evidence, report=replace(evidence.report, text=text)))

    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
    assert "{{7*7}}" in page or "{{7*7}}" in json.loads(json.dumps(page))
