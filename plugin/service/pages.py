"""The pages of a report as they are served: for patients by the rules of release, for radiologists with everything.

``.../page`` and what lies below ``.../patient`` is what patients may see, below ``.../radiologist`` is the rest, so
that access can be told by the path. Images, heatmaps, style and modules are kept by browsers, and asked for again by
their ETag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from plugin.access.caller import Role
from plugin.access.visit import Visit
from plugin.page.document import EvidenceDocument, read_evidence
from plugin.page.linking import STYLE, asset, modules
from plugin.page.pictures import pictures_in
from plugin.page.release import IMMEDIATELY, Rules, Wait, Withheld, withheld_of
from plugin.page.view import Links, served_page
from plugin.page.waiting import withheld_page
from plugin.page.words import Audience
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results, study_of
from plugin.service.people import is_named
from plugin.service.problems import GONE, NOT_FOUND, RESPONSES
from plugin.service.results import ReportId, StudyUid, result_file
from plugin.values import StudyRef

CACHED = {"Cache-Control": "private, no-cache"}
_STUDY = "/studies/{study_instance_uid}"
_REPORT = _STUDY + "/reports/{report_id}"
_MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_FILES = ("seg.dcm", *(f"seg-{number}.dcm" for number in range(1, 9)), "sr.dcm", "fhir.json", "evidence.json")
SopUid = Annotated[str, Path(description="SOP Instance UID of an image that was grounded.", max_length=64)]


@dataclass(frozen=True, slots=True)
class Pages:
    """What the routes work with.

    Parameters
    ----------
    viewer : whether there is a viewer to link to.
    decides : whether radiologists can decide about regions.
    rules : when patients see a report.
    """

    results: Results
    viewer: bool = False
    decides: bool = False
    rules: Rules = IMMEDIATELY
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def for_patients(self, visit: Visit) -> Shown:
        """What a page for patients shows to who asks, which is also that a report is withheld."""
        return Shown(self, visit, visit.with_drafts(self.results))

    def for_radiologists(self, visit: Visit) -> Shown:
        """What a page for radiologists shows to who asks."""
        return Shown(self, visit, visit.results(self.results))


@dataclass(frozen=True, slots=True)
class Shown:
    """The results that a visit shows, as the pages need them."""

    pages: Pages
    visit: Visit
    results: Results

    @property
    def for_work(self) -> bool:
        """Whether who asks works with reports, and sees whatever patients see or do not see yet."""
        return Role.RADIOLOGIST in self.visit.caller.roles

    def document(self, uid: str, report_id: str) -> EvidenceDocument:
        """The evidence of a report; raises as :func:`result_file`."""
        return read_evidence(result_file(self.results, uid, "evidence.json", report_id))

    def withheld(self, uid: str, report_id: str) -> Withheld | None:
        """Whether patients do not see a report now; None, too, where there is none, or none any more."""
        shown = (each for each in self.results.reports(study_of(uid)) if not each.status.withdrawn)
        if any(each.ref.report_id == report_id and not each.status.final for each in shown):
            return Withheld(Wait.NOT_FINAL)
        rules = self.pages.rules
        return withheld_of(self.document(uid, report_id), rules, now=self.pages.clock()) if rules.wait else None

    def governing(self, uid: str) -> str:
        """The id of the report that governs a study."""
        kept = self.results.reports(study_of(uid))
        if not kept:
            raise HTTPException(404, "There are no results of this study yet; POST /studies asks for them.")
        return kept[0].ref.report_id

    def picture(self, uid: str, report_id: str, sop_instance_uid: str) -> bytes:
        """An upright image, JPEG."""
        number = _number(self.document(uid, report_id), sop_instance_uid)
        return pictures_in(result_file(self.results, uid, "evidence.html", report_id))[number]

    def links(self, request: Request, audience: Audience, document: EvidenceDocument) -> Links:
        """What the page of *audience* links to."""
        if audience is Audience.PATIENT:
            return self.around(request, images=_below("patient/images", document))
        read, study = self.results.read, StudyRef(document.study_instance_uid)
        report_id = document.report.report_id
        maps = _below("radiologist/heatmaps", document)
        drawn = (read(study, f"heatmap-{number}.png", report_id) for number in range(1, len(maps) + 1))
        return replace(
            self.around(request, images=_below("radiologist/images", document)),
            maps={uid: href for (uid, href), found in zip(maps.items(), drawn, strict=True) if found is not None},
            viewer="../../viewer" if self.pages.viewer else "",
            decisions="decisions" if self.pages.decides and self.for_work else "",
            named=is_named(self.visit),
            files=tuple((name, f"radiologist/files/{name}") for name in _FILES if read(study, name, report_id)),
        )

    def around(self, request: Request, *, images: dict[str, str]) -> Links:
        """What every page links to; who may see the radiologist's page is offered the way from one to the other."""
        query = f"?{request.url.query}" if request.url.query else ""
        both = self.for_work
        audiences = tuple((each, f"{each}{query}") for each in Audience) if both else ()
        return Links(images, audiences=audiences, embed="embed" in request.query_params)


