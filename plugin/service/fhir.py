"""``/fhir``: multimedia reports, their pages and their regions for FHIR clients (IHE RAD IMR). Reads only."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from plugin.errors import SightlineError, TransientError
from plugin.fhir.multimedia import FHIR_ROOT, page_policy
from plugin.fhir.parts import Fhir
from plugin.imr.capability import VERSIONS, capability_statement
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.refusal import RefusalError, bad_request, outcome
from plugin.service.entrance import visit_of
from plugin.service.problems import RETRY_AFTER_S, log_defect

JSON = "application/fhir+json"
HTML = "text/html"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_JSON_NAMES = ("application/fhir+json", "application/json", "text/json", "application/*", "*/*")
_DOCS: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": {JSON: {}}}
    for status, what in {
        400: "The request cannot be understood (OperationOutcome).",
        404: "There is no such resource here (OperationOutcome).",
        406: "It cannot be had in any of the formats asked for (OperationOutcome).",
        415: "A search by POST has a form as its body (OperationOutcome).",
    }.items()
}


class FhirRoute(APIRoute):
    """A route whose errors are OperationOutcomes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own handler, and what becomes of its errors."""
        answered = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answered(request)
            except RefusalError as refusal:
                return _refused(refusal.status, refusal.code, refusal.text)
            except TransientError as error:
                answer = _refused(503, "transient", str(error))
                answer.headers["Retry-After"] = str(RETRY_AFTER_S)
                return answer
            except (SightlineError, ValueError) as error:
                log_defect(f"{request.method} {self.path}", error)
                return _refused(500, "exception", "This is a defect of Sightline; please report it.")

        return handler


@dataclass(frozen=True, slots=True)
class FhirService:
    """What the routes answer from.

    Parameters
    ----------
    public_url : how others reach the service; None: as each request does.
    creates : whether multimedia reports are stored at a FHIR server, too.
    """

    reports: MultimediaReports
    public_url: str | None = None
    creates: bool = False

    def base(self, request: Request) -> str:
        """Where the service is reached, without a slash at its end."""
        return (self.public_url or str(request.base_url)).rstrip("/")

    def seen(self, request: Request) -> MultimediaReports:
        """The reports that the caller sees."""
        return visit_of(request).reports(self.reports)

    async def find(self, request: Request, *, posted: bool = False) -> Response:
        """A search for multimedia reports, its parameters in the address and in the body of a POST."""
        _json_asked(request, "4.0")
        pairs = [*request.query_params.multi_items(), *(await _form(request) if posted else ())]
        lenient, base = _lenient(request), self.base(request)
        reports = self.seen(request)
        return _json(await run_in_threadpool(reports.find, pairs, base=base, lenient=lenient), "4.0")

    async def find_selections(self, request: Request, *, posted: bool = False) -> Response:
        """The same for ImagingSelections."""
        _json_asked(request, "5.0")
        pairs = [*request.query_params.multi_items(), *(await _form(request) if posted else ())]
        lenient, base = _lenient(request), self.base(request)
        reports = self.seen(request)
        return _json(await run_in_threadpool(reports.find_selections, pairs, base=base, lenient=lenient), "5.0")


def fhir_router(service: FhirService) -> APIRouter:
    """The routes; whatever none of them is, is refused as FHIR does it."""
    router = APIRouter(
        prefix=FHIR_ROOT, tags=["fhir"], route_class=FhirRoute, responses=_DOCS, default_response_class=Response
    )

    @router.get("/metadata", name="capabilities", summary="What this endpoint can do")
    def metadata(request: Request) -> Response:
        """The CapabilityStatement: R4, or with `fhirVersion=5.0` in Accept that of the R5 resources."""
        version = _json_asked(request, *VERSIONS)
        named, base = _names(router.routes), service.base(request)
        return _json(capability_statement(named, version=version, base=base, creates=service.creates), version)

    _add_reports(router, service)
    _add_regions(router, service)

    @router.api_route("/{_:path}", methods=[*_METHODS], include_in_schema=False, name="others")
    def others(request: Request) -> Response:
        if request.method == "GET":
            raise RefusalError(404, "not-supported", "There is no such resource type or operation here.")
        raise RefusalError(405, "not-supported", "This endpoint is only read.")

    return router


def _add_reports(router: APIRouter, service: FhirService) -> None:
    @router.get("/DiagnosticReport", name="DiagnosticReport:search-type", summary="Find Multimedia Report [RAD-143]")
    async def find(request: Request) -> Response:
        """The multimedia reports that match all parameters; `/fhir/metadata` lists them."""
        return await service.find(request)

    @router.post(
        "/DiagnosticReport/_search", name="DiagnosticReport:search-type", summary="Find Multimedia Report by a form"
    )
    async def find_posted(request: Request) -> Response:
        """As by GET; parameters in the body do not end in logs of proxies."""
        return await service.find(request, posted=True)

    @router.get("/DiagnosticReport/{resource_id}", name="DiagnosticReport:read", summary="One multimedia report")
    def read(resource_id: str, request: Request) -> Response:
        """The report; when the radiologist's was withdrawn, it says `entered-in-error` and nothing more."""
        _json_asked(request, "4.0")
        return _json(service.seen(request).read(resource_id, base=service.base(request)), "4.0")

    @router.get("/Binary/{resource_id}", name="Binary:read", summary="Retrieve Rendered Multimedia Report [RAD-144]")
    def page(resource_id: str, request: Request) -> Response:
        """The report as an HTML page whose phrases are links; as a Binary resource when FHIR's JSON is asked for."""
        kind = _binary_asked(request)
        content = service.seen(request).page(resource_id, base=service.base(request))
        if kind == HTML:
            headers = {"Content-Security-Policy": page_policy()}
            return Response(content, media_type=f"{HTML}; charset=utf-8", headers=headers)
        data = base64.b64encode(content).decode()
        return _json({"resourceType": "Binary", "id": resource_id, "contentType": HTML, "data": data}, "4.0")

    @router.get("/Observation/{resource_id}", name="Observation:read", summary="What a report says of a finding")
    def observation(resource_id: str, request: Request) -> Response:
        """An Observation that a multimedia report names as its result."""
        _json_asked(request, "4.0")
        return _json(service.seen(request).observation(resource_id), "4.0")


