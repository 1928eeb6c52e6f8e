"""500 reports a second parsed and matched on one core, and memory that does not grow with their number.

Time is this process's own (``process_time``), so that others on the machine do not count. ``TEST_REPORTS=100000`` runs
the whole number; otherwise the slope of a smaller one is carried on to it.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fhir_input import IDENTITY, around, as_bytes, attachment, report
from hl7_input import OBR, OBX, ORC, ZDS, field, oru
from unwatched import unwatched

from plugin.fhir.client import FhirClient
from plugin.fhir.reading import described, identity_of, report_of
from plugin.fhir.resource import parse, resources_of
from plugin.hl7v2.message import message_of
from plugin.hl7v2.reports import reports_in
from plugin.matching import match
from plugin.reports.feeds import FhirReportFeed

LEAST_PER_S = 500
FULL = 100_000
MANY = int(os.environ.get("TEST_REPORTS", "1500"))
pytestmark = pytest.mark.timeout(600 if MANY < 10_000 else 7200)

MOST_BLOCKS = 30_000
MOST_BYTES = 10_000_000
"""Over 100,000 reports: of three no object may be left, of each less than a hundred bytes."""

TEXT = (
    """INDICATION: Cough and fever for three days.
COMPARISON: Radiographs of last November.
FINDINGS: The heart is not enlarged. Small left pleural effusion, unchanged. No pneumothorax. There is a patchy
opacity in the right lower lobe, which may represent pneumonia. Mediastinal outline looks ordinary.
IMPRESSION: 1. Right lower lobe opacity, possibly pneumonia. 2. Small left pleural effusion.
"""
    * 2
)
HTML = f"<html><body>{''.join(f'<p>{line}</p>' for line in TEXT.splitlines())}</body></html>"


def documents() -> Iterator[bytes]:
    """Bundles of a report with its patient, order and study; each has an id of its own, every fourth is HTML."""
    forms = (attachment(HTML, "text/html"), *(attachment(TEXT) for _ in range(3)))
    made = [as_bytes(around(report(id="report-id", presentedForm=[form]))) for form in forms]
    for number, document in enumerate(itertools.cycle(made)):
        yield document.replace(b"report-id", b"report-%d" % number)


def messages() -> Iterator[bytes]:
    """Results of an order number of their own."""
    made = oru(ORC, field(OBR, 3, "NUMBER"), *OBX, *OBX, *OBX, ZDS)
    for number in itertools.count():
        yield made.replace(b"NUMBER", b"ACC-%d" % number)


def resident_bytes() -> int:
    with Path("/proc/self/statm").open() as counts:
        return int(counts.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def parsed_and_matched(document: bytes) -> None:
    """All that is done to a report before it becomes a job: it is described, matched, and read."""
    resources = resources_of(parse(document))
    (found,) = resources.of_type("DiagnosticReport")
    described(found, resources)
    assert match(identity_of(found, resources), IDENTITY).proven
    assert report_of(found, resources).text


def received(message: bytes) -> None:
    assert reports_in(message_of(message, otherwise="utf-8"), accession_fields=("OBR-3", "OBR-18"))


@pytest.mark.parametrize(("make", "work"), [(documents, parsed_and_matched), (messages, received)])
def test_five_hundred_reports_a_second_on_one_core(
    make: Callable[[], Iterator[bytes]], work: Callable[[bytes], None]
) -> None:
    content = list(itertools.islice(make(), 100))
    rates = []

    for _ in range(4):
        with unwatched():
            began = time.process_time()
            for each in content:
                work(each)
            rates.append(len(content) / (time.process_time() - began))

    assert max(rates) > LEAST_PER_S, rates


@pytest.mark.parametrize(("make", "work"), [(documents, parsed_and_matched), (messages, received)])
def test_memory_does_not_grow_with_the_number_of_reports(
    make: Callable[[], Iterator[bytes]], work: Callable[[bytes], None]
) -> None:
    content = make()

    def after(count: int) -> tuple[int, int]:
        """Blocks that the interpreter holds, and bytes that the process holds (VmRSS), after so many more."""
        for each in itertools.islice(content, count):
            work(each)
        gc.collect()
        return sys.getallocatedblocks(), resident_bytes()

    held = [after(300), *(after(MANY // 3) for _ in range(3))]  # first, caches of regular expressions and the like
    grown = [later[0] - before[0] for before, later in itertools.pairwise(held)]

    assert min(grown) * FULL / (MANY // 3) < MOST_BLOCKS  # a leak would show in each third
    if MANY == FULL:  # a page of memory more or less would count for too much in a smaller number
        assert held[-1][1] - held[0][1] < MOST_BYTES


def test_a_look_at_many_reports_holds_one_page_of_them() -> None:
    total = max(MANY, 5000)
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def answer(request: httpx.Request) -> httpx.Response:
        offset, count = int(request.url.params.get("offset", 0)), int(request.url.params["_count"])
        rows = [
            {
                "resourceType": "DiagnosticReport",
                "id": f"r{number}",
                "status": "final",
                "meta": {"versionId": "1", "lastUpdated": (begin + timedelta(seconds=number)).isoformat()},
                "conclusion": TEXT,
            }
            for number in range(offset, min(offset + count, total))
        ]
        following = f"https://fhir.example/fhir/DiagnosticReport?_count={count}&offset={offset + count}"
        link = [{"relation": "next", "url": following}] if offset + count < total else []
        entries = [{"resource": row} for row in rows]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entries, "link": link})

    with httpx.Client(transport=httpx.MockTransport(answer)) as pool:
        feed = FhirReportFeed(FhirClient("https://fhir.example/fhir", client=pool))
        shown, held = 0, []
        for page in feed.look(""):
            shown += len(page.reports)
            gc.collect(0 if len(held) % 10 else 2)
            held.append(sys.getallocatedblocks())

    assert shown == total
    assert (held[-1] - held[9]) * FULL / total < MOST_BLOCKS
