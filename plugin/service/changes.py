"""That the worklist changed, told to open pages as server-sent events (HTML 9.2), and nothing else: a page then asks
for its list as ever. Whoever cannot listen asks every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from plugin.errors import SightlineError
from plugin.identity import sha256_hex
from plugin.service.parts import Services

CHANGES: Final = "/changes"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy waits for more


@dataclass(slots=True)
class Changes:
    """Tells those who listen; on one event loop.

    Parameters
    ----------
    state : another text whenever the worklist changed. It is asked once in *every_s*, however many listen, and not at
        all while nobody does.
    most : listeners at a time; a browser that is sent away with 204 does not come again (HTML 9.2.1).
    longest_s : after that a browser connects again, and its rights are looked at anew.
    quiet_s : without a change, a line that says nothing goes out, so that broken connections are seen.
    """

    state: Callable[[], str]
    every_s: float = 1.0
    most: int = 200
    longest_s: float = 300.0
    quiet_s: float = 15.0
    listening: int = 0
    _tag: str = ""
    _made: float = float("-inf")
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def listen(self, seen: str, is_ending: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Events for one listener, who was told *seen* last; until *is_ending*, or for long enough."""
        self.listening += 1
        try:
            ends = time.monotonic() + self.longest_s
            said = time.monotonic()
            yield b"retry: 5000\n\n"
            while not is_ending() and time.monotonic() < ends:
                tag = await self._now()
                if tag != seen:
                    seen, said = tag, time.monotonic()
                    yield f"id: {tag}\ndata: changed\n\n".encode()
                elif time.monotonic() - said > self.quiet_s:
                    said = time.monotonic()
                    yield b":\n\n"
                await asyncio.sleep(self.every_s)
        finally:
            self.listening -= 1

    async def _now(self) -> str:
        async with self._asking:
            if time.monotonic() - self._made >= self.every_s:
                with contextlib.suppress(SightlineError):  # the database is away: as it was
                    self._tag = sha256_hex((await run_in_threadpool(self.state)).encode())[:16]
                self._made = time.monotonic()
            return self._tag


def state_of(services: Services) -> str:
    """The job that changed last, what waits for a person, and how far long work is."""
    jobs, _ = services.queue.page(1)
    progress = [(each.plan, each.updated, each.ended) for each in services.progress()]
    return repr((jobs, services.queue.paused(), sorted(services.intake.book.counts().items()), progress))


def changes_router(changes: Changes) -> APIRouter:
    """The route; ``app.state.is_ending`` tells it that the server ends, which waits for it."""
    router = APIRouter()

    @router.get(CHANGES, include_in_schema=False)
    async def listen(request: Request, last_event_id: Annotated[str, Header(max_length=100)] = "") -> Response:
        if changes.listening >= changes.most:
            return Response(status_code=204)
        is_ending = getattr(request.app.state, "is_ending", lambda: False)
        events = changes.listen(last_event_id, is_ending)
        return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)

    return router
