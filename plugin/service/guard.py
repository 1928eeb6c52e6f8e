"""What stands before every route: a limit on bodies, headers on answers, and no detail of unexpected errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugin.limits import MAX_VALUES, values_in
from plugin.service.problems import log_defect, problem, problem_of

# Answers hold patient data: not kept in caches, not sniffed, not told to other sites; and no page needs the device.
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
HSTS = "max-age=31536000"
# What is data runs nothing, should it be opened as a page. Scripts are not among it: workers take their policy over.
_DATA = (
    "application/json",
    "application/fhir+json",
    "application/problem+json",
    "application/dicom",
    "image/",
    "text/plain",
)
_FRAMES = re.compile(r"(?:^|;)\s*frame-ancestors[^;]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shield:
    """What answers tell browsers to hold to.

    Parameters
    ----------
    frame_ancestors : origins of portals that may show our pages in a frame.
    tls : whether browsers come through TLS, and shall come so for ever.
    """

    frame_ancestors: tuple[str, ...] = ()
    tls: bool = False

    def complete(self, headers: MutableHeaders) -> None:
        """Add to *headers* what they lack; who may frame us is told here alone."""
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self.tls:
            headers["Strict-Transport-Security"] = HSTS
        data = headers.get("content-type", "").startswith(_DATA)
        policy = headers.get("content-security-policy", "default-src 'none'" if data else "")
        framed = " ".join(("'self'", *self.frame_ancestors)) if self.frame_ancestors else "'none'"
        parts = (_FRAMES.sub("", policy).strip(" ;"), f"frame-ancestors {framed}")
        headers["Content-Security-Policy"] = "; ".join(filter(None, parts))


# Bodies of the greatest size that are held at the same time.
_AT_ONCE = 4
# Of a stated length; Python refuses to read numbers of thousands of digits.
_MOST_DIGITS = 18


def behind_tls(public_url: str | None) -> bool:
    """Whether browsers come through TLS."""
    return urlsplit(public_url or "").scheme == "https"


class Guard:
    """ASGI middleware, the outermost.

    Parameters
    ----------
    max_body_bytes : a larger body is refused with 413: at once when its length is stated, else while it is read.
        The bodies of all requests at work together may have four times as much; who comes too much is asked to wait.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, shield: Shield = Shield()) -> None:
        self._app = app
        self._shield = shield
        self._max_body_bytes = max_body_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        read = values = 0

        async def receive_limited() -> Message:
            nonlocal read, values
            message = await receive()
            body = message.get("body", b"")
            read += len(body)
            values += values_in(body)
            self._held_bytes += len(body)
            self._check(read, values)
            return message

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._shield.complete(MutableHeaders(scope=message))
            await send(message)

        try:
            if self._states_too_much(scope):
                await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)(scope, receive, send_guarded)
                return
            await self._app(scope, receive_limited, send_guarded)
        except Exception as error:  # noqa: BLE001 - the last resort of every request: answered, and logged without data
            log_defect("request", error)
            if not started:
                await problem_of(error)(scope, receive, send_guarded)
        finally:
            self._held_bytes -= read

    def _check(self, read_bytes: int, values: int) -> None:
        # FastAPI lets these pass while it reads a body; any other exception it would answer itself.
        if values > MAX_VALUES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {MAX_VALUES:,} values.")
        if read_bytes > self._max_body_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
        if self._held_bytes > _AT_ONCE * self._max_body_bytes:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "Too many large requests at once; try again later.")

    @property
    def _too_large(self) -> str:
        return f"The body is larger than {self._max_body_bytes} bytes."

    def _states_too_much(self, scope: Scope) -> bool:
        stated = Headers(scope=scope).get("content-length", "0")
        return stated.isdecimal() and (len(stated) > _MOST_DIGITS or int(stated) > self._max_body_bytes)
