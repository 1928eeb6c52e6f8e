"""A report's life in an archive: first version, amended, withdrawn; the same rules on files and in the real Orthanc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from plugin.errors import InputError, WithdrawnError
from plugin.flow import Edges, Tools, process
from plugin.ports import ImageArchive, StoredResult, StudyIdentity
from plugin.results import ResultFolder
from plugin.values import Report, ReportRef, ReportStatus
from plugin.versions import standing


class OneReport:
    """A report store with one report about whatever is asked; the test amends it."""

    def __init__(self, study_instance_uid: str) -> None:
        self.study_instance_uid = study_instance_uid
        self.version, self.status = 1, ReportStatus.FINAL
        self.bundles: list[str] = []

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        return (ReportRef("report-1", str(self.version)),)

    def read(self, report: ReportRef) -> Report:
        if self.status is ReportStatus.ENTERED_IN_ERROR:
            raise WithdrawnError("the report was withdrawn")
        return Report(report, self.status, REPORT_TEXT, "test", study_instance_uids=(self.study_instance_uid,))

    def write(self, bundle: str) -> None:
        self.bundles.append(bundle)


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


@dataclass
class Site:
    """An archive with one study of two images, a report store and a result folder."""

    archive: ImageArchive
    reports: OneReport
    results: ResultFolder

    def run(self) -> None:
        process(
            STUDY,
            edges=Edges(self.archive, self.reports, self.results),
            tools=Tools(read, "test", Squares(), 2, "ab", lambda: CREATED),
            page_url=None,
        )

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