def _add_regions(router: APIRouter, service: FhirService) -> None:
    @router.get("/ImagingSelection", name="ImagingSelection:search-type", summary="Regions of phrases, R5")
    async def find(request: Request) -> Response:
        """The lit regions that match all parameters."""
        return await service.find_selections(request)

    @router.post("/ImagingSelection/_search", name="ImagingSelection:search-type", summary="Regions by a form, R5")
    async def find_posted(request: Request) -> Response:
        """As by GET."""
        return await service.find_selections(request, posted=True)

    @router.get("/ImagingSelection/{resource_id}", name="ImagingSelection:read", summary="A phrase's region, R5")
    def read(resource_id: str, request: Request) -> Response:
        """What an `imr-ref` span of a report names."""
        _json_asked(request, "5.0")
        return _json(service.seen(request).selection(resource_id), "5.0")


def _names(routes: Iterable[BaseRoute]) -> tuple[str, ...]:
    """What routes do, as "Type:interaction"."""
    named = (str(getattr(route, "name", "")) for route in routes)
    return tuple(name for name in named if ":" in name)


async def _form(request: Request) -> list[tuple[str, str]]:
    """The parameters in the body of a search by POST (R4 http.html#search)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusalError(415, "not-supported", "A search by POST has a body of application/x-www-form-urlencoded.")
    try:
        body = (await request.body()).decode()
        return parse_qsl(body, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise bad_request("The body is no form in UTF-8.") from None


def _lenient(request: Request) -> bool:
    return re.search(r"handling\s*=\s*lenient", request.headers.get("prefer", "")) is not None


def _json_asked(request: Request, *versions: str) -> str:
    """The one of the FHIR *versions* that is asked for, the first by default.

    Raises
    ------
    RefusalError
        406, if only another format or version is wanted.
    """
    wanted = request.query_params.get("_format") or request.headers.get("accept") or "*/*"
    for kind, version in _ranges(wanted):
        if kind in (*_JSON_NAMES, "json") and (not version or version in versions):
            return version or versions[0]
    raise RefusalError(406, "not-supported", f"This is answered as {JSON} of FHIR {' or '.join(versions)} only.")


def _binary_asked(request: Request) -> str:
    """The media type of a Binary's answer: its own, unless FHIR's JSON is asked for (R4 binary.html#rest)."""
    wanted = request.query_params.get("_format") or request.headers.get("accept") or "*/*"
    for kind, _ in _ranges(wanted):
        if kind in (HTML, "text/*", "*/*", "html"):
            return HTML
        if kind in (*_JSON_NAMES, "json"):
            return JSON
    raise RefusalError(406, "not-supported", f"A rendered report is {HTML}, or a Binary as {JSON}.")


def _ranges(accept: str) -> Iterable[tuple[str, str]]:
    """(media type, fhirVersion or "") of the ranges of an Accept header that are wanted at all, best first."""
    found = []
    for part in accept.split(","):
        kind, *settings = (each.strip().lower() for each in part.split(";"))
        given = dict(each.replace(" ", "").partition("=")[::2] for each in settings)
        weight = float(given["q"]) if re.fullmatch(r"[01](\.\d{0,3})?", given.get("q", "")) else 1.0
        # In an address a plus sign that was not encoded is a blank.
        found.append((weight, kind.replace(" ", "+"), given.get("fhirversion", "").strip('"')))
    return ((kind, version) for weight, kind, version in sorted(found, key=lambda each: -each[0]) if weight)


def _json(resource: Fhir, version: str) -> Response:
    content = json.dumps(resource, ensure_ascii=False).encode()
    meta = resource.get("meta", {})
    headers = {"ETag": f'W/"{meta["versionId"]}"'} if "versionId" in meta else {}
    return Response(content, media_type=f"{JSON}; fhirVersion={version}", headers=headers)


def _refused(status: int, code: str, text: str) -> Response:
    return Response(json.dumps(outcome(code, text)), status, media_type=JSON)
