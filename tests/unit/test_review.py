"""The list of reports that need a person: what it shows, and how a person's word is taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lxml import html
from memory import Site, image, report

from plugin.access.caller import Caller, Proof, Role
from plugin.errors import TransientError
from plugin.ports import Outcome
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.entrance import Access
from plugin.values import Accession, PatientRef, ReportRef, StudyRef

A, B = StudyRef("1.2.1"), StudyRef("1.2.2")
MRN = "MRN-SECRET"
PAGE = {"accept": "text/html"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Report "q" may be about either of two studies of its order; "w" waits, "p" cannot be used."""
    site = Site(tmp_path / "data")
    patient = PatientRef(MRN, "HOSP")
    site.archive.add(image(A, patient=patient), image(B, patient=patient, body_part="THORAX", accession_number="A1"))
    order = {"accessions": (Accession("A1"),), "patient": patient}
    issued = datetime(2026, 3, 1, tzinfo=UTC)
    for ref in (
        site.reports.put(report("q", issued=issued, **order)),
        site.reports.put(report("w", study_instance_uids=("1.9",))),
        site.reports.put(report("p", unusable="the report is a <PDF>")),
    ):
        site.intake.take_report(ref)
    return site


def services_of(site: Site) -> Services:
    return Services(
        queue=site.queue,
        results=ResultFolder(site.folder / "results"),
        work=lambda _: nullcontext(()),
        intake=site.intake,
        grounder=None,  # type: ignore[arg-type] - not asked
        read_report=None,  # type: ignore[arg-type]
        read_dicom=None,  # type: ignore[arg-type]
    )


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with TestClient(create_app(services_of(site), work=False), base_url="http://127.0.0.1") as client:
        yield client


def word(*studies: StudyRef, revision: int = 0, **changes: Any) -> dict[str, Any]:
    uids = [study.study_instance_uid for study in studies]
    return {"studies": uids, "who": "Dr. A", "reason": "seen both", "revision": revision, **changes}


def fields(client: TestClient, address: str) -> dict[str, str]:
    """The hidden fields of the page's form."""
    page = html.document_fromstring(client.get(address, headers=PAGE).text)
    return {each.get("name"): each.get("value") for each in page.xpath("//form[1]//input[@type='hidden']")}


class TestForPrograms:
    def test_the_lists_tell_reports_reasons_and_counts(self, client: TestClient) -> None:
        body = client.get("/review").json()

        assert [(each["report_id"], each["outcome"]) for each in body["reports"]] == [
            ("q", "review"),
            ("w", "waiting"),
            ("p", "refused"),
        ]
        assert (body["counts"]["review"], body["counts"]["waiting"], body["counts"]["expired"]) == (1, 1, 0)
        assert sorted(body["reports"][0]["candidates"]) == ["1.2.1", "1.2.2"]

    def test_a_word_is_taken_and_its_jobs_are_queued(self, client: TestClient, site: Site) -> None:
        answer = client.post("/review/q", json=word(B))

        body = answer.json()
        assert (answer.status_code, body["outcome"]) == (200, "queued")
        assert (body["decision"]["who"], body["decision"]["studies"]) == ("Dr. A", ["1.2.2"])
        assert [(job.study, job.report) for job in site.queue.list()] == [(B, ReportRef("q", "1"))]

    def test_the_same_word_twice_is_one_and_another_is_refused(self, client: TestClient) -> None:
        first = client.post("/review/q", json=word(B))

        assert client.post("/review/q", json=word(B)).json() == first.json()
        assert client.post("/review/q", json=word(A)).status_code == 409

    def test_a_word_is_changed_with_its_revision_and_the_earlier_one_is_told(self, client: TestClient) -> None:
        first = client.post("/review/q", json=word(B)).json()

        changed = client.post("/review/q", json=word(A, revision=first["revision"], who="Dr. B"))

        assert changed.status_code == 200
        assert [each["who"] for each in changed.json()["decision"]["before"]] == ["Dr. A"]
        (decided,) = client.get("/review").json()["decided"]
        assert (decided["report_id"], decided["decision"]["studies"]) == ("q", ["1.2.1"])
        assert sorted(decided["candidates"]) == ["1.2.1", "1.2.2"]

    def test_whoever_signed_in_decides_whatever_name_is_sent(self, client: TestClient, site: Site) -> None:
        ada = Caller("issuer ada", frozenset({Role.RADIOLOGIST}), Proof.TOKEN, user="Practitioner/ada")
        app = create_app(services_of(site), work=False, access=Access(lambda _: ada))
        with TestClient(app, base_url="http://127.0.0.1") as signed_in:
            told = signed_in.post("/review/q", json=word(B, who="Somebody else")).json()
            page = signed_in.get("/review/q", headers=PAGE).text

        assert told["decision"]["who"] == "Practitioner/ada"
        assert 'name="who"' not in page

    def test_a_word_about_what_changed_is_refused(self, client: TestClient, site: Site) -> None:
        site.archive.add(image(StudyRef("1.2.3"), patient=PatientRef(MRN, "HOSP")))
        site.intake.take_again("q")

        answer = client.post("/review/q", json=word(B))

        assert answer.status_code == 409
        assert "open the list again" in answer.json()["detail"]

    def test_none_of_them(self, client: TestClient, site: Site) -> None:
        assert client.post("/review/q", json=word()).json()["outcome"] == "ignored"
        assert site.queue.list() == ()

    @pytest.mark.parametrize(
        "body",
        [
            word(StudyRef("1.9")),
            word(B, who=" "),
            word(B, reason=""),
            word(B, revision="x"),
            word(B, extra=1),
            {"studies": [MRN], "who": "a", "reason": "b", "revision": 0},
            [],
        ],
    )
    def test_what_is_no_word_is_refused_without_being_repeated(self, client: TestClient, body: Any) -> None:
        answer = client.post("/review/q", json=body)

        assert answer.status_code == 422
        assert MRN not in answer.text

    def test_an_unknown_report_is_not_found(self, client: TestClient) -> None:
        assert client.get("/review/unknown").status_code == 404
        assert client.post("/review/unknown", json=word()).status_code == 404
        assert client.post("/review/unknown/check", json={}).status_code == 404

    def test_checking_again_takes_the_report(self, client: TestClient, site: Site) -> None:
        site.archive.add(image(StudyRef("1.9")))

        assert client.post("/review/w/check", json={}).json()["outcome"] == "queued"

    def test_checking_again_says_when_a_server_is_away(self, client: TestClient, site: Site) -> None:
        site.archive.failure = TransientError("The archive does not answer.")

        assert client.post("/review/w/check", json={}).status_code == 503

    def test_a_report_may_be_called_anything(self, client: TestClient, site: Site) -> None:
        site.intake.take_report(site.reports.put(report("urn:uuid:a b?", unusable="no text")))

        assert client.get("/review/urn%3Auuid%3Aa%20b%3F").json()["outcome"] == "refused"


