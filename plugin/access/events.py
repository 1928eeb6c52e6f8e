"""What is told of every decision: the one place for an audit trail to listen at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from plugin.access.caller import Caller


class Decision(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"  # it was allowed, and data, or a change, was answered for
    MISSING = "missing"  # it was allowed, and there is nothing to see: nothing there, or of another patient
    UNKNOWN = "unknown"  # refused: nobody has proven who they are, or the proof is not taken
    FORBIDDEN = "forbidden"  # refused: known, and not allowed
    TOO_MANY = "too-many"  # refused: too many requests
    FAILED = "failed"  # an error of ours, or of the input
    LOGIN = "login"  # a session began
    LOGOUT = "logout"  # a session ended


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """One decision.

    Parameters
    ----------
    caller : None: nobody who has proven who they are.
    route : name of the rule ("evidence"); "" when no route has that address.
    method : of HTTP; "WS" for a web socket.
    status : of the answer.
    why : of a refusal, in words without patient data; "" otherwise.
    study, report : named by the request; "" when it names none.
    patients : "Patient/<id>" of what was answered, or withheld; in order.
    address : of the client.
    """

    at: datetime
    caller: Caller | None
    route: str
    method: str
    decision: Decision
    status: int
    why: str = ""
    study: str = ""
    report: str = ""
    patients: tuple[str, ...] = ()
    address: str = ""


Observe = Callable[[AccessEvent], None]
"""Is told of every decision, after the answer has begun, on the event loop: it returns at once and raises nothing."""


def nobody_listens(_: AccessEvent) -> None:
    """No audit trail."""
