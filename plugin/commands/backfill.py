"""``sightline backfill``: take the studies that an archive holds already, behind everything else."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from plugin.backfill import BackfillProgress, Ledger, Pace, Plan, ProgressFile, Tally, backfill
from plugin.ports import JobState, Priority
from plugin.settings import Settings, load_settings
from plugin.wiring import make_days, make_edges, make_intake, make_queue, make_tools

EVERY_S = 3.0


def run(plan: Plan, *, per_minute: float, most_queued: int, dry_run: bool) -> int:
    """Count, then take what is left, then report; with *dry_run* only count."""
    settings = load_settings()
    console = Console()
    find = make_days(settings, plan.modality)
    ledger = Ledger(settings.data_dir / f"{plan.name}.json")
    done, _ = ledger.read()
    with console.status("Counting"):
        counted = {day: len(find(day)) for day in plan.days(after=done)}
    left = sum(counted.values())
    days = sum(map(bool, counted.values()))
    console.print(f"{left} studies with {plan.modality} on {days} days, {plan.begin} to {plan.end}", highlight=False)
    if done:
        console.print(f"An earlier run finished {done}: this one goes on after it.", highlight=False)
    if dry_run:
        return 0
    console.print(_report(_take(settings, plan, ledger, left, console, per_minute, most_queued)), highlight=False)
    console.print(f"Kept in {ledger.path}", soft_wrap=True, highlight=False)
    return 0


def _take(  # noqa: PLR0917 - one call
    settings: Settings, plan: Plan, ledger: Ledger, left: int, console: Console, per_minute: float, most_queued: int
) -> Tally:
    with console.status("Loading the model"):
        tools = make_tools(settings)
    queue = make_queue(settings, usual=Priority.BACKFILL)
    intake = make_intake(settings, make_edges(settings), queue=queue, makers=lambda: tools.makers)
    told = _Telling(ProgressFile(ledger.path.with_suffix(".progress")), _name(plan), left)
    pace = Pace(
        per_minute,
        lambda: queue.backlog().jobs[JobState.QUEUED],
        most_queued,
        time.monotonic,
        time.sleep,
        waiting=told.still,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("Studies", total=left, rate="")
        began = time.monotonic()

        def tell() -> None:
            progress.advance(task)
            told.one()
            taken = progress.tasks[0].completed
            progress.update(task, rate=f"{60 * taken / max(time.monotonic() - began, 1):.0f} a minute")

        find = make_days(settings, plan.modality)
        try:
            tally = backfill(plan, ledger, find=find, take=intake.study_taken, pace=pace, tell=tell)
            told.end()
            return tally
        finally:
            queue.close()


def _name(plan: Plan) -> str:
    return f"of {plan.modality}, {plan.begin} to {plan.end}"


class _Telling:
    """Tells the worklist how far this run is, every few seconds."""

    def __init__(self, file: ProgressFile, name: str, total: int) -> None:
        self._file = file
        now = datetime.now(UTC)
        self._now = BackfillProgress(name, total, 0, now, now)
        self._told = 0.0
        self.still()

    def one(self) -> None:
        """One more study is taken."""
        self._now = replace(self._now, done=self._now.done + 1)
        self.still()

    def still(self) -> None:
        """It goes on."""
        if time.monotonic() - self._told >= EVERY_S:
            self._write()

    def end(self) -> None:
        """All are taken."""
        self._now = replace(self._now, ended=True)
        self._write()

    def _write(self) -> None:
        self._now = replace(self._now, updated=datetime.now(UTC))
        self._file.write(self._now)
        self._told = time.monotonic()


def _report(tally: Tally) -> str:
    lines = [f"{tally.studies} studies: {tally.jobs} jobs, {tally.waiting} wait for a report"]
    refused = sorted(tally.refused.items(), key=lambda item: -item[1])
    return "\n".join([*lines, *(f"{number} refused: {reason}" for reason, number in refused)])
