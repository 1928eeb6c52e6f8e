"""Mutated FHIR JSON: read, or refused by one of our errors, from a file and from a server alike."""

from __future__ import annotations

import json

import httpx
import pytest
from fhir_input import IDENTITY, as_bytes, attachment, bundle, imaging_study, order, patient, report
from fuzzing import Random, cases, flipped, fuzz, mutated_json

from plugin.errors import InputError, SightlineError
from plugin.fhir.client import FhirClient
from plugin.fhir.reading import reports_from
from plugin.matching import match
from plugin.reports.feeds import FhirReportFeed

HTML = "<div>FINDINGS: <b>Small</b> left pleural effusion.<table><tr><td>5 mm</td></tr></table></div>"
SEEDS = (
    bundle(),
    bundle(patient(), order(), imaging_study(), report(presentedForm=[attachment(HTML, "text/html")])),
    bundle(patient(), report(presentedForm=None, conclusion="Left effusion.", contained=[order(id="o")])),
    report(text={"status": "additional", "div": HTML}),
)


@pytest.mark.filterwarnings("error")
def test_a_mutated_bundle_is_read_or_refused() -> None:
    def case(random: Random) -> bool:
        content = as_bytes_anyway(mutated_json(random.choice(SEEDS), random))
        if random.random() < 0.3:
            content = flipped(content, random)
        try:
            found = reports_from(content)
            assert all(each.text.strip() for each in found)
            return all(match(each, IDENTITY) for each in found)
        except InputError:
            return False

    fuzz("FHIR bundles", cases(250), case)


@pytest.mark.filterwarnings("error")
def test_a_server_that_answers_mutated_resources_is_read_or_left() -> None:
    capability = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"mode": "server"}]}
    search = {**bundle(kind="searchset"), "total": 4, "link": [{"relation": "next", "url": "http://x/fhir/D?page=2"}]}

    def case(random: Random) -> bool:
        def answer(request: httpx.Request) -> httpx.Response:
            said = capability if request.url.path.endswith("metadata") else search
            changed = mutated_json(said, random) if random.random() < 0.8 else said
            status = random.choice((200, 200, 200, 200, 404, 410, 422, 500))
            return httpx.Response(status, content=as_bytes_anyway(changed))

        with httpx.Client(transport=httpx.MockTransport(answer)) as pool:
            server = FhirClient("http://fhir.example/fhir", client=pool, sleep=lambda _: None)
            found = False
            for _ in range(2):
                try:
                    for number, page in enumerate(FhirReportFeed(server).look("")):
                        found = found or bool(page.reports)
                        if number > 20:
                            break
                    server.read("Patient/p")
                    server.transaction("{}")
                except SightlineError:
                    continue
            return found

    fuzz("FHIR servers", cases(50), case)


def as_bytes_anyway(document: object) -> bytes:
    """JSON in UTF-8, or with escapes where that cannot be."""
    try:
        return as_bytes(document)
    except UnicodeEncodeError:
        return json.dumps(document).encode()
    except RecursionError:  # of the writer; the reader is to meet such depth all the same
        return b'{"resourceType": "Bundle", "entry": ' + b"[" * 3000 + b"]" * 3000 + b"}"
