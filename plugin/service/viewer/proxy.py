"""DICOMweb for the browser: reads of one study or patient are passed on to the archive with the service's credentials.

The viewer needs the archive on its own origin and must not hold its password. So only GET passes, only below
``studies``, and a search only when it names a study or a patient: nobody lists the archive through this service.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import httpx
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from plugin.errors import TransientError
from plugin.service.problems import NOT_FOUND, RESPONSES

ROOT = "/dicom-web"
# PS3.18 10.4 and 10.6: UIDs, names of resources, numbers of frames and tags, with slashes between.
_RESOURCE = re.compile(r"studies(/[A-Za-z0-9][A-Za-z0-9.,_-]*)*")
_NAMING = frozenset({"StudyInstanceUID", "0020000D", "PatientID", "00100020"})
_WILDCARDS = frozenset("*?")
_ASKED = ("accept", "range")
_ANSWERED = ("content-type", "content-length", "content-range", "accept-ranges")


def dicomweb_router(archive_url: str, *, headers: Mapping[str, str], timeout_s: float) -> APIRouter:
    """``GET /dicom-web/...`` answered by the archive at *archive_url*, asked with *headers*."""
    client = httpx.AsyncClient(headers={**headers, "Accept-Encoding": "identity"}, timeout=timeout_s)
    root = archive_url.rstrip("/")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    router = APIRouter(tags=["viewer"], lifespan=lifespan)

    @router.get(
        ROOT + "/{resource:path}", responses=RESPONSES | NOT_FOUND, response_class=StreamingResponse, summary="DICOMweb"
    )
    async def read(resource: str, request: Request) -> StreamingResponse:
        """Read the archive as DICOMweb describes it; a search names a study or a patient."""
        if not is_allowed(resource, request.query_params.multi_items()):
            raise HTTPException(403, "Only reads of a study, and searches that name a study or a patient, pass here.")
        asked = {name: value for name, value in request.headers.items() if name in _ASKED}
        try:
            url = httpx.URL(f"{root}/{resource}", query=request.url.query.encode() or None)
            answer = await client.send(client.build_request("GET", url, headers=asked), stream=True)
        except httpx.HTTPError as error:
            raise TransientError(f"The archive does not answer ({type(error).__name__}).") from None
        if answer.status_code in (401, 403) or answer.is_redirect:
            await answer.aclose()
            raise TransientError("The archive refuses Sightline: check SIGHTLINE_ARCHIVE_URL and its credentials.")
        told = {name: value for name, value in answer.headers.items() if name.lower() in _ANSWERED}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers=told, background=BackgroundTask(answer.aclose)
        )

    return router


def is_allowed(resource: str, query: Iterable[tuple[str, str]]) -> bool:
    """Whether *resource* (below the DICOMweb root) may be read with *query*."""
    if _RESOURCE.fullmatch(resource) is None or ".." in resource:
        return False
    named = {name for name, value in query if value and not _WILDCARDS & set(value)}
    return resource != "studies" or bool(named & _NAMING)
