"""``POST /events``: an archive's script tells of a study. Who tells is proven by a signature, not by an address.

The header ``Sightline-Signature: t=<unix seconds>,n=<nonce>,v1=<hex>`` carries HMAC-SHA256 under the shared secret over
``<t>.<n>.<body>``. An event is taken once, and within the replay window of its time.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import ValidationError

from plugin.errors import InputError
from plugin.service.problems import MEDIA_TYPE, RESPONSES, Problem
from plugin.service.studies import JobAnswer, StudyRequest, Submit

SIGNATURE_HEADER = "Sightline-Signature"
REPLAY_WINDOW_S = 300
_SIGNATURE = re.compile(r"t=(\d{1,12}),n=([0-9a-f]{16,64}),v1=([0-9a-f]{64})", re.ASCII)
_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {
    401: {
        "description": "The event is not signed, its signature does not match, or it was told before.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}
_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": StudyRequest.model_json_schema()}}}
}

#: Called with the signature header ("" when there is none) and the body; raises HTTPException when it is not proven.
Admission = Callable[[str, bytes], None]


class SignedEvents:
    """Admits events signed with *secret*; safe to use from several threads.

    Parameters
    ----------
    secret : what the script signs with; at least 16 characters, as the settings demand.
    clock : seconds since 1970, UTC.
    """

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode()
        self._clock = clock
        self._used: dict[str, float] = {}
        self._lock = Lock()

    def __call__(self, header: str, body: bytes) -> None:
        """Raises HTTPException 401, which says what to mend."""
        parts = _SIGNATURE.fullmatch(header)
        if parts is None:
            raise _unauthorized(f"The event carries no usable {SIGNATURE_HEADER}; set the script's Secret.")
        told_s, nonce, mac = parts.groups()
        expected = hmac.new(self._secret, f"{told_s}.{nonce}.".encode() + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, mac):
            raise _unauthorized("The signature does not match; give both sides the same secret.")
        now = self._clock()
        if abs(now - int(told_s)) > REPLAY_WINDOW_S:
            raise _unauthorized(f"The event's time is more than {REPLAY_WINDOW_S} s from ours; set both clocks.")
        self._use(mac, now)

    def _use(self, mac: str, now: float) -> None:
        """Only what was signed with the secret is remembered, so that strangers cannot fill the memory."""
        with self._lock:
            # A time in the future by the whole window stays valid for twice the window.
            self._used = {old: at for old, at in self._used.items() if now - at <= 2 * REPLAY_WINDOW_S}
            if mac in self._used:
                raise _unauthorized("The event was told before.")
            self._used[mac] = now


def any_event(_header: str, _body: bytes) -> None:
    """Admits every event: for a service that only this machine reaches."""


def no_event(_header: str, _body: bytes) -> None:
    """Admits none: for a service that others reach, while no secret is set."""
    raise HTTPException(
        HTTPStatus.FORBIDDEN, "Events are not taken: set SIGHTLINE_EVENT_SECRET, and the same in the archive's script."
    )


def events_router(admit: Admission, submit: Submit) -> APIRouter:
    """The route; what *admit* lets in is submitted as ``POST /studies`` does."""
    router = APIRouter(tags=["events"])

    async def admitted(request: Request) -> StudyRequest:
        body = await request.body()
        admit(request.headers.get(SIGNATURE_HEADER, ""), body)
        try:
            return StudyRequest.model_validate_json(body)
        except ValidationError:
            raise InputError('The event is not {"study_instance_uid": "..."}.') from None

    @router.post(
        "/events",
        status_code=HTTPStatus.ACCEPTED,
        responses=RESPONSES | _UNAUTHORIZED,
        openapi_extra=_BODY,
        summary="An archive's script tells of a study",
    )
    def event(told: Annotated[StudyRequest, Depends(admitted)], response: Response) -> JobAnswer:
        """As `POST /studies`, signed. Telling again is harmless: the same work is the same job."""
        return submit(told, response)

    return router


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": SIGNATURE_HEADER})
