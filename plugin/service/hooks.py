"""``/hooks/reports``: a FHIR server says that a report may have come. It only wakes the poll, which is the authority.

Nothing of what is sent is believed, or even parsed: an empty request, a resource, or the notification bundle of a topic
(handshake, heartbeat and event alike) all mean "look now". Whoever knows the secret can make us look once a second.
"""

import asyncio
import hmac
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response

from plugin.fhir.subscription import HOOK_HEADER

MOST_BYTES: Final = 1_000_000
LEAST_S: Final = 1.0


class Coalesced:
    """Calls *wake* soon, and not more often than every *least_s*, however often it is called; on one event loop."""

    def __init__(self, wake: Callable[[], object], *, least_s: float = LEAST_S) -> None:
        self._wake = wake
        self._least_s = least_s
        self._next = 0.0
        self._waiting = False

    def __call__(self) -> None:
        if self._waiting:
            return
        self._waiting = True
        loop = asyncio.get_running_loop()
        loop.call_at(max(loop.time(), self._next), self._fire)

    def _fire(self) -> None:
        self._waiting = False
        self._next = asyncio.get_running_loop().time() + self._least_s
        self._wake()


def hooks_router(secret: str, wake: Callable[[], object]) -> APIRouter:
    """The route; *wake* returns at once. Its answers have no body, since HAPI would read that as FHIR."""
    router = APIRouter(tags=["events"])
    soon = Coalesced(wake)
    expected = secret.encode()

    # R4 servers PUT to [endpoint]/[type]/[id] when they are asked for a payload.
    @router.api_route("/hooks/reports", methods=["POST"], summary="A FHIR server tells that reports may have come")
    @router.api_route("/hooks/reports/{_:path}", methods=["POST", "PUT", "DELETE"], include_in_schema=False)
    async def told(request: Request) -> Response:
        """The header Sightline-Hook-Secret is checked; the body, up to 1 MB, is not looked at."""
        if not hmac.compare_digest(request.headers.get(HOOK_HEADER, "").encode("latin-1"), expected):
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        read = 0
        async for part in request.stream():
            read += len(part)
            if read > MOST_BYTES:
                return Response(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        soon()
        return Response(status_code=HTTPStatus.OK)

    return router
