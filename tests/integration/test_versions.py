"""A report's life in an archive: first version, amended, withdrawn; the same rules on files and in the real Orthanc."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matrix
import numpy as np
import pytest
from evidence import CARD, CREATED, REPORT_TEXT, STUDY, phrases_of_every_fate
from pydicom.uid import ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage
from servers import OrthancServer

from model.geometry import Orientation
from model.values import Grounding, ModelCard, Query, Question, Region, State, Suitability, View
from nlp.phrases import Reading
from plugin.archive import folder_archive, web_archive
from plugin.dicom.header import read_part10
from plugin.endpoint import Endpoint
from plugin.errors import InputError, NoReportError, TransientError, WithdrawnError
from plugin.fhir.capability import Release
from plugin.flow import Edges, Tools, process, withdraw
from plugin.ports import ImageArchive, StoredResult, StudyIdentity
from plugin.results import ResultFolder
from plugin.values import PatientRef, Report, ReportDescription, ReportRef, ReportStatus, StudyRef
from plugin.versions import standing


class OneReport:
    """A report store with one report about whatever is asked; the test amends it."""

    def __init__(self, study_instance_uid: str) -> None:
        self.study_instance_uid = study_instance_uid
        self.version, self.status = 1, ReportStatus.FINAL
        self.ends = self.loses = ""
        self.bundles: list[str] = []
        self.resources: dict[str, dict[str, Any]] = {}

    release = Release.R4

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        return (ReportRef("report-1", str(self.version)),)

    def describe(self, report_id: str) -> ReportDescription | None:
        ref = ReportRef(report_id, str(self.version))
        return None if self.ends == "deleted" else ReportDescription(ref, self.status)

    def written(self, names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
        return tuple(self.resources[name] for name in names if name in self.resources)

    def ours(self) -> list[dict[str, Any]]:
        """Everything written that a withdrawal takes back."""
        return [each for name, each in self.resources.items() if name.startswith(("Observation", "DocumentReference"))]

    def read(self, report: ReportRef) -> Report:
        if self.status is ReportStatus.ENTERED_IN_ERROR:
            raise WithdrawnError("the report was withdrawn")
        studies = {"of another study": ("1.2.3",), "of no study": ()}.get(self.ends, (self.study_instance_uid,))
        patient = PatientRef("SOMEBODY") if self.ends == "of another patient" else None
        return Report(report, self.status, REPORT_TEXT, "test", patient=patient, study_instance_uids=studies)

    def write(self, bundle: str) -> None:
        self.bundles.append(bundle)
        for entry in json.loads(bundle)["entry"]:
            if entry["resource"]["resourceType"] != self.loses:
                self.resources[entry["request"]["url"]] = entry["resource"]


def read(text: str) -> Reading:
    """Three phrases, two of them lit, whatever the text."""
    return Reading(tuple(phrase for phrase, *_ in phrases_of_every_fate()[:3]))


class Squares:
    """A grounder that finds everything asked in one square."""

    card: ModelCard = CARD

    def ground(self, pixels: np.ndarray, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        square = Region(((10.0, 10.0), (50.0, 10.0), (50.0, 50.0), (10.0, 50.0)), 0.9)
        return tuple(Grounding(query, State.FOUND, 0.9, regions=(square,)) for query in queries)

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        return tuple(self.ground(each.pixels, each.orientation, each.queries) for each in questions)

    def suitability(self, pixels: np.ndarray, orientation: Orientation) -> Suitability:
        return Suitability(View.FRONTAL, orientation)


TOOLS = Tools(read, "test", Squares(), 2, "ab", lambda: CREATED)


@dataclass
class Site:
    """An archive with one study of two images, a report store and a result folder."""

    archive: ImageArchive
    reports: OneReport
    results: ResultFolder

    @property
    def edges(self) -> Edges:
        return Edges(self.archive, self.reports, self.results)

    def run(self, report_id: str | None = None, *, version: int | None = None) -> None:
        wanted = ReportRef(report_id or "report-1", str(version or self.reports.version))
        process(STUDY, wanted if report_id or version else None, edges=self.edges, tools=TOOLS, page_url=None)

    def stored(self, sop_class_uid: str) -> tuple[StoredResult, ...]:
        return tuple(it for it in self.archive.results(STUDY) if it.image.sop_class_uid == sop_class_uid)


CELL = replace(matrix.ORDINARY, name="Japanese", images=2)


@pytest.fixture(params=["files", pytest.param("orthanc", marks=pytest.mark.acceptance)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    sources = matrix.sources_of(CELL)
    if request.param == "files":
        for number, source in enumerate(sources):
            (tmp_path / f"{number}.dcm").write_bytes(source)
        archive = folder_archive((tmp_path,), store_in=tmp_path)
    else:
        server: OrthancServer = request.getfixturevalue("orthanc")
        server.reset()
        archive = web_archive(Endpoint(server.dicomweb_url, headers=server.headers))
        archive.store(STUDY, sources)
    return Site(archive, OneReport(STUDY.study_instance_uid), ResultFolder(tmp_path / "results"))


def test_a_second_run_writes_nothing_new(site: Site) -> None:
    site.run()
    first = site.archive.results(STUDY)
    site.run()

    assert site.archive.results(STUDY) == first
    assert site.reports.bundles[0] == site.reports.bundles[1]
    assert {result.image.sop_class_uid for result in first} == {SegmentationStorage, ComprehensiveSRStorage}
    assert standing(first) == first


@dataclass
class Forgetful:
    """An archive that took everything, and does not show the last result."""

    archive: ImageArchive

    def __getattr__(self, name: str) -> Any:
        return getattr(self.archive, name)

    def results(self, study: StudyRef) -> tuple[StoredResult, ...]:
        return self.archive.results(study)[:-1]


def test_what_was_written_is_looked_for_in_the_archive(site: Site) -> None:
    site.run()
    lost: Any = Forgetful(site.archive)

    with pytest.raises(TransientError, match="1 of 3 results"):
        process(STUDY, edges=replace(site.edges, archive=lost), tools=TOOLS, page_url=None)


def test_what_was_written_is_looked_for_in_the_report_store(site: Site) -> None:
    site.reports.loses = "Observation"

    with pytest.raises(TransientError, match="report store does not show 2 of 3 results"):
        site.run()
    shown_before = site.results.studies()
    site.reports.loses = ""
    site.run()

    assert shown_before == ()
    assert site.results.studies() == (STUDY,)


def test_an_amended_report_replaces_its_results_and_a_withdrawn_one_takes_them_back(site: Site) -> None:
    site.run()
    first = site.archive.results(STUDY)

    site.reports.version, site.reports.status = 2, ReportStatus.AMENDED
    site.run()
    amended = site.archive.results(STUDY)
    second = standing(amended)

    assert len(second) == len(first) == 3
    assert not {result.image for result in first} & {result.image for result in second}
    (note,) = site.stored(KeyObjectSelectionDocumentStorage)
    assert set(note.rejects) == {result.image.sop_instance_uid for result in first}
    follows = {result.image.sop_class_uid: result.follows for result in second if result.follows}
    (earlier,) = (result.image for result in first if result.image.sop_class_uid == ComprehensiveSRStorage)
    assert follows == {ComprehensiveSRStorage: (earlier,)}
    series = {result.source_uids: result.image.series_instance_uid for result in first if result.source_uids}
    assert {it.source_uids: it.follows_series for it in second if it.source_uids} == {
        source: (uid,) for source, uid in series.items()
    }

    site.run()
    assert site.archive.results(STUDY) == amended
    assert site.reports.bundles[1] == site.reports.bundles[2]
    assert site.results.studies() == (STUDY,)

    site.reports.version, site.reports.status = 3, ReportStatus.ENTERED_IN_ERROR
    for _ in range(2):
        with pytest.raises(WithdrawnError):
            site.run()
    withdrawn = site.archive.results(STUDY)

    assert standing(withdrawn) == ()
    assert len(withdrawn) == len(amended) + 1
    assert {each["status"] for each in site.reports.ours()} == {"entered-in-error"}
    assert site.results.studies() == ()
    assert site.results.read(STUDY, "evidence.json") is None


def test_the_notes_say_why_in_the_words_of_the_profile(site: Site) -> None:
    site.run()
    site.reports.version = 2
    site.run()
    site.reports.status = ReportStatus.ENTERED_IN_ERROR
    with pytest.raises(WithdrawnError):
        site.run()

    titles = {_series_description(note) for note in site.stored(KeyObjectSelectionDocumentStorage)}
    assert titles == {
        "Sightline: rejected for quality reasons",
        "Sightline: rejected for patient safety reasons",
    }


def _series_description(note: StoredResult) -> str:
    return str(read_part10(note.header).SeriesDescription)


def test_results_of_one_report_leave_those_of_another_alone(site: Site) -> None:
    site.run("report-1")
    one = site.archive.results(STUDY)
    site.run("report-2")
    both = site.archive.results(STUDY)

    assert standing(both) == both
    assert len(both) == 2 * len(one)
    assert {kept.ref.report_id for kept in site.results.reports(STUDY)} == {"report-1", "report-2"}

    site.reports.version = 2
    site.run("report-2")
    left = {result.image for result in standing(site.archive.results(STUDY))}
    assert {result.image for result in one} < left
    assert len(left) == len(both)

    withdraw(STUDY, "report-2", edges=site.edges, tools=TOOLS)
    assert standing(site.archive.results(STUDY)) == one
    assert site.results.read(STUDY, "evidence.json", "report-1")
    assert site.results.read(STUDY, "evidence.json", "report-2") is None
    statuses = {
        (each["focus"][0]["reference"][17:25], each["status"]) for each in site.reports.ours() if "focus" in each
    }
    assert statuses == {("report-1", "preliminary"), ("report-2", "entered-in-error")}


def test_a_report_that_comes_back_is_shown_again_under_its_old_tracking_uids(site: Site) -> None:
    site.run()
    (first,) = site.stored(ComprehensiveSRStorage)
    withdraw(STUDY, "report-1", edges=site.edges, tools=TOOLS)
    assert standing(site.archive.results(STUDY)) == ()

    for _ in range(2):  # the same version, and again
        site.run()
        (back,) = (it for it in standing(site.archive.results(STUDY)) if it.phrases)
        assert back.phrases == first.phrases
        assert back.image != first.image
    assert len(standing(site.archive.results(STUDY))) == 3
    assert site.results.read(STUDY, "evidence.json")


def test_a_job_of_an_older_version_does_what_the_newest_asks(site: Site) -> None:
    site.reports.version = 2
    site.run()
    amended = site.archive.results(STUDY)

    site.run(version=1)

    assert site.archive.results(STUDY) == amended
    assert [kept.ref.version for kept in site.results.reports(STUDY)] == ["2"]


@pytest.mark.parametrize("site", ["files"], indirect=True)
def test_a_lost_data_folder_makes_no_duplicates(site: Site) -> None:
    site.run()
    first = site.archive.results(STUDY)
    shutil.rmtree(site.results.path)

    site.run()
    assert site.archive.results(STUDY) == first
    shutil.rmtree(site.results.path)
    site.reports.version = 2
    site.run()

    (report,) = (it for it in standing(site.archive.results(STUDY)) if it.phrases)
    assert report.phrases == next(it.phrases for it in first if it.phrases)
    assert len(standing(site.archive.results(STUDY))) == 3


@pytest.mark.parametrize("site", ["files"], indirect=True)
def test_an_image_that_comes_late_replaces_the_results_without_it(site: Site, tmp_path: Path) -> None:
    late = (tmp_path / "1.dcm").read_bytes()
    (tmp_path / "1.dcm").unlink()
    site.run()
    assert len(standing(site.archive.results(STUDY))) == 2

    (tmp_path / "1.dcm").write_bytes(late)
    site.run()

    assert len(standing(site.archive.results(STUDY))) == 3
    (report,) = (it for it in standing(site.archive.results(STUDY)) if it.phrases)
    assert len(report.follows) == 1


@pytest.mark.parametrize("site", ["files"], indirect=True)
def test_a_report_that_names_no_study_is_grounded_when_a_person_joined_it_and_not_otherwise(site: Site) -> None:
    site.reports.ends = "of no study"
    wanted = ReportRef("report-1", "1")

    with pytest.raises(NoReportError, match="no report is joined"):
        process(STUDY, wanted, edges=site.edges, tools=TOOLS, page_url=None)
    evidence, _ = process(STUDY, wanted, edges=site.edges, tools=TOOLS, page_url=None, joined=True)

    assert any("names neither patient nor study" in warning for warning in evidence.warnings)
    assert site.stored(ComprehensiveSRStorage)


@pytest.mark.parametrize("site", ["files"], indirect=True)
@pytest.mark.parametrize("ends", ["of another study", "of another patient"])
def test_what_the_data_deny_is_not_grounded_whatever_a_person_said(site: Site, ends: str) -> None:
    site.reports.ends = ends

    with pytest.raises(NoReportError):
        process(STUDY, ReportRef("report-1", "1"), edges=site.edges, tools=TOOLS, page_url=None, joined=True)

    assert site.archive.results(STUDY) == ()


@pytest.mark.parametrize("site", ["files"], indirect=True)
@pytest.mark.parametrize("ends", ["deleted", "of another study", "of another patient"])
def test_a_report_that_is_no_longer_about_the_study_is_taken_back(site: Site, ends: str) -> None:
    site.run()
    site.reports.ends = ends

    with pytest.raises(WithdrawnError if ends == "deleted" else NoReportError):
        site.run("report-1")

    assert standing(site.archive.results(STUDY)) == ()
    assert site.results.read(STUDY, "evidence.json") is None


@pytest.mark.parametrize("site", ["files"], indirect=True)
def test_a_report_withdrawn_before_anything_was_written_leaves_nothing(site: Site) -> None:
    site.reports.status = ReportStatus.ENTERED_IN_ERROR

    with pytest.raises(WithdrawnError):
        site.run()

    assert site.archive.results(STUDY) == ()


@pytest.mark.parametrize("site", ["files"], indirect=True)
def test_results_that_were_cut_short_are_rejected_by_the_next_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service died after storing the amended results and before the note."""
    site.run()
    site.reports.version = 2
    store: Callable[..., None] = site.archive.store
    died = iter([False, True])

    def dies(study, instances):
        if next(died):
            raise InputError("died")
        store(study, instances)

    monkeypatch.setattr(site.archive, "store", dies)
    with pytest.raises(InputError, match="died"):
        site.run()
    monkeypatch.undo()
    assert len(standing(site.archive.results(STUDY))) == 6

    site.run()

    assert len(standing(site.archive.results(STUDY))) == 3
    (report,) = (it for it in standing(site.archive.results(STUDY)) if it.follows)
    assert len(report.follows) == 1


@pytest.mark.acceptance
def test_orthanc_removes_what_was_rejected_when_it_is_told_to(orthanc: OrthancServer, tmp_path: Path) -> None:
    orthanc.reset()
    archive = web_archive(
        Endpoint(orthanc.dicomweb_url, headers=orthanc.headers),
        orthanc=Endpoint(orthanc.base_url, headers=orthanc.headers),
    )
    archive.store(STUDY, matrix.sources_of(CELL))
    site = Site(archive, OneReport(STUDY.study_instance_uid), ResultFolder(tmp_path / "results"))
    site.run()
    first = archive.results(STUDY)
    site.reports.version = 2

    site.run()

    left = archive.results(STUDY)
    assert not {result.image for result in first} & {result.image for result in left}
    assert len(left) == 4  # two Segmentations, the report, the note
    assert len(archive.describe(STUDY)) == 2
    site.run()
    assert archive.results(STUDY) == left
