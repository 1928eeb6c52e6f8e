"""Processes that outlive the command which starts them, known again by a file with their id and the time they began.

A process id is given to another process sooner or later: only one that began when the file says is ours to end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plugin.errors import TransientError

END_S = 20.0


@dataclass(frozen=True, slots=True)
class Part:
    """One program of the stack.

    Parameters
    ----------
    environment : added to this process's own.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.folder / "pids" / f"{self.name}.json"


def is_running(part: Part) -> bool:
    """Whether the process that :func:`start` recorded still runs."""
    return _running(part) is not None


def start(part: Part, *, ready: Callable[[], bool], timeout_s: float = 180.0) -> bool:
    """Start *part* and wait until *ready*; False when it ran already.

    Raises
    ------
    TransientError
        If it ends or is not ready in time; its log says why. It is ended then.
    """
    if is_running(part):
        return False
    for file in (part.log, part.record):
        file.parent.mkdir(parents=True, exist_ok=True)
    with part.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - the commands of plan.py, no shell
            part.command,
            cwd=part.folder,
            env=os.environ | dict(part.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
    part.record.write_text(json.dumps({"pid": process.pid, "began": _began(process.pid)}), encoding="utf-8")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            process.returncode = 0  # it is meant to outlive us: no warning about a child left behind
            return True
        time.sleep(0.1)
    stop(part)
    process.wait()
    raise TransientError(f"{part.name} did not start; the end of {part.log} says why")


def stop(part: Part) -> bool:
    """End *part* if it is ours and runs; False when there was nothing to end."""
    pid = _running(part)
    if pid is not None:
        _end(pid, gone=lambda: _running(part) is None)
    part.record.unlink(missing_ok=True)
    return pid is not None


def _end(pid: int, *, gone: Callable[[], bool]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if gone():
                return
            time.sleep(0.05)


def _running(part: Part) -> int | None:
    try:
        recorded = json.loads(part.record.read_text(encoding="utf-8"))
        pid, began = int(recorded["pid"]), recorded["began"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return pid if began is not None and _began(pid) == began else None


def _began(pid: int) -> str | None:
    """When process *pid* began, in clock ticks since the machine did (proc(5)); None when it does not run."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = told.rpartition(")")[2].split()  # the name before may hold spaces and parentheses
    return None if state in "ZX" else fields[18]
