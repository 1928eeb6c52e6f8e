"""The viewer's routes: its files, our configuration and panel, DICOMweb, and links that open a study lit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from plugin.endpoint import Endpoint
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results, study_of
from plugin.service.problems import NOT_FOUND, RESPONSES
from plugin.service.viewer.compartment import SEGMENTATIONS
from plugin.service.viewer.proxy import dicomweb_router
from plugin.values import StudyRef

# The viewer compiles WebAssembly codecs and builds workers and styles at run time; it loads nothing from elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'none'"
)
_OWN = {"app-config.js": "text/javascript", "sightline.js": "text/javascript"}
_REPORT = ("sr.dcm",)
_UNCHANGED = {"Cache-Control": "no-cache"}  # asked for again by its ETag: an upgrade shows at once


@dataclass(frozen=True, slots=True)
class Viewer:
    """What the viewer's routes work with.

    Parameters
    ----------
    folder : OHIF's built files, with ``index.html``.
    archive : the DICOMweb server that the viewer reads through this service.
    series_of : the Series Instance UID of the bytes of a DICOM file.
    """

    folder: Path
    archive: Endpoint
    series_of: Callable[[bytes], str]


class WrittenSeries(BaseModel):
    """Series Instance UIDs of what Sightline wrote, in the order of the images."""

    segmentations: tuple[str, ...]
    reports: tuple[str, ...]


def viewer_router(viewer: Viewer, results: Results) -> APIRouter:
    """Everything but the viewer's own files, which :func:`serve_files` adds behind all other routes."""
    router = APIRouter(tags=["viewer"])
    router.include_router(dicomweb_router(viewer.archive, results, viewer.series_of))

    @router.get(
        "/studies/{study_instance_uid}/viewer",
        responses=RESPONSES | NOT_FOUND,
        status_code=307,
        response_class=RedirectResponse,
        summary="The study in the viewer, lit",
    )
    def open_study(study_instance_uid: str, visit: VisitNow, show: Literal["seg", "sr"] = "seg") -> RedirectResponse:
        """To the viewer with the regions (SEG) or the structured report (SR) of the newest results open."""
        study = study_of(study_instance_uid)
        query = {"StudyInstanceUIDs": study.study_instance_uid}
        shown = SEGMENTATIONS if show == "seg" or not visit.sees.workings else _REPORT
        for series in _series(viewer, visit.results(results), study, shown)[:1]:
            query["initialSeriesInstanceUID"] = series
        return RedirectResponse(f"/viewer?{urlencode(query)}", 307)

    @router.get(
        "/studies/{study_instance_uid}/series", responses=RESPONSES | NOT_FOUND, summary="The series of the results"
    )
    def series(study_instance_uid: str, visit: VisitNow) -> WrittenSeries:
        """Which series of the archive hold the newest results of the study."""
        study, seen = study_of(study_instance_uid), visit.results(results)
        if seen.read(study, "evidence.json") is None:
            raise HTTPException(404, "There are no results of this study yet; POST /studies asks for them.")
        return WrittenSeries(
            segmentations=_series(viewer, seen, study, SEGMENTATIONS),
            reports=_series(viewer, seen, study, _REPORT) if visit.sees.workings else (),
        )

    @router.get("/viewer", include_in_schema=False)
    @router.get("/viewer/{_:path}", include_in_schema=False)
    def index() -> FileResponse:
        headers = _UNCHANGED | {"Content-Security-Policy": POLICY}
        return FileResponse(viewer.folder / "index.html", media_type="text/html", headers=headers)

    @router.get("/app-config.js", include_in_schema=False)
    def configuration() -> Response:
        return _own("app-config.js")

    @router.get("/sightline/{name}", include_in_schema=False)
    def own(name: str) -> Response:
        return _own(name)

    return router


def _series(viewer: Viewer, results: Results, study: StudyRef, names: tuple[str, ...]) -> tuple[str, ...]:
    written = (results.read(study, name) for name in names)
    return tuple(viewer.series_of(content) for content in written if content is not None)


def serve_files(app: FastAPI, viewer: Viewer) -> None:
    """Answer whatever no route of *app* answers from the viewer's files; call it last."""
    app.mount("/", _Files(directory=viewer.folder), name="viewer-files")


def _own(name: str) -> Response:
    if name not in _OWN:
        raise HTTPException(404, "There is no such file.")
    content = files("plugin.service.viewer").joinpath(name).read_bytes()
    return Response(content, media_type=f"{_OWN[name]}; charset=utf-8", headers=_UNCHANGED)


class _Files(StaticFiles):
    """Files that browsers keep, and ask about before they use them again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers.update(_UNCHANGED)
        return answer
