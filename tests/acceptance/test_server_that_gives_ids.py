"""What Sightline writes to a server without update-as-create: once each, by whatever many workers, resolving.

The engine behind the fault-injecting proxy of tests/faults.py, which refuses a PUT to a new id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faults as ways
import httpx
import pytest
from evidence import make_evidence
from faults import Faults, references, run_faults, together
from report_store_contract import ReportStoreContract
from servers import ROOT, run_fhir_server

from plugin.errors import ConformanceError, TransientError
from plugin.fhir.client import FhirClient
from plugin.fhir.naming import identity
from plugin.fhir.own import OwnResources
from plugin.fhir.resource import Element
from plugin.fhir.writing import bundle_of
from plugin.identity import derived_id
from plugin.locking import locked
from plugin.reports.rest import FhirReportStore

pytestmark = pytest.mark.acceptance

Json = dict[str, Any]


class Site:
    """The server, what is written through the proxy, and a look at the engine behind it."""

    def __init__(self, engine: str, faults: Faults, http: httpx.Client, lock: Path) -> None:
        self.engine = engine
        self.faults = faults
        self.http = http
        self.lock = lock
        self.server = self.client()
        self.store = FhirReportStore(self.server, alone=partial(locked, lock))

    def client(self) -> FhirClient:
        """One that knows nothing of this server yet."""
        return FhirClient(self.faults.base, client=self.http, sleep=lambda _: None)

    def put(self, *resources: Json) -> None:
        for resource in resources:
            url = f"{self.engine}/{resource['resourceType']}/{resource['id']}"
            self.http.put(url, json=resource).raise_for_status()

    def all(self, name: str) -> list[Json]:
        """Every resource on the engine that is ours by that name."""
        found = self.http.get(f"{self.engine}/{name.partition('/')[0]}", params=identity(name)).json()
        return [row["resource"] for row in found.get("entry", ())]

    def written(self, kind: str, name: str) -> Json:
        """As it was written."""
        found = OwnResources(self.client()).read(f"{kind}/{name}")
        assert found is not None
        return {field: value for field, value in found.json.items() if field != "meta"}

    def everything(self, bundle: str) -> list[list[Json]]:
        return [self.all(entry["request"]["url"]) for entry in json.loads(bundle)["entry"]]


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """An engine of its own: elsewhere the same resources stand under the ids that we derive."""
    with run_fhir_server("fhir-server-that-gives-ids") as base_url:
        yield base_url


@pytest.fixture
def plain(engine: str, tmp_path: Path) -> Iterator[Site]:
    with run_faults(engine) as faults, httpx.Client(limits=httpx.Limits(max_connections=64)) as http:
        yield Site(engine, faults, http, tmp_path / "lock")


@pytest.fixture(params=[(405, False), (404, True)], ids=["refuses", "tells"])
def site(plain: Site, request: pytest.FixtureRequest) -> Site:
    status, told_so = request.param
    plain.faults.always(ways.NoUpdateAsCreate(status, told_so=told_so))
    return plain


class TestServerThatGivesIds(ReportStoreContract):
    """The report store's promises hold there as anywhere."""


def bundle(tag: str, **evidence: Any) -> str:
    """A bundle of its own for each test: the engine outlives them."""
    made = make_evidence(**evidence)
    document = json.loads(bundle_of(made, page_url=f"{tag}.html", instances=()))
    renamed = json.dumps(document)
    for entry in document["entry"]:
        old = entry["resource"]["id"]
        renamed = renamed.replace(old, derived_id(tag, old))
    return renamed


def small(tag: str) -> str:
    """Two resources, of which one refers to the other."""
    device = {"resourceType": "Device", "id": derived_id(tag, "device")}
    maker = {"reference": f"Device/{device['id']}"}
    observation = {"resourceType": "Observation", "id": derived_id(tag, "observation"), "device": maker}
    both = (device, observation | {"status": "preliminary", "code": {"text": "Finding"}})
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}} for each in both
    ]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def names(text: str) -> list[str]:
    return [entry["request"]["url"] for entry in json.loads(text)["entry"]]


