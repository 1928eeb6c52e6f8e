"""Errors as problem details (RFC 9457). None repeats what was sent, since that may be patient data."""

from __future__ import annotations

import logging
import traceback
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from plugin.errors import InputError, SightlineError, TransientError

RETRY_AFTER_S = 30
MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem detail (RFC 9457)."""

    type: str = Field(default="about:blank")
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["That is not a study instance UID: digits and dots, at most 64 characters."])


# What FastAPI's description of a route says of its errors.
RESPONSES: dict[int | str, dict[str, Any]] = {
    422: {
        "description": "The input cannot be used as it is.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    },
    503: {
        "description": "Something outside is not available now; try again after the seconds of Retry-After.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    },
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {
        "description": "There is no such thing (yet).",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}
GONE: dict[int | str, dict[str, Any]] = {
    410: {
        "description": "It was taken back.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}


def problem(status: int, detail: str) -> JSONResponse:
    """The answer for an error."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(body.model_dump(), status, media_type=MEDIA_TYPE, headers=headers)


def problem_of(error: Exception) -> JSONResponse:
    """The answer for any exception: only our own errors are quoted, which carry no patient data."""
    match error:
        case InputError():
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        case TransientError():
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        case _:
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "This is a defect of Sightline; please report it.")


def where(error: BaseException) -> str:
    """Type and place of *error* for the log, without its message, which may quote the input."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(
        [type(error).__name__, *(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames[::-1])]
    )


def log_defect(what: str, error: BaseException) -> None:
    """One line for an error that should not be."""
    _log.error("%s failed: %s", what, where(error))


def answer_with_problems(app: FastAPI) -> None:
    """Let every error of *app*'s routes be answered by a problem detail."""

    @app.exception_handler(SightlineError)
    def of_ours(request: Request, error: Exception) -> JSONResponse:
        answer = problem_of(error)
        if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            log_defect(f"{request.method} {_route(request)}", error)
        return answer

    @app.exception_handler(RequestValidationError)
    def of_validation(_: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(map(_place_and_kind, error.errors()[:5]))
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The request is not as /openapi.json describes it: {wrong}.")

    @app.exception_handler(HTTPException)
    def of_http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI's, of a body that is no text or nested too deeply
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The body cannot be read; send JSON in UTF-8.")
        answer = problem(error.status_code, error.detail)
        answer.headers.update(error.headers or {})
        return answer


def _place_and_kind(wrong: dict[str, Any]) -> str:
    """Never the message of pydantic, nor a name that we did not define: both may quote the input."""
    place = wrong["loc"][:-1] if wrong["type"] == "extra_forbidden" else wrong["loc"]
    return f"{'.'.join(map(str, place))}: {wrong['type']}"


def _route(request: Request) -> str:
    """The pattern of the route, without the values in it."""
    return str(getattr(request.scope.get("route"), "path", "?"))
