"""The way of a study and a report through Sightline: I/O in, the pure pipeline, I/O out, as docs/flow.md tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path

from model.values import Fault, ModelCard, Suitability
from nlp.phrases import Reading
from plugin import __version__
from plugin.anchors import tracking_uids
from plugin.decisions import decided
from plugin.dicom.instance import WrittenInstance
from plugin.dicom.rejection import Reason, rejection
from plugin.dicom.secondary import heatmaps, pictures
from plugin.dicom.seg import segmentation_uid, segmentations
from plugin.dicom.sr import report as structured_report
from plugin.dicom.sr import report_uid
from plugin.errors import InputError, MissingError, NoReportError, TransientError, WithdrawnError
from plugin.fhir.capability import Release
from plugin.fhir.life import names_of, resources_in, selections_among, settled, withdrawal
from plugin.fhir.multimedia import Organization, multimedia_id, multimedia_json, store_bundle
from plugin.fhir.regions import region_names, regions_bundle, regions_of
from plugin.fhir.writing import bundle_of
from plugin.matching import Match, MatchedBy, match, report_about
from plugin.page.document import EvidenceDocument, contexts_in, read_evidence
from plugin.page.evidence import evidence_json, evidence_page
from plugin.page.pictures import maps_of
from plugin.page.words import Audience
from plugin.pipeline import ground_report
from plugin.ports import (
    DecisionBook,
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
    RegionDecision,
    Report,
    ReportDescription,
    ReportRef,
    StudyRef,
    makers_of,
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

    @property
    def makers(self) -> tuple[str, ...]:
        """What makes results; part of the ids of jobs."""
        return makers_of(self.grounder.card, reader_version=self.reader_version, settings_sha256=self.settings_sha256)

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
    maps : the heatmaps that the pages show, PNG, one file for an image.
    multimedia : what the multimedia report says besides its text, JSON.
    """

    instances: tuple[WrittenInstance, ...]
    bundle: str
    document: str
    page: str
    multimedia: str
    maps: tuple[ResultFile, ...] = ()

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
        """The same, and what our pages and our FHIR endpoint answer from."""
        return (*self.files, ResultFile("imr.json", self.multimedia.encode()), *self.maps)


@dataclass(frozen=True, slots=True)
class Publication:
    """Where multimedia reports are stored for others, and the address *base* of this service that they link to."""

    repository: ReportRepository
    base: str


@dataclass(frozen=True, slots=True)
class Edges:
    """Where a study comes from and its results go to.

    Parameters
    ----------
    publication : None: multimedia reports are not stored for others.
    decisions : of radiologists; None: nobody decides.
    """

    archive: ImageArchive
    reports: ReportStore
    results: ResultFolder
    publication: Publication | None = None
    decisions: DecisionBook | None = None


PageUrl = Callable[[StudyRef, str], str]
"""Where the evidence page of a study and a report (its id) is."""


