"""Open worklists are told that something changed: by one question for all of them, and within bounds."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from memory import Site

from plugin.errors import TransientError
from plugin.ports import JobState
from plugin.results import ResultFolder
from plugin.service import Services
from plugin.service.changes import Changes, changes_router, state_of
from plugin.values import StudyRef


class Asked:
    """A worklist whose state is counted when it is asked for."""

    def __init__(self) -> None:
        self.times, self.state, self.away = 0, "first", False

    def __call__(self) -> str:
        self.times += 1
        if self.away:
            raise TransientError("the database is away")
        return self.state


def going_on() -> bool:
    return False


async def next_of(events: AsyncIterator[bytes]) -> bytes:
    return await asyncio.wait_for(anext(events), 30)


def services(folder: Path) -> Services:
    site, unused = Site(folder), None
    any_: Any = unused
    return Services(site.queue, ResultFolder(folder / "r"), any_, site.intake, any_, any_, any_)


def test_whoever_listens_is_told_at_once_and_at_each_change() -> None:
    async def run() -> None:
        asked = Asked()
        events = Changes(asked, every_s=0.01).listen("", going_on)

        told = [await next_of(events), await next_of(events)]
        asked.state = "second"
        told.append(await next_of(events))

        assert told[0] == b"retry: 5000\n\n"
        tags = [re.fullmatch(rb"id: ([0-9a-f]{16})\ndata: changed\n\n", each) for each in told[1:]]
        assert all(tags)
        assert tags[0][1] != tags[1][1]  # type: ignore[index]
        await events.aclose()

    asyncio.run(run())


def test_whoever_comes_again_is_told_only_what_they_missed() -> None:
    async def run() -> None:
        asked = Asked()
        changes = Changes(asked, every_s=0.01, quiet_s=0.05)
        events = changes.listen("", going_on)
        await next_of(events)
        tag = (await next_of(events)).partition(b"\n")[0].removeprefix(b"id: ").decode()
        await events.aclose()

        again = changes.listen(tag, going_on)
        assert await next_of(again) == b"retry: 5000\n\n"
        assert await next_of(again) == b":\n\n", "nothing but a sign of life"
        asked.state = "second"
        assert b"changed" in await next_of(again)
        await again.aclose()
        assert changes.listening == 0

    asyncio.run(run())


def test_one_question_does_for_all_who_listen_and_none_is_asked_for_nobody() -> None:
    async def run() -> None:
        asked = Asked()
        changes = Changes(asked, every_s=0.2, longest_s=1.0)

        async def one() -> int:
            return len([each async for each in changes.listen("", going_on)])

        began = time.monotonic()
        told = await asyncio.gather(*(one() for _ in range(50)))
        took, times = time.monotonic() - began, asked.times

        assert told == [2] * 50
        assert times <= took / 0.2 + 1
        await asyncio.sleep(0.5)
        assert asked.times == times
        assert changes.listening == 0

    asyncio.run(run())


def test_a_database_that_is_away_is_no_change() -> None:
    async def run() -> None:
        asked = Asked()
        events = Changes(asked, every_s=0.01, quiet_s=0.05).listen("", going_on)
        await next_of(events)
        await next_of(events)
        asked.away = True

        assert await next_of(events) == b":\n\n"
        await events.aclose()

    asyncio.run(run())


def test_the_end_of_the_server_is_not_held_up() -> None:
    async def run() -> None:
        ending: list[bool] = []
        changes = Changes(Asked(), every_s=0.01)
        events = changes.listen("", lambda: bool(ending))
        await next_of(events)
        await next_of(events)
        ending.append(True)

        assert [each async for each in events] == []
        assert changes.listening == 0

    asyncio.run(run())


def test_one_too_many_is_sent_away_for_good() -> None:
    app, changes = FastAPI(), Changes(Asked())
    app.include_router(changes_router(changes))
    app.state.is_ending = lambda: True
    http = TestClient(app)

    answer = http.get("/changes")
    changes.listening = changes.most

    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert http.get("/changes").status_code == 204


def test_the_state_is_another_when_a_job_or_a_report_changes(tmp_path: Path) -> None:
    made = services(tmp_path)
    seen = [state_of(made)]
    queue: Any = made.queue

    queue.put("job", StudyRef("1.2.3"))
    seen.append(state_of(made))
    queue.change("job", JobState.FAILED, error="no")
    seen.append(state_of(made))
    queue.pause()
    seen.append(state_of(made))

    assert len(set(seen)) == 4
    assert state_of(made) == seen[-1]
