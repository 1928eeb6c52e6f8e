"""DICOMweb for the browser: reads of one study or patient are passed on to the archive with the service's credentials.

The viewer needs the archive on its own origin and must not hold its password. So only GET passes, only below
``studies``, and a search only when it names a study or a patient: nobody lists the archive through this service.
Patients read less: see :mod:`plugin.service.viewer.compartment`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import requests
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask

from plugin.dicomweb import MAX_JSON_BYTES
from plugin.endpoint import Endpoint, session_of
from plugin.errors import TransientError
from plugin.limits import MAX_VALUES, values_in
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results
from plugin.service.problems import NOT_FOUND, RESPONSES
from plugin.service.viewer.compartment import asked_series, search_query, series_among, series_for_patients
from plugin.values import StudyRef

ROOT = "/dicom-web"
JSON = "application/dicom+json"
CHUNK_BYTES = 1 << 16
# PS3.18 10.4 and 10.6: UIDs, names of resources, numbers of frames and tags, with slashes between.
_RESOURCE = re.compile(r"studies(/[A-Za-z0-9][A-Za-z0-9.,_-]*)*")
_STUDY = frozenset({"studyinstanceuid", "0020000d"})
_NAMING = _STUDY | {"patientid", "00100020"}
_WILDCARDS = frozenset("*?")
_ASKED = ("accept", "range")
_ANSWERED = ("content-type", "content-length", "content-range", "accept-ranges")


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of the archive at *endpoint* with the service's credentials."""

    endpoint: Endpoint
    session: requests.Session

    def answer(self, resource: str, query: str, headers: dict[str, str], *, stream: bool) -> requests.Response:
        """What the archive answers; raises TransientError when it is none for who asks here."""
        url = f"{self.endpoint.url.rstrip('/')}/{resource}" + (f"?{query}" if query else "")
        asked = {"Accept-Encoding": "identity"} | headers
        wait_s = self.endpoint.timeout_s
        try:
            answer = self.session.get(url, headers=asked, timeout=wait_s, stream=stream, allow_redirects=False)
        except requests.RequestException as error:
            raise TransientError(f"The archive does not answer ({type(error).__name__}).") from None
        if answer.status_code in (401, 403) or answer.is_redirect:
            answer.close()
            raise TransientError("The archive refuses Sightline: check SIGHTLINE_ARCHIVE_URL and its credentials.")
        return answer

    def passed(self, resource: str, request: Request) -> Response:
        """The answer as it comes."""
        asked = {name: value for name, value in request.headers.items() if name in _ASKED}
        answer = self.answer(resource, request.url.query, asked, stream=True)
        told = {name: value for name, value in answer.headers.items() if name.lower() in _ANSWERED}
        content = answer.raw.stream(CHUNK_BYTES, decode_content=False)
        return StreamingResponse(content, answer.status_code, headers=told, background=BackgroundTask(answer.close))

    def for_patients(self, resource: str, request: Request, series: frozenset[str]) -> Response:
        """The answer as far as it is of *series*."""
        kept = search_query(resource, request.query_params.multi_items())
        if kept is not None:
            return _found(self.answer(resource, urlencode(kept), {"Accept": JSON}, stream=False), resource, series)
        uid = asked_series(resource)
        if not uid:
            raise HTTPException(403, "Only searches and reads of a series of the study pass here.")
        if uid not in series:
            raise HTTPException(404, "There is no such series.")
        return self.passed(resource, request)


def dicomweb_router(archive: Endpoint, results: Results, series_of: Callable[[bytes], str]) -> APIRouter:
    """``GET /dicom-web/...`` answered by *archive*; *results* tell whom a study is about.

    Parameters
    ----------
    series_of : the Series Instance UID of the bytes of a DICOM file.
    """
    reads = Reads(archive, session_of(archive))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        reads.session.close()

    router = APIRouter(tags=["viewer"], lifespan=lifespan)

    @router.get(
        ROOT + "/{resource:path}", responses=RESPONSES | NOT_FOUND, response_class=StreamingResponse, summary="DICOMweb"
    )
    def read(resource: str, request: Request, visit: VisitNow) -> Response:
        """Read the archive as DICOMweb describes it; a search names a study or a patient."""
        if not is_allowed(resource, request.query_params.multi_items()):
            raise HTTPException(403, "Only reads of a study, and searches that name a study or a patient, pass here.")
        studies = named_studies(resource, request.query_params.multi_items())
        if visit.sees.patient is not None and not studies:
            raise HTTPException(403, "Only reads of a study, and searches that name one, pass here.")
        if not all(visit.admits_study(results, study) for study in studies):
            raise HTTPException(404, "There is no such study.")
        if visit.sees.workings:
            return reads.passed(resource, request)
        seen = (series_for_patients(visit.results(results), study, series_of) for study in studies)
        return reads.for_patients(resource, request, frozenset().union(*seen))

    return router


def _found(answer: requests.Response, resource: str, series: frozenset[str]) -> Response:
    """The studies, or those of the series, that a search found."""
    if answer.status_code != HTTPStatus.OK:
        return Response(status_code=HTTPStatus.NO_CONTENT if answer.ok else answer.status_code)
    if len(answer.content) > MAX_JSON_BYTES or values_in(answer.content) > MAX_VALUES:
        raise TransientError("The archive answers more than is read of it.")
    try:
        hits = answer.json()
    except requests.JSONDecodeError:
        raise TransientError("The archive answers something else than DICOM JSON.") from None
    return Response(json.dumps(hits if resource == "studies" else series_among(hits, series)), media_type=JSON)


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