@dataclass(frozen=True, slots=True)
class Found:
    """The radiographs of a study, and the report that is about it; *notes* say what is to be known of the match."""

    images: tuple[ImageDescription, ...]
    report: Report
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """The radiographs to ground, decoded, the best one first, and the study's other ones; *acquired*: the best one."""

    frontals: tuple[Radiograph, ...]
    references: tuple[ImageDescription, ...]
    acquired: datetime | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What is written of *evidence*.

    Parameters
    ----------
    stored : what the archive held of this report before.
    known : the tracking UIDs of the phrases of all its versions.
    """

    evidence: Evidence
    outputs: Outputs
    stored: tuple[StoredResult, ...]
    known: frozenset[str]


STEPS = {
    "match": "found",
    "fetch": "fetched",
    "read": "reading",
    "ground": "evidence",
    "write-dicom": "stored",
    "write-fhir": "told",
    "verify": "shown",
    "finish": "kept",
}
"""The steps in order, and what of :class:`Passage` each of them makes."""


class Passage:
    """The way of one study and one report, step by step. Whoever runs it is :meth:`ResultFolder.alone` with the study.

    What a step makes is kept in memory for the next ones, and nowhere else: it is pixels and words of reports. A step
    that is run first, since another process did those before it, makes what it needs anew, from what is at archive and
    report store by then, and writes alike what was written. So every step can be done twice, or be begun with.

    Parameters
    ----------
    report : see :func:`process`, also for *joined*.
    """

    def __init__(
        self,
        study: StudyRef,
        report: ReportRef | None = None,
        *,
        edges: Edges,
        tools: Tools,
        page_url: PageUrl | None,
        joined: bool = False,
    ) -> None:
        self._study = study
        self._report = report
        self._edges = edges
        self._tools = tools
        self._page_url = page_url
        self._joined = joined

    def run(self, step: str) -> None:
        """Do *step*, one of :data:`STEPS`, unless it was done here before.

        Raises
        ------
        SightlineError
            As the step does.
        """
        getattr(self, STEPS[step])

    @cached_property
    def found(self) -> Found:
        """Images and report; what was written is taken back if there is no such report about the study any more."""
        archive, reports = self._edges.archive, self._edges.reports
        descriptions = archive.describe(self._study)
        identity = identity_of(self._study, descriptions)
        wanted = self._report or _newest(reports, identity)
        try:
            return _find(reports, wanted, identity, descriptions, joined=self._joined)
        except NoReportError:
            withdraw(self._study, wanted.report_id, edges=self._edges, tools=self._tools)
            raise

    @cached_property
    def fetched(self) -> Fetched:
        """Pixels of the images that can be grounded."""
        return _fetch(self._edges.archive, self.found.images, tools=self._tools)

    @cached_property
    def reading(self) -> Reading:
        """The phrases of the report."""
        return self._tools.read_report(self.found.report.text)

    @cached_property
    def evidence(self) -> Evidence:
        """The phrases in the images."""
        return _ground(self.found, self.fetched, self.reading, tools=self._tools, now=None)

    @cached_property
    def stored(self) -> Written:
        """SEG, SR and pictures are in the archive."""
        archive, reports, tools = self._edges.archive, self._edges.reports, self._tools
        report_id = self.evidence.report.ref.report_id
        stored = of_report(archive.results(self._study), report_id)
        before = _remembered(self._edges.results, self._study, report_id)
        kept = self._edges.decisions.about(self._study, report_id) if self._edges.decisions else ()
        words = tuple(each.decision for each in kept)
        evidence = continued(self.evidence, stored, contexts=contexts_in(before), decisions=words)
        outputs = outputs_of(
            evidence,
            page_url=self._page_url(self._study, report_id) if self._page_url else None,
            stored=stored,
            with_pictures=tools.pictures,
            with_heatmaps=tools.heatmaps,
            organization=tools.organization,
            release=reports.release,
            audience=Audience.PATIENT,  # it is what portals fetch
        )
        archive.store(self._study, tuple(instance.content for instance in outputs.instances))
        known = _phrases_known(stored, before) | {grounded.tracking_uid for grounded in evidence.phrases}
        return Written(evidence, outputs, stored, known)

    @cached_property
    def told(self) -> Written:
        """The report store has the results."""
        written, reports = self.stored, self._edges.reports
        there = _there(reports, self._study, written.evidence.report.ref.report_id, written.known)
        reports.write(settled(written.outputs.bundle, there))
        if self._tools.basic_regions:
            images = _images_known(written.stored, written.evidence)
            _write_regions(regions_of(written.evidence), reports, tracking_uids=written.known, images=images)
        return written

    @cached_property
    def shown(self) -> Written:
        """Archive and report store show what they took: one may answer that it has something, and lose it.

        The next attempt writes it again.
        """
        written = self.told
        wanted = {instance.sop_instance_uid for instance in written.outputs.instances}
        shown = {result.image.sop_instance_uid for result in self._edges.archive.results(self._study)}
        if lost := len(wanted - shown):
            raise TransientError(f"the archive does not show {lost} of {len(wanted)} results it took")
        report_id, phrases = written.evidence.report.ref.report_id, written.evidence.phrases
        names = names_of(self._study, report_id, (grounded.tracking_uid for grounded in phrases))
        asked = tuple(name for name in names if name in resources_in(written.outputs.bundle))
        if lost := len(asked) - len(self._edges.reports.written(asked)):
            raise TransientError(f"the report store does not show {lost} of {len(asked)} results it took")
        return written

    @cached_property
    def kept(self) -> tuple[Path, ...]:
        """What these results replace is rejected; then they are shown, and the multimedia report links to them."""
        written, evidence = self.shown, self.shown.evidence
        replaced = superseded(
            written.stored, by=frozenset(instance.sop_instance_uid for instance in written.outputs.instances)
        )
        model, now = self._tools.grounder.card, evidence.written
        reject(replaced, Reason.SUPERSEDED, archive=self._edges.archive, model=model, now=now)
        kept = kept_report(evidence.report, created=evidence.provenance.created)
        paths = self._edges.results.write(self._study, kept, written.outputs.kept)
        _publish(evidence, self._edges.publication, tools=self._tools)
        return paths


def process(
    study: StudyRef,
    report: ReportRef | None = None,
    *,
    edges: Edges,
    tools: Tools,
    page_url: PageUrl | None,
    joined: bool = False,
) -> tuple[Evidence, tuple[Path, ...]]:
    """The whole way of one study and one report, all steps of a job together. Doing it twice changes nothing.

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
    NoReportError
        If there is no such report about the study any more; its results are no longer shown.
    SightlineError
        As the steps do; what was written before stays, and is written alike by the next try.
    """
    with edges.results.alone(study):
        passage = Passage(study, report, edges=edges, tools=tools, page_url=page_url, joined=joined)
        paths = passage.kept
        return passage.shown.evidence, paths


def withdraw(study: StudyRef, report_id: str, *, edges: Edges, tools: Tools) -> None:
    """Take back everything of *study* and that report, at once: pages, FHIR resources, DICOM objects.

    Whoever does so is :meth:`ResultFolder.alone` with the study. Doing it twice changes nothing; neither does taking
    back what was never written. A report that comes back is shown again by :func:`process`. The page goes first: it is
    what people see, and nothing outside can hold it up.

    Raises
    ------
    SightlineError
        As archive, report store and results do; a second try takes back what is left.
    """
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
    report, matched = report_about(reports, identity_of(study, descriptions))
    found = Found(descriptions, report, matched.notes)
    return _ground(
        found, _fetch(archive, descriptions, tools=tools), tools.read_report(report.text), tools=tools, now=now
    )


def _find(
    store: ReportStore,
    wanted: ReportRef,
    identity: StudyIdentity,
    descriptions: tuple[ImageDescription, ...],
    *,
    joined: bool,
) -> Found:
    """The newest version of the *wanted* report. Nothing but a proven match is taken, unless a person *joined* them.

    Raises
    ------
    WithdrawnError
        If it was withdrawn or deleted.
    NoReportError
        If it has no usable text (any more), or is not about the study.
    """
    stands = store.describe(wanted.report_id)
    if stands is None:
        raise WithdrawnError("the report was deleted, so it is not used")
    report = _read(store, stands)
    return Found(descriptions, report, _proven(report, identity, joined=joined).notes)


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
        raise NoReportError(str(error)) from None


def _proven(report: Report, identity: StudyIdentity, *, joined: bool) -> Match:
    try:
        found = match(report, identity)
    except InputError as error:
        raise NoReportError(str(error)) from None
    if not found.proven and not (joined and found.by is MatchedBy.CALLER):
        raise NoReportError("no report is joined to this study by study UID, or by accession number and patient")
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
    audience: Audience = Audience.RADIOLOGIST,
) -> Outputs:
    """Everything to write for *evidence*; pure, and the same bytes every time.

    Parameters
    ----------
    stored : what the archive holds of Sightline's results about this report: the new ones name those that they replace.
    release : of FHIR that the report store takes.
    organization : who answers for a multimedia report whose source does not say so itself.
    audience : of the page.

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
    page, document = evidence_page(evidence, audience=audience), evidence_json(evidence)
    maps = ((number, maps_of(evidence, image)) for number, image in enumerate(evidence.images, start=1))
    return Outputs(
        instances=(*listed, *(heatmaps(evidence) if with_heatmaps else ())),
        bundle=bundle_of(
            evidence,
            page_url=page_url,
            instances=listed,
            page=page.encode(),
            document=document.encode(),
            release=release,
        ),
        document=document,
        page=page,
        multimedia=multimedia_json(evidence, organization=organization),
        maps=tuple(ResultFile(f"heatmap-{number}.png", content) for number, content in maps if content is not None),
    )


