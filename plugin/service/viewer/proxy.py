"""DICOMweb for the browser: reads of one study or patient are passed on to the archive with the service's credentials.

The viewer needs the archive on its own origin and must not hold its password. So only GET passes, only below
``studies``, and a search only when it names a study or a patient: nobody lists the archive through this service.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import requests
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from plugin.endpoint import Endpoint, session_of
from plugin.errors import TransientError
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results
from plugin.service.problems import NOT_FOUND, RESPONSES
from plugin.values import StudyRef

ROOT = "/dicom-web"
CHUNK_BYTES = 1 << 16
# PS3.18 10.4 and 10.6: UIDs, names of resources, numbers of frames and tags, with slashes between.
_RESOURCE = re.compile(r"studies(/[A-Za-z0-9][A-Za-z0-9.,_-]*)*")
_STUDY = frozenset({"studyinstanceuid", "0020000d"})
_NAMING = _STUDY | {"patientid", "00100020"}
_WILDCARDS = frozenset("*?")
_ASKED = ("accept", "range")
_ANSWERED = ("content-type", "content-length", "content-range", "accept-ranges")


def dicomweb_router(archive: Endpoint, results: Results) -> APIRouter:
    """``GET /dicom-web/...`` answered by *archive*; *results* tell whom a study is about."""
    session = session_of(archive)
    root = archive.url.rstrip("/")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        session.close()

    router = APIRouter(tags=["viewer"], lifespan=lifespan)

    @router.get(
        ROOT + "/{resource:path}", responses=RESPONSES | NOT_FOUND, response_class=StreamingResponse, summary="DICOMweb"
    )
    def read(resource: str, request: Request, visit: VisitNow) -> StreamingResponse:
        """Read the archive as DICOMweb describes it; a search names a study or a patient."""
        if not is_allowed(resource, request.query_params.multi_items()):
            raise HTTPException(403, "Only reads of a study, and searches that name a study or a patient, pass here.")
        studies = named_studies(resource, request.query_params.multi_items())
        if visit.sees.patient is not None and not studies:
            raise HTTPException(403, "Only reads of a study, and searches that name one, pass here.")
        if not all(visit.admits_study(results, study) for study in studies):
            raise HTTPException(404, "There is no such study.")
        asked = {"Accept-Encoding": "identity"} | {n: v for n, v in request.headers.items() if n in _ASKED}
        url = f"{root}/{resource}" + (f"?{request.url.query}" if request.url.query else "")
        try:
            answer = session.get(url, headers=asked, timeout=archive.timeout_s, stream=True, allow_redirects=False)
        except requests.RequestException as error:
            raise TransientError(f"The archive does not answer ({type(error).__name__}).") from None
        if answer.status_code in (401, 403) or answer.is_redirect:
            answer.close()
            raise TransientError("The archive refuses Sightline: check SIGHTLINE_ARCHIVE_URL and its credentials.")
        told = {name: value for name, value in answer.headers.items() if name.lower() in _ANSWERED}
        content = answer.raw.stream(CHUNK_BYTES, decode_content=False)
        return StreamingResponse(content, answer.status_code, headers=told, background=BackgroundTask(answer.close))

    return router


def named_studies(resource: str, query: Iterable[tuple[str, str]]) -> tuple[StudyRef, ...]:
    """The studies that a read of *resource* with *query* is about; none, when it names none, or anything else.

    A UID in the path counts alone; below it, and in a search, one in the query must say the same.
    """
    asked = [part for name, value in query if _spelt(name) in _STUDY for part in re.split(r"[,\\]", value)]
    _, _, rest = resource.partition("studies/")
    try:
        return tuple(dict.fromkeys(StudyRef(uid) for uid in (*filter(None, (rest.partition("/")[0],)), *asked)))
    except ValueError:
        return ()


def is_allowed(resource: str, query: Iterable[tuple[str, str]]) -> bool:
    """Whether *resource* (below the DICOMweb root) may be read with *query*.

    Of several values for one attribute an archive may take any, so each of them has to name.
    """
    if _RESOURCE.fullmatch(resource) is None or ".." in resource:
        return False
    named = [value for name, value in query if _spelt(name) in _NAMING]
    return resource != "studies" or (bool(named) and all(value and not _WILDCARDS & set(value) for value in named))


def _spelt(name: str) -> str:
    """The name of an attribute as every archive reads it: servers take tags in small letters, and with commas."""
    return re.sub(r"[^0-9a-z]", "", name.lower())
