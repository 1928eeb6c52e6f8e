"""The way of a study and a report through Sightline: I/O in, the pure pipeline, I/O out, as docs/flow.md tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

from model.values import Fault, ModelCard, Suitability
from plugin import __version__
from plugin.anchors import tracking_uids
from plugin.dicom.instance import WrittenInstance, uid_of
from plugin.dicom.rejection import Reason, rejection
from plugin.dicom.secondary import heatmaps, pictures
from plugin.dicom.seg import segmentation_uid, segmentations
from plugin.dicom.sr import report as structured_report
from plugin.dicom.sr import report_uid
from plugin.errors import InputError, MissingError, TransientError, WithdrawnError
from plugin.fhir.capability import Release
from plugin.fhir.life import names_of, selections_among, settled, withdrawal
from plugin.fhir.multimedia import Organization, multimedia_id, multimedia_json, store_bundle
from plugin.fhir.regions import region_names, regions_bundle, regions_of
from plugin.fhir.writing import bundle_of
from plugin.matching import Match, MatchedBy, match, report_about
from plugin.page.document import EvidenceDocument, contexts_in, read_evidence
from plugin.page.evidence import evidence_json, evidence_page
from plugin.pipeline import ground_report
from plugin.ports import (
    Grounder,
    ImageArchive,
    ReportReader,
    ReportRepository,
    ReportStore,
    StoredResult,
    StudyIdentity,
)
from plugin.results import ResultFile, ResultFolder, kept_report
from plugin.values import (
    Evidence,
    ImageDescription,
    ImageRef,
    Provenance,
    Radiograph,
    Report,
    ReportDescription,
    ReportRef,
    StudyRef,
)
from plugin.versions import (
    of_report,
    phrases_before,
    phrases_ever,
    rejected,
    reports_before,
    series_before,
    standing,
    superseded,
)
from plugin.views import choose_images


@dataclass(frozen=True, slots=True)
class Tools:
    """What the pipeline works with, besides its input.

    Parameters
    ----------
    clock : asked for the time stamp of results only when neither report nor images carry a time.
    correct_orientation : whether a film that lies on its side or upside down is grounded as if it were upright.
    pictures, heatmaps : write these Secondary Captures, too.
    organization : who answers for reports that do not say so themselves.
    basic_regions : write each region to a FHIR server of R4 as a resource of its own, too.
    """

    read_report: ReportReader
    reader_version: str
    grounder: Grounder
    max_frontals: int
    settings_sha256: str
    clock: Callable[[], datetime]
    correct_orientation: bool = False
    pictures: bool = False
    heatmaps: bool = False
    organization: Organization | None = None
    basic_regions: bool = False

    def provenance(self, now: datetime) -> Provenance:
        """Who takes results back, and when; there is no text then."""
        return Provenance(
            software_version=__version__,
            model=self.grounder.card,
            reader_version=self.reader_version,
            report_sha256="",
            settings_sha256=self.settings_sha256,
            created=now,
        )

    def corrects(self, seen: Suitability) -> bool:
        """Whether what stands against grounding is mended by turning the image."""
        return self.correct_orientation and seen.fault is Fault.TURNED


@dataclass(frozen=True, slots=True)
class Outputs:
    """Everything that is written for one evidence.

    Parameters
    ----------
    instances : SEGs, then the SR, then pictures and heatmaps where wanted.
    bundle : FHIR transaction Bundle, JSON.
    document : the evidence as JSON.
    page : the evidence page, HTML.
    multimedia : what the multimedia report says besides its text, JSON.
    """

    instances: tuple[WrittenInstance, ...]
    bundle: str
    document: str
    page: str
    multimedia: str

    @property
    def files(self) -> tuple[ResultFile, ...]:
        """As files for a person."""
        return (
            *(ResultFile(instance.file_name, instance.content) for instance in self.instances),
            ResultFile("fhir.json", self.bundle.encode()),
            ResultFile("evidence.json", self.document.encode()),
            ResultFile("evidence.html", self.page.encode()),
        )

    @property
    def kept(self) -> tuple[ResultFile, ...]:
        """The same, and what our FHIR endpoint answers from."""
        return (*self.files, ResultFile("imr.json", self.multimedia.encode()))


@dataclass(frozen=True, slots=True)
class Publication:
    """Where multimedia reports are stored for others, and the address *base* of this service that they link to."""

    repository: ReportRepository
    base: str


@dataclass(frozen=True, slots=True)
class Edges:
    """Where a study comes from and its results go to; multimedia reports only when there is a *publication*."""

    archive: ImageArchive
    reports: ReportStore
    results: ResultFolder
    publication: Publication | None = None


PageUrl = Callable[[StudyRef, str], str]
"""Where the evidence page of a study and a report (its id) is."""


def process(
    study: StudyRef,
    report: ReportRef | None = None,
    *,
    edges: Edges,
    tools: Tools,
    page_url: PageUrl | None,
    joined: bool = False,
) -> tuple[Evidence, tuple[Path, ...]]:
    """The whole way of one study and one report: what the service does for each job. Doing it twice changes nothing.

    Without *report* it is the newest one about the study. Its version only says what was known when the job was put:
    the newest version at the report store is what counts, so that an old job that runs late, or again, does what the
    newest one does, and overwrites nothing.

    Results of an earlier version of the report, of another model or of other settings are rejected once the new ones
    are stored; those of other reports of the study stand. What was written about a report that was withdrawn or
    deleted, can no longer be read, or is no longer about the study, is taken back. The page comes last: whoever sees it
    can rely on the rest being stored.

    Parameters
    ----------
    joined : whether it is known that report and study belong together: by the data, or by a person where the data do
        not tell. Without it, only what the data prove is taken; what they deny never is.

    Raises
    ------
    WithdrawnError
        If there is no such report about the study any more; its results are no longer shown.
    SightlineError
        As the steps do; what was written before stays, and is written alike by the next try.
    """
    with edges.results.alone(study):
        descriptions = edges.archive.describe(study)
        wanted = report or _newest(edges.reports, identity_of(study, descriptions))
        try:
            evidence = ground_found(edges.archive, edges.reports, study, wanted, tools=tools, joined=joined)
        except WithdrawnError:
            _take_back(study, wanted.report_id, edges=edges, tools=tools)
            raise
        return _write(evidence, edges=edges, tools=tools, page_url=page_url)


def withdraw(study: StudyRef, report_id: str, *, edges: Edges, tools: Tools) -> None:
    """Take back everything of *study* and that report, at once: pages, FHIR resources, DICOM objects.

    Doing it twice changes nothing; neither does taking back what was never written. A report that comes back is
    shown again by :func:`process`.

    Raises
    ------
    SightlineError
        As archive, report store and results do; a second try takes back what is left.
    """
    with edges.results.alone(study):
        _take_back(study, report_id, edges=edges, tools=tools)


def _write(
    evidence: Evidence, *, edges: Edges, tools: Tools, page_url: PageUrl | None
) -> tuple[Evidence, tuple[Path, ...]]:
    """Store *evidence* everywhere: archive, FHIR server, then the notes about what it replaces, then the page."""
    study, report_id = evidence.study, evidence.report.ref.report_id
    stored = of_report(edges.archive.results(study), report_id)
    before = _remembered(edges.results, study, report_id)
    evidence = continued(evidence, stored, contexts=contexts_in(before))
    outputs = outputs_of(
        evidence,
        page_url=page_url(study, report_id) if page_url else None,
        stored=stored,
        with_pictures=tools.pictures,
        with_heatmaps=tools.heatmaps,
        organization=tools.organization,
        release=edges.reports.release,
    )
    edges.archive.store(study, tuple(instance.content for instance in outputs.instances))
    known = _phrases_known(stored, before) | {grounded.tracking_uid for grounded in evidence.phrases}
    edges.reports.write(settled(outputs.bundle, _there(edges.reports, study, report_id, known)))
    if tools.basic_regions:
        _write_regions(regions_of(evidence), edges.reports, tracking_uids=known, images=_images_known(stored, evidence))
    replaced = superseded(stored, by=frozenset(instance.sop_instance_uid for instance in outputs.instances))
    reject(
        replaced, Reason.SUPERSEDED, archive=edges.archive, model=tools.grounder.card, now=evidence.provenance.created
    )
    kept = kept_report(evidence.report, created=evidence.provenance.created)
    paths = edges.results.write(study, kept, outputs.kept)
    _publish(evidence, edges.publication, tools=tools)  # its links lead to the page
    return evidence, paths


def verify(study: StudyRef, report: ReportRef | None = None, *, edges: Edges) -> None:
    """Look whether the archive shows what :func:`process` wrote last about *study* and *report*.

    A server may answer that it stored an instance, and lose it; the next attempt then stores it again.

    Raises
    ------
    TransientError
        If an instance is missing, or the archive does not answer.
    """
    reports = edges.results.reports(study)
    report_id = report.report_id if report else next((kept.ref.report_id for kept in reports), "")
    names = ("sr.dcm", "seg.dcm", *(f"seg-{number}.dcm" for number in range(1, 9)))
    kept = (edges.results.read(study, name, report_id) for name in names)
    written = {uid_of(content) for content in kept if content is not None}
    shown = {result.image.sop_instance_uid for result in edges.archive.results(study)} if written else set()
    if not written <= shown:
        raise TransientError(f"the archive does not show {len(written - shown)} of {len(written)} results it took")


def _take_back(study: StudyRef, report_id: str, *, edges: Edges, tools: Tools) -> None:
    """See :func:`withdraw`. The page goes first: it is what people see, and nothing outside can hold it up."""
    edges.results.withdraw(study, report_id)
    if edges.publication is not None:
        edges.publication.repository.retract(multimedia_id(study.study_instance_uid, report_id))
    try:
        stored = of_report(edges.archive.results(study), report_id)
    except MissingError:  # the study itself is gone
        stored = ()
    known = _phrases_known(stored, _remembered(edges.results, study, report_id))
    there = _there(edges.reports, study, report_id, known)
    now, release = tools.clock(), edges.reports.release
    if bundle := withdrawal(study, report_id, there, by=tools.provenance(now), now=now, release=release):
        edges.reports.write(bundle)
    if tools.basic_regions:
        _write_regions((), edges.reports, tracking_uids=known, images=_images_known(stored))
    reject(standing(stored), Reason.WITHDRAWN, archive=edges.archive, model=tools.grounder.card, now=now)


def _phrases_known(stored: tuple[StoredResult, ...], remembered: EvidenceDocument | None) -> frozenset[str]:
    """The tracking UIDs that any version of a report had: the archive knows all, and the last ones are here, too."""
    return phrases_ever(stored) | frozenset(contexts_in(remembered))


def _there(
    reports: ReportStore, study: StudyRef, report_id: str, tracking_uids: frozenset[str]
) -> tuple[Mapping[str, object], ...]:
    """What the report store holds of what was written about *study* and a report."""
    found = reports.written(names_of(study, report_id, tracking_uids))
    return (*found, *reports.written(selections_among(found)))


def _images_known(stored: tuple[StoredResult, ...], evidence: Evidence | None = None) -> frozenset[str]:
    """The images that phrases of any version of a report may have been lit on."""
    now = (image.ref.sop_instance_uid for image in evidence.images) if evidence else ()
    return frozenset((*now, *(uid for result in stored for uid in result.source_uids)))


def _write_regions(
    wanted: tuple[Mapping[str, object], ...],
    reports: ReportStore,
    *,
    tracking_uids: frozenset[str],
    images: frozenset[str],
) -> None:
    """Make the regions at a server of R4 the *wanted* ones; one of R5 has them with the results."""
    if reports.release is not Release.R4:
        return
    there = reports.written(region_names(tracking_uids, images))
    if bundle := regions_bundle([dict(each) for each in wanted], there):
        reports.write(bundle)


def _publish(evidence: Evidence, publication: Publication | None, *, tools: Tools) -> None:
    """Store the multimedia report (IHE IMR, RAD-141); one that cannot be one takes back what was stored before."""
    if publication is None:
        return
    repository = publication.repository
    bundle = store_bundle(evidence, base=publication.base, organization=tools.organization, r5=repository.r5)
    if bundle is not None:
        repository.publish(bundle)
    else:
        repository.retract(multimedia_id(evidence.study.study_instance_uid, evidence.report.ref.report_id))


def _newest(reports: ReportStore, identity: StudyIdentity) -> ReportRef:
    references = reports.find(identity)  # newest first
    if not references:
        raise InputError("the report store has no report about this study: ask again when there is one")
    return references[0]


def _remembered(results: ResultFolder, study: StudyRef, report_id: str) -> EvidenceDocument | None:
    """The evidence that was written last, unless the disk was lost or holds that of another version of Sightline."""
    content = results.remembered(study, report_id, "evidence.json")
    try:
        return None if content is None else read_evidence(content)
    except ValueError:
        return None


def reject(
    results: tuple[StoredResult, ...], reason: Reason, *, archive: ImageArchive, model: ModelCard, now: datetime
) -> None:
    """Store a rejection note about *results*, if there are any, and let the archive remove them where it is to.

    Raises
    ------
    SightlineError
        As the archive does.
    """
    if not results:
        return
    note = rejection(results, reason, model=model, software_version=__version__, created=now)
    archive.store(results[0].image.study, (note.content,))
    archive.remove(tuple(result.image for result in results))


def ground_given(
    archive: ImageArchive, study: StudyRef, reports: tuple[Report, ...], *, tools: Tools, now: datetime | None = None
) -> Evidence:
    """Ground *study* with the one of *reports* that is about it, which a person put beside it.

    Parameters
    ----------
    now : the time stamp of the results; by default the report's, else the image's.

    Raises
    ------
    InputError
        If no report is about the study, or no image can be grounded.
    TransientError
        If the archive does not answer.
    """
    descriptions = archive.describe(study)
    report, found = report_about(reports, identity_of(study, descriptions))
    return _ground(archive, descriptions, report, tools=tools, now=now, notes=found.notes)


def ground_found(
    archive: ImageArchive,
    store: ReportStore,
    study: StudyRef,
    wanted: ReportRef | None = None,
    *,
    tools: Tools,
    joined: bool = False,
) -> Evidence:
    """Ground *study* with the newest version of the *wanted* report in *store*, or with its newest report.

    Nothing but a proven match is taken, unless the two were *joined* by a person.

    Raises
    ------
    InputError
        If the study has no report yet, or no image can be grounded.
    WithdrawnError
        If the wanted report was withdrawn or deleted, has no usable text (any more), or is not about the study.
    TransientError
        If archive or report store do not answer.
    """
    descriptions = archive.describe(study)
    identity = identity_of(study, descriptions)
    stands = store.describe((wanted or _newest(store, identity)).report_id)
    if stands is None:
        raise WithdrawnError("the report was deleted, so it is not used")
    report = _read(store, stands)
    found = _proven(report, identity, joined=joined)
    return _ground(archive, descriptions, report, tools=tools, now=None, notes=found.notes)


def _read(store: ReportStore, stands: ReportDescription) -> Report:
    """The report; results of an earlier version must not stay when this one cannot be read."""
    try:
        return store.read(stands.ref)
    except WithdrawnError:
        raise
    except InputError as error:
        now = store.describe(stands.ref.report_id)
        if now is None or now.ref != stands.ref:
            raise TransientError("the report changed while it was read") from None
        raise WithdrawnError(str(error)) from None


def _proven(report: Report, identity: StudyIdentity, *, joined: bool) -> Match:
    try:
        found = match(report, identity)
    except InputError as error:
        raise WithdrawnError(str(error)) from None
    if not found.proven and not (joined and found.by is MatchedBy.CALLER):
        raise WithdrawnError("no report is joined to this study by study UID, or by accession number and patient")
    return found


def identity_of(study: StudyRef, descriptions: tuple[ImageDescription, ...]) -> StudyIdentity:
    """What a report is matched against, as the images state it.

    Raises
    ------
    InputError
        If the images of the study name several patients.
    """
    patients = {description.patient for description in descriptions if description.patient}
    if len(patients) > 1:
        raise InputError("the images of the study name different patients: mend the study in the archive")
    accessions = sorted({description.accession_number for description in descriptions} - {""})
    issuers = sorted({description.accession_issuer for description in descriptions} - {""})
    return StudyIdentity(
        study,
        accessions[0] if len(accessions) == 1 else "",
        next(iter(patients), None),
        issuers[0] if len(issuers) == 1 else "",
    )


def outputs_of(
    evidence: Evidence,
    *,
    page_url: str | None = None,
    stored: tuple[StoredResult, ...] = (),
    with_pictures: bool = False,
    with_heatmaps: bool = False,
    organization: Organization | None = None,
    release: Release = Release.R4,
) -> Outputs:
    """Everything to write for *evidence*; pure, and the same bytes every time.

    Parameters
    ----------
    stored : what the archive holds of Sightline's results about this report: the new ones name those that they replace.
    release : of FHIR that the report store takes.
    organization : who answers for a multimedia report whose source does not say so itself.

    Raises
    ------
    ConformanceError
        If what we built is not valid.
    """
    images = (image.ref for image in evidence.images)
    before = {image: series_before(stored, segmentation_uid(evidence, image), image) for image in images}
    segmented = segmentations(evidence, follows=before)
    structured = structured_report(evidence, segmented, follows=reports_before(stored, report_uid(evidence)))
    listed = (
        *segmented,
        *((structured,) if structured else ()),
        *(pictures(evidence) if with_pictures else ()),
    )
    page = evidence_page(evidence)
    return Outputs(
        instances=(*listed, *(heatmaps(evidence) if with_heatmaps else ())),
        bundle=bundle_of(evidence, page_url=page_url, instances=listed, page=page.encode(), release=release),
        document=evidence_json(evidence),
        page=page,
        multimedia=multimedia_json(evidence, organization=organization),
    )


def continued(
    evidence: Evidence, stored: tuple[StoredResult, ...], *, contexts: Mapping[str, tuple[str, str]]
) -> Evidence:
    """*evidence* as the next version after what the archive holds; pure, and the same once it is stored itself.

    Its unchanged phrases keep their tracking UIDs, and it is told apart from equal results that were taken back.

    Parameters
    ----------
    stored : Sightline's results about this report.
    contexts : the text before and after the phrases of the version before, by tracking UID, as far as it is known.
    """
    gone = rejected(stored)
    while report_uid(evidence) in gone:
        evidence = replace(evidence, again=evidence.again + 1)
    uids = tracking_uids(
        evidence.study,
        evidence.report,
        tuple(grounded.phrase for grounded in evidence.phrases),
        before=phrases_before(stored, report_uid(evidence)),
        contexts=contexts,
    )
    pairs = zip(evidence.phrases, uids, strict=True)
    return replace(evidence, phrases=tuple(replace(grounded, tracking_uid=uid) for grounded, uid in pairs))


def judged(radiograph: Radiograph, seen: Suitability, *, tools: Tools) -> Radiograph:
    """*radiograph* with what stands against grounding it among its notes, turned upright where that is wanted."""
    if seen.fault is None:
        return radiograph
    if tools.corrects(seen):
        note = f"{seen.reason}; it was searched as if it were upright"
        return replace(radiograph, orientation=seen.orientation, notes=(*radiograph.notes, note))
    return replace(radiograph, notes=(*radiograph.notes, f"an image was not searched: {seen.reason}"))


def _ground(
    archive: ImageArchive,
    descriptions: tuple[ImageDescription, ...],
    report: Report,
    *,
    tools: Tools,
    now: datetime | None,
    notes: tuple[str, ...],
) -> Evidence:
    read = cache(archive.read)

    @cache
    def look(image: ImageRef) -> Suitability:
        radiograph = read(image)
        return tools.grounder.suitability(radiograph.pixels, radiograph.orientation)

    def suits(image: ImageRef) -> bool:
        try:
            return look(image).fault is None or tools.corrects(look(image))
        except InputError:
            return False

    choice = choose_images(descriptions, lambda image: look(image).view, suits=suits, limit=tools.max_frontals)
    images = tuple(
        judged(read(description.image), look(description.image), tools=tools) for description in choice.frontals
    )
    return ground_report(
        report,
        tools.read_report(report.text),
        images=images,
        references=choice.references,
        grounder=tools.grounder,
        reader_version=tools.reader_version,
        settings_sha256=tools.settings_sha256,
        created=now or report.issued or choice.frontals[0].acquired or tools.clock(),
        notes=(*notes, *choice.notes, *(note for image in images for note in image.notes)),
    )