def continued(
    evidence: Evidence,
    stored: tuple[StoredResult, ...],
    *,
    contexts: Mapping[str, tuple[str, str]],
    decisions: tuple[RegionDecision, ...] = (),
) -> Evidence:
    """*evidence* as the next version after what the archive holds; pure, and the same once it is stored itself.

    Its unchanged phrases keep their tracking UIDs, and with them what radiologists decided about their regions; and it
    is told apart from equal results that were taken back.

    Parameters
    ----------
    stored : Sightline's results about this report.
    contexts : the text before and after the phrases of the version before, by tracking UID, as far as it is known.
    decisions : every one that was ever made about this report and study.
    """
    gone = rejected(stored)
    evidence = _told_apart(evidence, gone)
    uids = tracking_uids(
        evidence.study,
        evidence.report,
        tuple(grounded.phrase for grounded in evidence.phrases),
        before=phrases_before(stored, report_uid(evidence)),
        contexts=contexts,
    )
    pairs = zip(evidence.phrases, uids, strict=True)
    named = replace(evidence, phrases=tuple(replace(grounded, tracking_uid=uid) for grounded, uid in pairs))
    ruled = decided(named, decisions)
    return _told_apart(replace(ruled, again=0), gone) if ruled.decisions else ruled


def _told_apart(evidence: Evidence, gone: frozenset[str]) -> Evidence:
    """A rejected instance never comes back under its UID."""
    while report_uid(evidence) in gone:
        evidence = replace(evidence, again=evidence.again + 1)
    return evidence


