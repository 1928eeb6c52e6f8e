"""How a radiologist's decision is taken over HTTP: about what was seen, once, by somebody who is named."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from evidence import STUDY, kept_of, make_evidence
from fastapi.testclient import TestClient
from memory import Site, image, report

from plugin.access.caller import Caller, Proof, Role
from plugin.errors import TransientError
from plugin.page.evidence import evidence_json
from plugin.ports import Job, JobState
from plugin.results import ResultFile, ResultFolder
from plugin.service import Services, create_app
from plugin.service.entrance import Access
from plugin.taking import Decisions

UID = STUDY.study_instance_uid
ROOT = f"/studies/{UID}/reports/report-1"
SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]
ME = {"who": "Dr. Ada  Beispiel"}


@dataclass
class Desk:
    """The service over kept evidence with a phrase of every fate."""

    site: Site
    services: Services
    http: TestClient

    def places(self) -> list[dict[str, Any]]:
        answer = self.http.get(f"{ROOT}/decisions")
        assert answer.status_code == 200
        return list(answer.json())

    def decide(self, place: dict[str, Any], ruling: str, *, tag: str | None = None, **said: Any) -> Any:
        body = {"sop_instance_uid": place["sop_instance_uid"], "ruling": ruling, **ME, **said}
        headers = {"If-Match": f'"{tag or place["tag"]}"'}
        return self.http.post(f"{ROOT}/phrases/{place['tracking_uid']}/decision", json=body, headers=headers)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    site = Site(tmp_path)
    results = ResultFolder(tmp_path / "results")
    evidence = make_evidence()
    results.write(STUDY, kept_of(evidence), (ResultFile("evidence.json", evidence_json(evidence).encode()),))
    unused: Any = None
    decisions = Decisions(site.decisions, site.queue, site.intake.join, site.queue.clock)
    site.archive.add(image(STUDY))
    site.reports.put(report("report-1", "2", study_instance_uids=(UID,)))
    services = Services(site.queue, results, (), site.intake, unused, unused, unused, decisions=decisions)
    with TestClient(create_app(services, work=False), base_url="http://127.0.0.1") as http:
        yield Desk(site, services, http)


def test_every_place_is_told_with_the_tag_to_decide_by(desk: Desk) -> None:
    places = desk.places()

    assert len(places) == 7
    assert len({place["tag"] for place in places}) == 7
    assert {(place["decision"], place["written"]) for place in places} == {(None, True)}


def test_a_decision_is_kept_and_a_job_writes_it_back(desk: Desk) -> None:
    place = desk.places()[0]

    answer = desk.decide(place, "rejected", reason="not there")

    assert answer.status_code == 202
    told = answer.json()
    assert answer.headers["ETag"] == f'"{told["tag"]}"' != f'"{place["tag"]}"'
    assert (told["decision"]["ruling"], told["decision"]["who"]["name"]) == ("rejected", "Dr. Ada Beispiel")
    assert (told["written"], told["job"]["state"]) == (False, "queued")
    job = desk.site.queue.get(told["job"]["job_id"])
    assert job is not None
    assert (job.study, job.report and job.report.report_id) == (STUDY, "report-1")
    assert desk.places()[0] == told


def test_the_same_request_again_changes_nothing_and_another_one_is_refused(desk: Desk) -> None:
    place = desk.places()[0]
    first = desk.decide(place, "redrawn", reason="too large", regions=[SQUARE])

    again = desk.decide(place, "redrawn", reason="too large", regions=[SQUARE])
    other = desk.decide(place, "accepted")

    assert again.json() == first.json()
    assert other.status_code == 412
    assert "changed since you looked" in other.json()["detail"]
    assert len(desk.places()[0]["history"]) == 1


def test_a_later_decision_goes_before_and_the_history_stays(desk: Desk) -> None:
    tag = desk.places()[0]["tag"]
    for ruling, said in (
        ("rejected", {"reason": "not there"}),
        ("accepted", {}),
        ("redrawn", {"reason": "wrong place", "regions": [SQUARE]}),
        ("taken-back", {}),
    ):
        answer = desk.decide(desk.places()[0], ruling, tag=tag, **said)
        assert answer.status_code == 202, answer.json()
        tag = answer.json()["tag"]

    (place, *_) = desk.places()
    assert place["decision"] is None
    assert [each["ruling"] for each in place["history"]] == ["rejected", "accepted", "redrawn", "taken-back"]


def test_the_last_decision_counts_also_when_another_machine_made_it_whose_clock_is_behind(desk: Desk) -> None:
    first = desk.decide(desk.places()[0], "rejected", reason="not there").json()
    desk.site.queue.clock.advance(-3600)  # type: ignore[attr-defined]
    second = desk.decide(first, "accepted")

    (place, *_) = desk.places()
    assert second.status_code == 202
    assert (place["decision"]["number"], place["decision"]["ruling"]) == (2, "accepted")
    assert [each["number"] for each in place["history"]] == [1, 2]
    assert place["tag"] == second.json()["tag"]


def test_decisions_that_come_before_the_job_begins_share_it(desk: Desk) -> None:
    first, second, third, *_ = desk.places()
    jobs = [desk.decide(place, "accepted").json()["job"]["job_id"] for place in (first, second)]

    assert jobs[0] == jobs[1]
    taken = desk.site.queue.take()
    assert taken is not None
    later = desk.decide(third, "accepted").json()["job"]["job_id"]
    assert later != jobs[0]


def test_two_people_go_through_the_phrases_of_one_report(desk: Desk) -> None:
    mine, yours = desk.places(), desk.places()

    assert desk.decide(mine[0], "accepted").status_code == 202
    assert desk.decide(yours[1], "rejected", reason="not there", who="Dr. B").status_code == 202
    assert desk.decide(yours[0], "rejected", reason="not there", who="Dr. B").status_code == 412


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ({"ruling": "rejected"}, 422, "Say why"),
        ({"ruling": "rejected", "reason": "\0\x1b"}, 422, "Say why"),
        ({"ruling": "accepted", "who": "\0"}, 422, "Say who decides"),
        ({"ruling": "accepted", "who": " "}, 422, "Say who decides"),
        ({"ruling": "perhaps"}, 422, ""),
        ({"ruling": "redrawn", "reason": "x", "regions": [SQUARE[:2]]}, 422, "3 to 500"),
        ({"ruling": "redrawn", "reason": "x", "regions": [[[0, 0], [1e9, 0], [0, 9]]]}, 422, "on the image"),
        ({"ruling": "redrawn", "reason": "x", "regions": [SQUARE] * 21}, 422, ""),
        ({"ruling": "rejected", "reason": "x" * 501}, 422, ""),
        ({"ruling": "accepted", "sop_instance_uid": "1.2.3"}, 404, "no such phrase"),
    ],
)
def test_what_cannot_be_decided_is_refused(desk: Desk, said: dict[str, Any], status: int, words: str) -> None:
    answer = desk.decide(desk.places()[0], **said)

    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert desk.site.decisions.without_job() == ()
    assert not desk.places()[0]["history"]


def test_nobody_decides_about_what_they_were_not_shown(desk: Desk) -> None:
    place = desk.places()[0]
    url = f"{ROOT}/phrases/{place['tracking_uid']}/decision"
    body = {"sop_instance_uid": place["sop_instance_uid"], "ruling": "accepted", **ME}

    assert desk.http.post(url, json=body).status_code == 428
    assert desk.http.post(url, json=body, headers={"If-Match": "*"}).status_code == 412
    assert desk.http.get(ROOT.replace("report-1", "other") + "/decisions").status_code == 404
    desk.services.results.withdraw(STUDY, "report-1")  # type: ignore[attr-defined]
    assert desk.http.post(url, json=body, headers={"If-Match": place["tag"]}).status_code == 410


def test_whoever_signed_in_decides_whatever_name_is_sent(desk: Desk) -> None:
    ada = Caller("issuer ada", frozenset({Role.RADIOLOGIST}), Proof.TOKEN, user="Practitioner/ada")
    app = create_app(desk.services, work=False, access=Access(lambda _: ada))
    with TestClient(app, base_url="http://127.0.0.1") as http:
        told = Desk(desk.site, desk.services, http).decide(desk.places()[0], "accepted", who="Somebody else").json()

    assert told["decision"]["who"] == {"name": "Practitioner/ada", "identifier": "issuer ada"}


def test_a_report_that_nobody_took_yet_is_joined_first_so_that_no_job_takes_it_back(desk: Desk) -> None:
    assert not desk.site.intake.is_joined(STUDY, "report-1")

    assert desk.decide(desk.places()[0], "accepted").status_code == 202

    assert desk.site.intake.is_joined(STUDY, "report-1")


def test_a_decision_about_a_report_that_is_joined_to_nothing_is_kept_and_waits(desk: Desk) -> None:
    desk.site.reports.put(report("report-1", "3"))

    answer = desk.decide(desk.places()[0], "accepted")

    assert answer.status_code == 503
    assert "kept, and written back when the report is joined" in answer.json()["detail"]
    assert len(desk.site.decisions.without_job()) == 1
    assert desk.site.queue.list() == ()


def test_a_decision_whose_process_died_is_written_back_after_the_next_start(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> Job:
        raise TransientError("The job queue cannot be used now.")

    with monkeypatch.context() as broken:
        broken.setattr(type(desk.site.queue), "put", away)
        assert desk.decide(desk.places()[0], "accepted").status_code == 503
        with caplog.at_level(logging.WARNING), TestClient(create_app(desk.services, work=False)):
            assert "wait for the next start" in caplog.text
    with TestClient(create_app(desk.services, work=False)):
        (place, *_) = desk.places()

    assert (place["decision"]["ruling"], place["job"]["state"]) == ("accepted", JobState.QUEUED)
    assert desk.site.decisions.without_job() == ()