class TestForPeople:
    def test_the_list_is_a_page(self, client: TestClient) -> None:
        answer = client.get("/review", headers=PAGE)

        page = html.document_fromstring(answer.text)
        assert [each.text_content() for each in page.xpath("//h2")] == [
            "To decide (1)",
            "Waiting (1)",
            "Waited in vain (0)",
            "Refused (1)",
        ]
        assert "the report is a <PDF>" in page.text_content()
        assert page.xpath("//a[text()='Compare and decide']/@href") == ["/review/q"]
        assert MRN not in answer.text

    def test_the_home_page_links_it_with_counts(self, client: TestClient) -> None:
        page = html.document_fromstring(client.get("/").text)

        (link,) = page.xpath("//a[@href='/review']/..")
        assert "1 to decide, 1 waiting, 0 waited in vain, 1 refused" in link.text_content()

    def test_report_and_candidates_stand_side_by_side(self, client: TestClient) -> None:
        page = html.document_fromstring(client.get("/review/q", headers=PAGE).text)

        rows = {
            row.xpath("string(th)"): [c.text_content() for c in row.xpath("td")] for row in page.xpath("//tbody/tr")
        }
        assert sorted(rows["Study Instance UID"]) == ["", "1.2.1", "1.2.2"]
        assert rows["Accession number"] == ["A1", "A1", "A1"]
        assert rows["Patient"] == [f"{MRN} HOSP"] * 3
        assert rows["Date"] == ["2026-03-01"] * 3
        assert sorted(rows["Body part"]) == ["", "CHEST", "THORAX"]
        assert rows["Modality"] == ["", "DX", "DX"]

    def test_a_choice_is_sent_by_the_form_alone(self, client: TestClient, site: Site) -> None:
        form = fields(client, "/review/q") | {"study": "1.2.2", "who": "Dr. A", "reason": "seen both"}

        answer = client.post("/review/q", data=form, follow_redirects=False)

        assert (answer.status_code, answer.headers["location"]) == (303, "/review")
        assert [job.study for job in site.queue.list()] == [B]

    def test_what_was_decided_is_listed_and_can_be_changed_on_its_page(self, client: TestClient, site: Site) -> None:
        client.post("/review/q", json=word(B))

        listed = html.document_fromstring(client.get("/review", headers=PAGE).text)
        assert listed.xpath("//a[text()='Look again, or change']/@href") == ["/review/q"]
        page = html.document_fromstring(client.get("/review/q", headers=PAGE).text)
        assert page.xpath("//input[@checked]/@value") == ["1.2.2"]
        form = fields(client, "/review/q") | {"none": "yes", "who": "Dr. B", "reason": "neither"}
        assert client.post("/review/q", data=form, follow_redirects=False).status_code == 303

        again = client.get("/review/q", headers=PAGE).text
        assert "Decided before by Dr. A" in again
        assert "Decided by Dr. B" in again

    def test_none_of_them_is_a_button(self, client: TestClient, site: Site) -> None:
        form = fields(client, "/review/q") | {"none": "yes", "who": "Dr. A", "reason": "seen both"}

        assert client.post("/review/q", data=form, follow_redirects=False).status_code == 303
        assert site.intake.book.listed(Outcome.REVIEW) == ()

    @pytest.mark.parametrize(
        ("missing", "says"), [("study", "Choose a study"), ("who", "Say who"), ("reason", "Say reason")]
    )
    def test_what_is_missing_is_said_on_the_page(self, client: TestClient, missing: str, says: str) -> None:
        form = fields(client, "/review/q") | {"study": "1.2.2", "who": "Dr. A", "reason": "seen both"}
        del form[missing]

        answer = client.post("/review/q", data=form)

        assert answer.status_code == 422
        assert says in html.document_fromstring(answer.text).xpath("string(//*[@role='alert'])")

    def test_who_is_late_is_told_on_the_page(self, client: TestClient) -> None:
        form = fields(client, "/review/q") | {"study": "1.2.2", "who": "Dr. A", "reason": "seen both"}
        client.post("/review/q", json=word(A, who="Dr. B"))

        answer = client.post("/review/q", data=form)

        assert answer.status_code == 409
        assert "was decided" in answer.text
        assert "Decided by Dr. B" in answer.text

    @pytest.mark.parametrize("token", ["", "0" * 64, "é"])
    @pytest.mark.parametrize("address", ["/review/q", "/review/w/check"])
    def test_a_form_of_another_site_is_refused(self, client: TestClient, site: Site, token: str, address: str) -> None:
        form = {"study": "1.2.2", "who": "x", "reason": "y", "revision": "0", "token": token}

        assert client.post(address, data=form).status_code == 403
        assert site.queue.list() == ()

    def test_json_in_disguise_is_refused(self, client: TestClient) -> None:
        answer = client.post("/review/q", content=b"{}", headers={"content-type": "text/plain"})

        assert answer.status_code == 415

    def test_check_again_is_a_button(self, client: TestClient, site: Site) -> None:
        site.archive.add(image(StudyRef("1.9")))
        page = html.document_fromstring(client.get("/review", headers=PAGE).text)
        (form,) = page.xpath("//form[@action='/review/w/check']")
        assert form.xpath("string(.//button/@aria-label)") == "Check report w again"

        answer = client.post("/review/w/check", data=dict(form.form_values()), follow_redirects=False)

        assert answer.status_code == 303
        assert [job.study for job in site.queue.list()] == [StudyRef("1.9")]

    def test_a_server_that_is_away_is_told_on_the_page(self, client: TestClient, site: Site) -> None:
        site.archive.failure = TransientError("The archive does not answer.")

        answer = client.get("/review/q", headers=PAGE)

        assert answer.status_code == 200
        assert "The archive does not answer." in answer.text

    @pytest.mark.parametrize("address", ["/review", "/review/q"])
    def test_the_pages_run_nothing_load_nothing_and_send_only_here(self, client: TestClient, address: str) -> None:
        answer = client.get(address, headers=PAGE)

        page = html.document_fromstring(answer.text)
        policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
        assert "default-src 'none'" in policy
        assert "form-action 'self'" in policy
        assert "unsafe" not in policy
        assert not page.xpath("//script|//@onclick|//@style|//img|//iframe|//link[not(@href='data:,')]")
        assert answer.headers["cache-control"] == "no-store"

    def test_everything_that_is_asked_has_a_label_and_tables_have_headings(self, client: TestClient) -> None:
        page = html.document_fromstring(client.get("/review/q", headers=PAGE).text)

        assert all(each.xpath("ancestor::label") for each in page.xpath("//input[not(@type='hidden')]"))
        assert len(page.xpath("//th[@scope='col']")) == 3
        assert all(row.xpath("th[@scope='row']") for row in page.xpath("//tbody/tr"))

    def test_nothing_of_it_is_logged(self, client: TestClient, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        client.get("/review/q", headers=PAGE)
        client.post("/review/q", json=word(B))

        assert MRN not in caplog.text