def pages_router(pages: Pages) -> APIRouter:
    """Every route of the pages."""
    router = APIRouter(tags=["pages"], responses=RESPONSES | NOT_FOUND | GONE)
    _add_governing(router, pages)
    _add_files(router, pages)
    _add_patient(router, pages)
    _add_radiologist(router, pages)

    @router.get("/pages/{name}", include_in_schema=False)
    def part(name: str, request: Request) -> Response:
        if name not in (STYLE, *modules()):
            raise HTTPException(404, "There is no such file.")
        return cached(request, asset(name).encode(), _MEDIA[name.rpartition(".")[2]])

    return router


def _add_governing(router: APIRouter, pages: Pages) -> None:
    """The addresses of a study lead to those of the report that governs it."""

    def to(uid: str, audience: Audience, request: Request, shown: Shown) -> RedirectResponse:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"reports/{quote(shown.governing(uid), safe='')}/{audience}{query}", 307)

    @router.get(f"{_STUDY}/patient", response_class=RedirectResponse, status_code=307, summary="The patient's page")
    def patient(study_instance_uid: StudyUid, request: Request, visit: VisitNow) -> RedirectResponse:
        return to(study_instance_uid, Audience.PATIENT, request, pages.for_patients(visit))

    @router.get(
        f"{_STUDY}/radiologist", response_class=RedirectResponse, status_code=307, summary="The radiologist's page"
    )
    def radiologist(study_instance_uid: StudyUid, request: Request, visit: VisitNow) -> RedirectResponse:
        return to(study_instance_uid, Audience.RADIOLOGIST, request, pages.for_radiologists(visit))


def _add_files(router: APIRouter, pages: Pages) -> None:
    """The pages as one file each, as portals fetch them."""

    def file(uid: str, report_id: str, request: Request, shown: Shown) -> HTMLResponse:
        content = result_file(shown.results, uid, "evidence.html", report_id)
        found = None if shown.for_work else shown.withheld(uid, report_id)
        if found is None:
            return HTMLResponse(content)
        return HTMLResponse(withheld_page(found, links=shown.around(request, images={})), HTTPStatus.FORBIDDEN)

    @router.get(f"{_STUDY}/page", response_class=HTMLResponse, summary="The patient's page in one file")
    def page(study_instance_uid: StudyUid, request: Request, visit: VisitNow) -> HTMLResponse:
        """Report and image of the report that governs: hover a phrase, and its region lights up."""
        shown = pages.for_patients(visit)
        return file(study_instance_uid, shown.governing(study_instance_uid), request, shown)

    @router.get(f"{_REPORT}/page", response_class=HTMLResponse, summary="The patient's page of one report in one file")
    def page_of_report(
        study_instance_uid: StudyUid, report_id: ReportId, request: Request, visit: VisitNow
    ) -> HTMLResponse:
        """As portals fetch it; whoever works with reports is shown one that is withheld from patients, too."""
        return file(study_instance_uid, report_id, request, pages.for_patients(visit))


