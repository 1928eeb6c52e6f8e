"""A radiologist's decision in archive, FHIR server and results; through reruns, other models and amendments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import matrix
import numpy as np
import pytest
from books import decisions_at
from evidence import (
    CARD,
    CREATED,
    REPORT_TEXT,
    STUDY,
    decision,
    make_evidence,
    make_header,
    make_radiograph,
    phrases_of_every_fate,
)
from fastapi.testclient import TestClient
from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage
from queues import MemoryQueue

from model.data.opening import open_dataset
from model.geometry import Orientation
from model.values import Grounding, ModelCard, Query, Question, Region, State, Suitability, View
from nlp.phrases import Reading
from plugin.access.caller import Caller, Proof, Role
from plugin.archive import folder_archive
from plugin.attempt import GroundingWork
from plugin.decisions import Outline, Word
from plugin.deidentify.decisions import WithoutIdentity
from plugin.deidentify.pseudonyms import Pseudonyms
from plugin.dicom.result import read_segmentation
from plugin.durable import Database, DatabaseDecisionBook, DatabaseReportBook, DurableQueue
from plugin.exporting import export, line_of
from plugin.fhir.capability import Release
from plugin.flow import Edges, Tools, process
from plugin.intake import Intake
from plugin.page.document import EvidenceDocument, PhrasePart, evidence_document, read_evidence
from plugin.policy import Policy
from plugin.ports import Job, JobState, StudyIdentity
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.entrance import Access
from plugin.taking import Decisions, Place
from plugin.values import Person, Report, ReportDescription, ReportRef, ReportStatus, Ruling
from plugin.versions import standing

ADA = Person("Dr. Ada Beispiel")
TRIANGLE: Outline = ((20.0, 20.0), (60.0, 20.0), (40.0, 70.0))
EFFUSION, OPACITY, NODULES = (phrase for phrase, *_ in phrases_of_every_fate()[1:4])


class OneReport:
    """A report store with one report, and what is written about it."""

    release = Release.R4

    def __init__(self) -> None:
        self.version, self.text = 1, REPORT_TEXT
        self.resources: dict[str, dict[str, Any]] = {}

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        return (ReportRef("report-1", str(self.version)),)

    def describe(self, report_id: str) -> ReportDescription | None:
        uids = (STUDY.study_instance_uid,)
        return ReportDescription(ReportRef(report_id, str(self.version)), ReportStatus.FINAL, study_instance_uids=uids)

    def read(self, report: ReportRef) -> Report:
        uid = STUDY.study_instance_uid
        return Report(report, ReportStatus.FINAL, self.text, "test", study_instance_uids=(uid,))

    def written(self, names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
        return tuple(self.resources[name] for name in names if name in self.resources)

    def write(self, bundle: str) -> None:
        self.resources |= {each["request"]["url"]: each["resource"] for each in json.loads(bundle)["entry"]}


def read(text: str) -> Reading:
    """The three lit phrases that the text still holds."""
    found = (phrase for phrase in (EFFUSION, OPACITY, NODULES) if phrase.text in text)
    return Reading(tuple(replace(each, start=(at := text.index(each.text)), end=at + len(each.text)) for each in found))


@dataclass
class Squares:
    """A grounder that finds everything asked in one square, whose corner is its own."""

    corner: float = 10.0

    @property
    def card(self) -> ModelCard:
        return replace(CARD, version=f"{self.corner}")

    def ground(self, pixels: np.ndarray, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        left, right = self.corner, self.corner + 40
        square = Region(((left, left), (right, left), (right, right), (left, right)), 0.9)
        return tuple(Grounding(query, State.FOUND, 0.9, regions=(square,)) for query in queries)

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        return tuple(self.ground(each.pixels, each.orientation, each.queries) for each in questions)

    def suitability(self, pixels: np.ndarray, orientation: Orientation) -> Suitability:
        return Suitability(View.FRONTAL, orientation)


class Site:
    """An archive with a study of one image, its report, and somebody who decides."""

    def __init__(self, folder: Path) -> None:
        for number, source in enumerate(matrix.sources_of(matrix.ORDINARY)):
            (folder / f"{number}.dcm").write_bytes(source)
        self.archive = folder_archive((folder,), store_in=folder)
        self.reports = OneReport()
        self.edges = Edges(
            self.archive,
            self.reports,
            ResultFolder(folder / "results"),
            decisions=decisions_at(folder / "decisions.sqlite"),
        )
        self.grounder = Squares()
        assert self.edges.decisions is not None
        self.decisions = Decisions(self.edges.decisions, MemoryQueue())

    @property
    def tools(self) -> Tools:
        return Tools(read, "test", self.grounder, 2, "ab", lambda: CREATED)

    def run(self) -> None:
        process(STUDY, edges=self.edges, tools=self.tools, page_url=None)

    @property
    def document(self) -> EvidenceDocument:
        content = self.edges.results.read(STUDY, "evidence.json")
        assert content is not None
        return read_evidence(content)

    def phrase(self, text: str) -> PhrasePart:
        return next(each for each in self.document.phrases if each.text == text)

    def place(self, text: str) -> Place:
        return next(each for each in self.decisions.places(self.document) if each.phrase.text == text)

    def decide(self, text: str, ruling: Ruling, *outlines: Outline) -> None:
        place = self.place(text)
        where = (place.phrase.tracking_uid, place.placement.sop_instance_uid)
        self.decisions.decide(self.document, where, Word(place.tag, ruling, ADA, "not there", outlines))

    def observation(self, text: str) -> dict[str, Any]:
        (found,) = (
            each
            for each in self.reports.resources.values()
            if each["resourceType"] == "Observation"
            and each["valueCodeableConcept"]["text"] == text
            and each["status"] != "entered-in-error"
        )
        return found

    def report(self) -> Dataset:
        """The one SR that stands."""
        stored = {
            str(dataset.SOPInstanceUID): dataset
            for path in self.archive_files()
            if (dataset := dcmread(path)).SOPClassUID == ComprehensiveSRStorage
        }
        stands = {each.image.sop_instance_uid for each in standing(self.archive.results(STUDY))}
        (found,) = (dataset for uid, dataset in stored.items() if uid in stands)
        return found

    def archive_files(self) -> list[Path]:
        return sorted(self.edges.results.path.parent.glob("**/*.dcm"))

    def masks(self) -> dict[str, np.ndarray]:
        content = self.edges.results.read(STUDY, "seg.dcm")
        return {} if content is None else {each.phrase: each.mask for each in read_segmentation(content)}

    def everything(self) -> tuple[object, ...]:
        return self.archive.results(STUDY), self.document, json.dumps(self.reports.resources)


# By a job of the real queue


@dataclass
class Desk:
    """The service over the site, its jobs and decisions in a database, and a radiologist at it."""

    site: Site
    url: str
    running: ExitStack

    def __enter__(self) -> Desk:
        database = Database(self.url)
        queue = DurableQueue(database, Policy(first_s=0.05, most_s=0.5), poll_s=0.05)
        self.running.callback(queue.close)
        self.site.edges = replace(self.site.edges, decisions=DatabaseDecisionBook(database))
        intake = Intake(self.site.archive, self.site.reports, queue, DatabaseReportBook(database), lambda: ("test",))
        self.site.decisions = Decisions(DatabaseDecisionBook(database), queue, intake.join)
        unused: Any = None
        services = Services(
            queue,
            self.site.edges.results,
            GroundingWork(intake, self.site.edges, lambda _: self.site.tools),
            intake,
            unused,
            unused,
            unused,
            decisions=self.site.decisions,
        )
        caller = Caller("issuer|7", frozenset({Role.RADIOLOGIST}), Proof.TOKEN, user="Practitioner/ada")
        app = create_app(services, access=Access(lambda _: caller), allowed_hosts=("testserver",))
        self.http = self.running.enter_context(TestClient(app))
        self.queue = queue
        return self

    def __exit__(self, *_: object) -> None:
        self.running.close()

    @property
    def places(self) -> list[dict[str, Any]]:
        return list(self.http.get(f"{REPORT}/decisions").json())

    def says(self, text: str, ruling: Ruling, *outlines: Outline, reason: str = "") -> None:
        uid = self.site.phrase(text).tracking_uid
        (place,) = (each for each in self.places if each["tracking_uid"] == uid)
        said = {"sop_instance_uid": place["sop_instance_uid"], "ruling": ruling, "reason": reason, "regions": outlines}
        answer = self.http.post(f"{REPORT}/phrases/{uid}/decision", json=said, headers={"If-Match": place["tag"]})
        assert answer.status_code == 202, answer.text

    def wait(self, is_over: Callable[[], bool]) -> None:
        ends = time.monotonic() + 120
        while not is_over():
            assert time.monotonic() < ends, self.queue.list()
            assert not self.queue.list(state=JobState.FAILED)
            time.sleep(0.05)

    def is_quiet(self) -> bool:
        jobs = self.queue.backlog().jobs
        return not jobs[JobState.QUEUED] and not jobs[JobState.RUNNING]


REPORT = f"/studies/{STUDY.study_instance_uid}/reports/report-1"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.sqlite"
    return str(request.getfixturevalue("postgresql").database())


def test_what_a_radiologist_says_over_http_is_written_back_by_a_job_everywhere(tmp_path: Path, url: str) -> None:
    with Desk(Site(tmp_path), url, ExitStack()) as desk:
        site = desk.site
        desk.http.post("/studies", json={"study_instance_uid": STUDY.study_instance_uid}).raise_for_status()
        desk.wait(lambda: site.edges.results.read(STUDY, "evidence.json") is not None and desk.is_quiet())
        first, statuses = site.report(), [site.observation(each.text)["status"] for each in (EFFUSION, OPACITY)]

        desk.says(EFFUSION.text, Ruling.ACCEPTED)
        desk.says(OPACITY.text, Ruling.REJECTED, reason="a vessel")
        desk.says(NODULES.text, Ruling.REDRAWN, TRIANGLE, reason="wrong place")
        desk.wait(lambda: all(place["written"] for place in desk.places) and desk.is_quiet())

        said = {each["tracking_uid"]: each for each in desk.places}
        decided = {text: said[site.phrase(text).tracking_uid] for text in (EFFUSION.text, OPACITY.text, NODULES.text)}
        assert statuses == ["preliminary", "preliminary"]
        assert [site.observation(text)["status"] for text in decided] == ["final", "amended", "amended"]
        assert {each["job"]["state"] for each in decided.values()} == {"done"}
        report, masks = site.report(), site.masks()
        assert report.SOPInstanceUID != first.SOPInstanceUID
        assert (first.VerificationFlag, report.VerificationFlag) == ("UNVERIFIED", "VERIFIED")
        assert masks.keys() == {EFFUSION.text, NODULES.text}
        np.testing.assert_array_equal(masks[NODULES.text], Region(TRIANGLE, 1.0).mask(*masks[NODULES.text].shape))
        for text, reason in ((OPACITY.text, "a vessel"), (NODULES.text, "wrong place")):
            observation = site.observation(text)
            assert reason in observation["note"][0]["text"]
            (word,) = people_behind(site, observation["id"])
            assert word["agent"][0]["who"]["identifier"]["value"] == "issuer|7"
            assert word["agent"][0]["who"]["display"] == "Practitioner/ada"
            assert word["reason"] == [{"text": reason}]
        page = desk.http.get(f"{REPORT}/page").text
        assert "Practitioner/ada" not in page
        assert "wrong place" not in page
        assert len(desk.queue.list()) <= 4, "a job for the study, and at most one for each word"
        before, job = site.everything(), desk.queue.list()[0].job_id
        assert desk.queue.replay(job) is not None
        desk.wait(desk.is_quiet)
        assert site.everything() == before


def test_a_word_whose_process_died_before_it_put_a_job_is_written_back_after_the_next_start(
    tmp_path: Path, url: str
) -> None:
    site = Site(tmp_path)
    with Desk(site, url, ExitStack()) as desk:
        desk.http.post("/studies", json={"study_instance_uid": STUDY.study_instance_uid}).raise_for_status()
        desk.wait(lambda: site.edges.results.read(STUDY, "evidence.json") is not None and desk.is_quiet())
        place = site.place(OPACITY.text)
        where = (place.phrase.tracking_uid, place.placement.sop_instance_uid)
        dies = replace(site.decisions, queue=Dying())
        with pytest.raises(KeyboardInterrupt):
            dies.decide(site.document, where, Word(place.tag, Ruling.REJECTED, ADA, "a vessel"))
        assert not site.place(OPACITY.text).written

    with Desk(site, url, ExitStack()) as desk:
        desk.wait(lambda: all(place["written"] for place in desk.places))
        assert OPACITY.text not in site.masks()
        assert site.observation(OPACITY.text)["status"] == "amended"


class Dying(MemoryQueue):
    """The process ends as it puts a job."""

    def put(self, *_: Any, **__: Any) -> Job:
        raise KeyboardInterrupt


def people_behind(site: Site, observation: str) -> list[dict[str, Any]]:
    """The Provenance of people about an Observation."""
    return [
        each
        for each in site.reports.resources.values()
        if each["resourceType"] == "Provenance"
        and each["target"][0]["reference"] == f"Observation/{observation}"
        and each["agent"][0]["who"].get("type") == "Practitioner"
    ]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.run()
    return site


def test_decisions_become_the_next_version_everywhere(site: Site) -> None:
    first = site.report()
    site.decide(EFFUSION.text, Ruling.ACCEPTED)
    site.decide(OPACITY.text, Ruling.REJECTED)
    site.decide(NODULES.text, Ruling.REDRAWN, TRIANGLE)
    assert not site.place(OPACITY.text).written

    site.run()

    assert {text: site.observation(text)["status"] for text in (EFFUSION.text, OPACITY.text, NODULES.text)} == {
        EFFUSION.text: "final",
        OPACITY.text: "amended",
        NODULES.text: "amended",
    }
    report = site.report()
    (predecessor,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert predecessor.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert (first.VerificationFlag, report.VerificationFlag) == ("UNVERIFIED", "VERIFIED")
    masks = site.masks()
    assert masks.keys() == {EFFUSION.text, NODULES.text}
    drawn = Region(TRIANGLE, 1.0).mask(*masks[NODULES.text].shape)
    np.testing.assert_array_equal(masks[NODULES.text], drawn)
    assert site.phrase(OPACITY.text).placements[0].regions == ()
    assert all(place.written for place in site.decisions.places(site.document))


def test_a_run_again_writes_nothing_new(site: Site) -> None:
    site.decide(NODULES.text, Ruling.REDRAWN, TRIANGLE)
    site.run()
    before = site.everything()

    site.run()

    assert site.everything() == before


def test_another_model_moves_what_nobody_decided_and_nothing_else(site: Site) -> None:
    site.decide(EFFUSION.text, Ruling.ACCEPTED)
    site.decide(OPACITY.text, Ruling.REJECTED)
    site.run()
    before = site.masks()

    site.grounder = Squares(corner=60.0)
    site.run()

    after = site.masks()
    np.testing.assert_array_equal(after[EFFUSION.text], before[EFFUSION.text])
    assert OPACITY.text not in after
    assert (after[NODULES.text] != before[NODULES.text]).any()
    assert site.observation(EFFUSION.text)["status"] == "final"


def test_an_amended_report_keeps_what_was_decided_about_unchanged_phrases_and_says_what_is_lost(site: Site) -> None:
    site.decide(EFFUSION.text, Ruling.REJECTED)
    site.decide(NODULES.text, Ruling.REDRAWN, TRIANGLE)
    site.run()

    site.reports.version, site.reports.text = 2, "ADDENDUM. " + REPORT_TEXT.replace(EFFUSION.text, "No effusion")
    site.run()

    assert site.masks().keys() == {OPACITY.text, NODULES.text}
    assert site.phrase(NODULES.text).placements[0].decision is not None
    assert [each for each in site.document.warnings if "radiologist" in each] == [
        "A radiologist's decision about a phrase or an image that is not there any more: not used."
    ]

    site.reports.version, site.reports.text = 3, REPORT_TEXT
    site.run()

    assert EFFUSION.text not in site.masks()
    assert not [each for each in site.document.warnings if "radiologist" in each]


def test_a_decision_that_is_taken_back_leaves_the_word_to_the_model_again(site: Site) -> None:
    site.decide(OPACITY.text, Ruling.REJECTED)
    site.run()
    site.decide(OPACITY.text, Ruling.TAKEN_BACK)
    site.run()
    before = site.everything()

    assert OPACITY.text in site.masks()
    assert site.observation(OPACITY.text)["status"] == "preliminary"
    assert site.place(OPACITY.text).written
    site.run()
    assert site.everything() == before


def test_a_rejected_region_can_be_accepted_after_all(site: Site) -> None:
    before = site.masks()[OPACITY.text]
    site.decide(OPACITY.text, Ruling.REJECTED)
    site.run()
    site.decide(OPACITY.text, Ruling.ACCEPTED)
    site.run()

    np.testing.assert_array_equal(site.masks()[OPACITY.text], before)
    assert site.observation(OPACITY.text)["status"] == "final"


def test_the_first_report_of_a_study_stays_the_one_that_governs(site: Site) -> None:
    (kept,) = site.edges.results.reports(STUDY)
    site.decide(OPACITY.text, Ruling.REJECTED)
    site.run()

    assert site.edges.results.reports(STUDY) == (kept,)
    assert dcmread(BytesIO(site.edges.results.read(STUDY, "sr.dcm") or b"")).ContentDate != "20260301"


def test_decisions_become_training_data_that_the_reader_takes(site: Site, tmp_path: Path) -> None:
    site.decide(EFFUSION.text, Ruling.ACCEPTED)
    site.decide(OPACITY.text, Ruling.REJECTED)
    site.decide(NODULES.text, Ruling.REDRAWN, TRIANGLE)
    site.decide(NODULES.text, Ruling.TAKEN_BACK)
    site.decide(NODULES.text, Ruling.REDRAWN, TRIANGLE)
    site.run()
    masks = site.masks()
    site.reports.version, site.reports.text = 2, REPORT_TEXT.replace(NODULES.text, "Nothing else")
    site.run()
    assert site.edges.decisions is not None
    out = tmp_path / "exported" / "decisions.jsonl"

    told = [export(site.edges.decisions, site.edges.results, site.archive, out) for _ in range(2)]

    assert [each.written for each in told] == [3, 3]
    data = open_dataset(str(out))
    samples = {sample.phrase: sample for sample in data.samples()}
    assert {phrase: sample.present for phrase, sample in samples.items()} == {
        EFFUSION.text: True,
        OPACITY.text: False,
        NODULES.text: True,
    }
    for phrase in (EFFUSION, NODULES):
        np.testing.assert_array_equal(data.mask(samples[phrase.text]), masks[phrase.text])
    assert data.pixels(samples[EFFUSION.text].image).shape == masks[EFFUSION.text].shape
    content = out.read_text(encoding="utf-8")
    assert "sightline-test 10.0" in content
    assert "TEST-1" not in content
    assert ADA.name not in content


def test_decisions_leave_for_research_without_whom_they_are_about(site: Site, tmp_path: Path) -> None:
    site.decide(EFFUSION.text, Ruling.ACCEPTED)
    site.run()
    assert site.edges.decisions is not None
    out, disguise = tmp_path / "exported" / "decisions.jsonl", WithoutIdentity(Pseudonyms("k" * 32))

    told = export(site.edges.decisions, site.edges.results, site.archive, out, disguise=disguise)

    assert (told.written, told.left_out) == (1, {})
    (sample,) = open_dataset(str(out)).samples()
    assert sample.present
    document = read_evidence(next(iter(site.edges.results.versions(STUDY, "report-1", "evidence.json"))))
    line = json.loads(out.read_text(encoding="utf-8"))
    assert line["image"] == f"images/{disguise.name(document.images[0].sop_instance_uid)}.png"
    assert line["patient"] == disguise.pseudonyms.patient("TEST-1")
    assert not any(document.images[0].sop_instance_uid in path.name for path in out.parent.rglob("*"))
    moved = datetime.fromisoformat(line["made"]) - site.edges.decisions.every()[0].decision.made
    assert moved.days == disguise.pseudonyms.days("TEST-1")


def test_what_is_exported_of_a_turned_image_lies_on_it_upright() -> None:
    image = make_radiograph(make_header(rows=96, columns=80), orientation=Orientation(transpose=True))
    evidence = make_evidence(image)
    document = evidence_document(evidence)
    word = decision(evidence.phrases[1], Ruling.ACCEPTED)

    line = line_of(word, document.phrases[1], document.images[0], image)

    np.testing.assert_allclose(line["polygons"][0], [[y, x] for x, y in word.regions[0].outline], atol=0.01)
    assert (line["decision"], line["view"]) == ("accepted", "PA")


def test_decisions_of_which_nothing_is_kept_are_counted(site: Site, tmp_path: Path) -> None:
    site.decide(EFFUSION.text, Ruling.ACCEPTED)
    site.decide(OPACITY.text, Ruling.ACCEPTED)
    site.run()
    assert site.edges.decisions is not None
    nothing = ResultFolder(tmp_path / "nothing")

    told = export(site.edges.decisions, nothing, site.archive, tmp_path / "decisions.jsonl")

    assert (told.written, told.left_out) == (0, {"no results are kept that hold the phrase": 2})


def test_one_version_that_cannot_be_read_costs_no_other_its_export(site: Site, tmp_path: Path) -> None:
    site.decide(EFFUSION.text, Ruling.ACCEPTED)
    site.run()
    assert site.edges.decisions is not None
    versions = sorted(site.edges.results.path.rglob("evidence.json"))
    (versions[0].parent.parent / "earlier").mkdir()
    (versions[0].parent.parent / "earlier" / "evidence.json").write_text('{"format_version": 0}', encoding="utf-8")

    told = export(site.edges.decisions, site.edges.results, site.archive, tmp_path / "decisions.jsonl")

    assert (told.written, told.left_out) == (1, {})
