"""The guard's limits on what requests bring, one by one and together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from plugin.service.guard import Guard

Sent = list[dict[str, Any]]


class Site:
    """A guarded service that keeps each body until the test lets it go."""

    def __init__(self, most: int = 100) -> None:
        self.go = asyncio.Event()
        app = Starlette(routes=[Route("/", self._keep, methods=["POST"])], exception_handlers={HTTPException: _told})
        self.app = Guard(app, max_body_bytes=most)

    async def _keep(self, request: Request) -> Response:
        await request.body()
        await self.go.wait()
        return Response(status_code=204)

    async def post(self, *parts: bytes, stated: str | None = None) -> int:
        """The status of the answer to a request whose body comes in *parts*."""
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        messages.append({"type": "http.request", "body": b"", "more_body": False})
        sent: Sent = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-length", stated.encode())] if stated else []
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        await self.app(scope, receive, send)
        return int(sent[0]["status"])


def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)


def test_requests_that_together_hold_too_much_are_asked_to_wait() -> None:
    async def scene() -> None:
        site = Site()
        first = [asyncio.create_task(site.post(bytes(60), bytes(40))) for _ in range(4)]
        await asyncio.sleep(0)
        while any(not task.done() for task in first) and site.app._held_bytes < 400:
            await asyncio.sleep(0)

        assert await site.post(bytes(1)) == 503
        site.go.set()
        assert await asyncio.gather(*first) == [204] * 4
        assert await site.post(bytes(100)) == 204

    asyncio.run(scene())


@pytest.mark.parametrize("stated", ["101", "9" * 5000])
def test_a_stated_length_is_refused_before_the_body_is_read(stated: str) -> None:
    async def scene() -> int:
        site = Site()
        status = await site.post(stated=stated)
        assert site.app._held_bytes == 0
        return status

    assert asyncio.run(scene()) == 413


def test_what_a_refused_body_held_is_given_back() -> None:
    async def scene() -> None:
        site = Site()
        site.go.set()
        for _ in range(10):
            assert await site.post(bytes(60), bytes(60)) == 413

        assert site.app._held_bytes == 0
        assert await site.post(bytes(100)) == 204

    asyncio.run(scene())


@pytest.mark.parametrize("value", [b"[],", b"0,", b"{},"])
def test_a_body_of_countless_values_is_refused_before_it_is_parsed(value: bytes) -> None:
    async def scene() -> int:
        return await Site(most=10_000_000).post(*[value * 100_000] * 20)

    assert asyncio.run(scene()) == 413