def _add_patient(router: APIRouter, pages: Pages) -> None:
    @router.get(f"{_REPORT}/patient", response_class=HTMLResponse, summary="The patient's page of one report")
    def patient(study_instance_uid: StudyUid, report_id: ReportId, request: Request, visit: VisitNow) -> HTMLResponse:
        """The report in its own words, each phrase explained and lit; or that it is withheld."""
        shown = pages.for_patients(visit)
        try:
            document = shown.document(study_instance_uid, report_id)
        except HTTPException as error:
            if error.status_code != HTTPStatus.GONE:
                raise
            return HTMLResponse(withheld_page(None, links=shown.around(request, images={})), HTTPStatus.GONE)
        found = shown.withheld(study_instance_uid, report_id)
        if found is not None:
            return HTMLResponse(withheld_page(found, links=shown.around(request, images={})), HTTPStatus.FORBIDDEN)
        links = shown.links(request, Audience.PATIENT, document)
        return HTMLResponse(served_page(document, audience=Audience.PATIENT, links=links))

    @router.get(f"{_REPORT}/patient/images/{{sop_instance_uid}}", response_class=Response, summary="An image of it")
    def image(
        study_instance_uid: StudyUid, report_id: ReportId, sop_instance_uid: SopUid, request: Request, visit: VisitNow
    ) -> Response:
        """The upright image as JPEG."""
        shown = pages.for_patients(visit)
        if shown.withheld(study_instance_uid, report_id) is not None:
            raise HTTPException(403, "The report is not shown to patients yet.")
        return cached(request, shown.picture(study_instance_uid, report_id, sop_instance_uid), "image/jpeg")


def _add_radiologist(router: APIRouter, pages: Pages) -> None:
    @router.get(f"{_REPORT}/radiologist", response_class=HTMLResponse, summary="The radiologist's page of one report")
    def radiologist(
        study_instance_uid: StudyUid, report_id: ReportId, request: Request, visit: VisitNow
    ) -> HTMLResponse:
        """The same with the model's figures and heatmaps, and what was written in standard forms."""
        shown = pages.for_radiologists(visit)
        document = shown.document(study_instance_uid, report_id)
        links = shown.links(request, Audience.RADIOLOGIST, document)
        return HTMLResponse(served_page(document, audience=Audience.RADIOLOGIST, links=links))

    @router.get(f"{_REPORT}/radiologist/images/{{sop_instance_uid}}", response_class=Response, summary="An image of it")
    def image(
        study_instance_uid: StudyUid, report_id: ReportId, sop_instance_uid: SopUid, request: Request, visit: VisitNow
    ) -> Response:
        """The upright image as JPEG."""
        shown = pages.for_radiologists(visit)
        return cached(request, shown.picture(study_instance_uid, report_id, sop_instance_uid), "image/jpeg")

    @router.get(
        f"{_REPORT}/radiologist/heatmaps/{{sop_instance_uid}}", response_class=Response, summary="Heatmaps of an image"
    )
    def maps(
        study_instance_uid: StudyUid, report_id: ReportId, sop_instance_uid: SopUid, request: Request, visit: VisitNow
    ) -> Response:
        """The model's maps of the phrases as PNG, one below the other; 255 is probability 1."""
        shown = pages.for_radiologists(visit)
        number = _number(shown.document(study_instance_uid, report_id), sop_instance_uid) + 1
        content = result_file(shown.results, study_instance_uid, f"heatmap-{number}.png", report_id)
        return cached(request, content, "image/png")

    @router.get(f"{_REPORT}/radiologist/files/{{name}}", response_class=Response, summary="SEG, SR, FHIR and evidence")
    def written(
        study_instance_uid: StudyUid, report_id: ReportId, name: str, request: Request, visit: VisitNow
    ) -> Response:
        """What was written in standard forms: DICOM files, the FHIR transaction, the evidence."""
        shown = pages.for_radiologists(visit)
        if name not in _FILES:
            raise HTTPException(404, "There is no such file.")
        content = result_file(shown.results, study_instance_uid, name, report_id)
        return cached(request, content, "application/dicom" if name.endswith(".dcm") else "application/json")


def cached(request: Request, content: bytes, media_type: str) -> Response:
    """*content*, or that it is what the browser has (RFC 9110 13.1.2)."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = CACHED | {"ETag": tag}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _below(folder: str, document: EvidenceDocument) -> dict[str, str]:
    return {image.sop_instance_uid: f"{folder}/{image.sop_instance_uid}" for image in document.images}


def _number(document: EvidenceDocument, sop_instance_uid: str) -> int:
    """Which of the grounded images it is, from 0."""
    for number, image in enumerate(document.images):
        if image.sop_instance_uid == sop_instance_uid:
            return number
    raise HTTPException(404, "The report has no such image.")