def judged(radiograph: Radiograph, seen: Suitability, *, tools: Tools) -> Radiograph:
    """*radiograph* with what stands against grounding it among its notes, turned upright where that is wanted."""
    if seen.fault is None:
        return radiograph
    if tools.corrects(seen):
        note = f"{seen.reason}; it was searched as if it were upright"
        return replace(radiograph, orientation=seen.orientation, notes=(*radiograph.notes, note))
    return replace(radiograph, notes=(*radiograph.notes, f"an image was not searched: {seen.reason}"))


def _fetch(archive: ImageArchive, descriptions: tuple[ImageDescription, ...], *, tools: Tools) -> Fetched:
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
    frontals = tuple(
        judged(read(description.image), look(description.image), tools=tools) for description in choice.frontals
    )
    notes = (*choice.notes, *(note for image in frontals for note in image.notes))
    return Fetched(frontals, choice.references, choice.frontals[0].acquired, notes)


def _ground(found: Found, fetched: Fetched, reading: Reading, *, tools: Tools, now: datetime | None) -> Evidence:
    return ground_report(
        found.report,
        reading,
        images=fetched.frontals,
        references=fetched.references,
        grounder=tools.grounder,
        reader_version=tools.reader_version,
        settings_sha256=tools.settings_sha256,
        created=now or found.report.issued or fetched.acquired or tools.clock(),
        notes=(*found.notes, *fetched.notes),
    )