@pytest.mark.parametrize("status", [400, 404, 405, 422])
def test_each_resource_is_there_once_and_its_references_resolve(plain: Site, status: int) -> None:
    plain.faults.always(ways.NoUpdateAsCreate(status))
    text = bundle(f"once {status}")

    for _ in range(2):
        plain.store.write(text)

    for name in names(text):
        (there,) = plain.all(name)
        assert there["id"] != name.partition("/")[2]
        for reference in references(there):
            if reference.partition("/")[0] in {"Device", "Observation", "DocumentReference"}:
                assert plain.http.get(f"{plain.engine}/{reference}").status_code == 200


def test_a_change_goes_to_the_resource_that_is_there(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    first = bundle("change")
    plain.store.write(first)
    before = [each[0]["id"] for each in plain.everything(first)]
    second = first.replace("change.html", "other.html")

    plain.store.write(second)

    assert [each[0]["id"] for each in plain.everything(second)] == before
    (document,) = (name for name in names(second) if name.startswith("DocumentReference/"))
    (there,) = plain.all(document)
    assert there["content"][0]["attachment"]["url"] == "other.html"


def test_what_another_writer_changed_meanwhile_is_not_written_over(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    text = small("meanwhile")
    plain.store.write(text)
    (name,) = (each for each in names(text) if each.startswith("Observation/"))
    (read,) = plain.store.written((name,))
    (there,) = plain.all(name)
    plain.http.put(f"{plain.engine}/Observation/{there['id']}", json=there | {"status": "final"}).raise_for_status()
    wanted = json.loads(text.replace("Finding", "Other"))
    wanted["entry"][1]["request"]["ifMatch"] = f'W/"{read["meta"]["versionId"]}"'

    with pytest.raises(TransientError, match="another writer"):
        plain.store.write(json.dumps(wanted))

    (after,) = plain.store.written((name,))
    wanted["entry"][1]["request"]["ifMatch"] = f'W/"{after["meta"]["versionId"]}"'
    plain.store.write(json.dumps(wanted))
    assert (after["status"], plain.all(name)[0]["code"]) == ("final", {"text": "Other"})


def test_what_stands_under_our_own_id_from_before_is_changed_there(plain: Site) -> None:
    text = small("before")
    plain.store.write(text)
    plain.faults.always(ways.NoUpdateAsCreate(told_so=True))
    later = json.loads(text.replace("Finding", "Other"))
    extra = {"resourceType": "Observation", "id": derived_id("before", "new"), "status": "final", "code": {"text": "x"}}
    extra["device"] = {"reference": names(text)[0]}
    request = {"method": "PUT", "url": f"Observation/{extra['id']}"}
    later["entry"].append({"resource": extra, "request": request})

    FhirReportStore(plain.client()).write(json.dumps(later))

    there = plain.http.get(f"{plain.engine}/{names(text)[1]}").json()
    (made,) = plain.all(f"Observation/{extra['id']}")
    assert there["code"] == {"text": "Other"}
    assert made["device"]["reference"] == names(text)[0]


def test_a_transaction_too_large_for_conditional_creates_goes_one_by_one(plain: Site) -> None:
    """This engine takes eight entries at most where one is conditional; Device comes before what refers to it."""
    plain.faults.always(ways.NoUpdateAsCreate())
    observations = [
        {
            "resourceType": "Observation",
            "id": derived_id("many", str(number)),
            "status": "preliminary",
            "code": {"text": "Finding"},
            "device": {"reference": f"Device/{derived_id('many', 'device')}"},
        }
        for number in range(12)
    ]
    device = {"resourceType": "Device", "id": derived_id("many", "device")}
    written = [Element(each) for each in (*observations, device)]
    OwnResources(plain.server).write(written)

    (made,) = plain.all(f"Device/{device['id']}")
    for each in observations:
        (there,) = plain.all(f"Observation/{each['id']}")
        assert there["device"]["reference"] == f"Device/{made['id']}"


def test_content_that_is_refused_is_our_defect_and_not_taken_for_a_question_of_ids(plain: Site) -> None:
    plain.faults.always(ways.refused(422, code="invalid"), when=ways.transactions)
    text = bundle("refused")

    with pytest.raises(ConformanceError, match="422"):
        plain.store.write(text)
    assert not any(asked.method == "POST" and asked.path for asked in plain.faults.asked)


# Many writers


def test_eight_workers_under_our_lock_make_one_resource_where_conditional_creates_race(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    plain.faults.always(ways.RacyCreates(wait_s=0.1))
    text = small("eight threads")
    stores = [FhirReportStore(plain.client(), alone=partial(locked, plain.lock)) for _ in range(8)]

    together(8, lambda number: stores[number].write(text))

    assert [len(each) for each in plain.everything(text)] == [1] * len(names(text))


_WRITE = """
import sys
from functools import partial
from pathlib import Path
from plugin.fhir.client import FhirClient
from plugin.locking import locked
from plugin.reports.rest import FhirReportStore
base, lock, text = sys.argv[1:]
FhirReportStore(FhirClient(base), alone=partial(locked, Path(lock))).write(Path(text).read_text())
"""


def test_processes_share_the_lock(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    plain.faults.always(ways.RacyCreates(parties=3, wait_s=0.3))
    text = small("three processes")
    file = plain.lock.with_name("bundle.json")
    file.write_text(text)
    command = [sys.executable, "-c", _WRITE, plain.faults.base, str(plain.lock), str(file)]
    workers = [subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(3)]

    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert [len(each) for each in plain.everything(text)] == [1] * len(names(text))


def test_without_the_lock_they_make_duplicates_which_the_next_write_sweeps(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    plain.faults.always(ways.RacyCreates(parties=4, wait_s=2))
    device = Element({"resourceType": "Device", "id": derived_id("no lock", "device")})
    name = f"Device/{device.id}"
    bodies = {
        "resourceType": "Device",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{device.id}"}],
    }
    headers = {"If-None-Exist": str(httpx.QueryParams(identity(name)))}

    together(4, lambda _: plain.http.post(f"{plain.faults.base}/Device", json=bodies, headers=headers))
    assert len(plain.all(name)) == 4

    lowest = min(each["id"] for each in plain.all(name))
    OwnResources(plain.client()).write([Element(dict(device.json) | {"modelNumber": "2"})])

    (there,) = plain.all(name)
    assert (there["id"], there["modelNumber"]) == (lowest, "2")


def test_a_duplicate_that_the_server_does_not_delete_says_that_it_is_in_error(plain: Site) -> None:
    name = f"Observation/{derived_id('undeletable', 'observation')}"
    mark = {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{name.partition('/')[2]}"}
    body = {"resourceType": "Observation", "status": "preliminary", "code": {"text": "x"}, "identifier": [mark]}
    made = [plain.http.post(f"{plain.engine}/Observation", json=body).json()["id"] for _ in range(3)]
    plain.faults.always(ways.NoUpdateAsCreate())
    plain.faults.always(ways.refused(405), when=lambda asked: asked.method == "DELETE")

    OwnResources(plain.server).write([Element(body | {"id": name.partition("/")[2], "status": "final"})])

    kept, *others = sorted(made)
    assert [each["id"] for each in plain.all(name)] == [kept]
    for other in others:
        assert plain.http.get(f"{plain.engine}/Observation/{other}").json()["status"] == "entered-in-error"


def test_a_transaction_that_was_applied_and_answered_500_is_not_made_twice(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    text = small("applied")
    plain.faults.next(
        ways.reset_after(), when=lambda asked: asked.method == "POST" and "ifNoneExist" in str(asked.body)
    )

    plain.store.write(text)

    assert [len(each) for each in plain.everything(text)] == [1] * len(names(text))


def test_what_was_made_in_part_is_completed_by_the_next_try(plain: Site) -> None:
    plain.faults.always(ways.NoUpdateAsCreate())
    text = small("in part")
    plain.faults.next(*[ways.in_part(1)] * 4, when=ways.transactions)

    with pytest.raises(TransientError):
        plain.store.write(text)
    plain.store.write(text)

    assert [len(each) for each in plain.everything(text)] == [1] * len(names(text))
