"""What becomes of a job that did not get through. Pure; tests/unit/test_policy.py is its table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plugin.errors import ConformanceError, InputError, SightlineError, TransientError, UnavailableError, WithdrawnError

DAY_S = 86_400.0


class Fault(StrEnum):
    """Whose fault a failure is, which is all that decides about it besides time."""

    OUTSIDE = "outside"  # a server did not answer, or refused for now
    NOT_ASKED = "not-asked"  # a server that is known to be away was left alone
    NOBODY = "nobody"  # what was to be done is no longer wanted
    INPUT = "input"  # study or report cannot be used as they are
    OURS = "ours"  # a defect of Sightline


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong. *reason* is one sentence without patient data; *retry_after_s* is what a server asked for."""

    fault: Fault
    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again in *after_s* seconds. *counts*: the attempt was used up."""

    after_s: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Set the job aside: trying did not help. *reason* is for the person who finds it among the failed ones."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Set the job aside: trying again cannot help."""

    reason: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """Cancel the job: what it was about was withdrawn, and nothing failed."""

    reason: str


Verdict = Retry | GiveUp | Refuse | LetGo


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient we are.

    Parameters
    ----------
    max_attempts : tries of a job before it is set aside.
    first_s : seconds before the second attempt; each further wait is twice as long.
    most_s : the longest wait, with jitter, and also where a server asks for longer.
    give_up_after_s : no job is tried again later than so many seconds after it was put, attempts left or not.
    """

    max_attempts: int = 5
    first_s: float = 30.0
    most_s: float = 3600.0
    give_up_after_s: float = 7 * DAY_S

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("a job has at least one attempt")
        if not 0 < self.first_s <= self.most_s or self.give_up_after_s <= 0:
            raise ValueError("waits take time, and the first is not longer than the longest")


def failure_of(error: Exception) -> Failure:
    """*error* as the policy sees it; only our own errors are quoted, which carry no patient data."""
    match error:
        case UnavailableError():
            return Failure(Fault.NOT_ASKED, str(error), error.retry_after_s)
        case TransientError():
            return Failure(Fault.OUTSIDE, str(error), error.retry_after_s)
        case WithdrawnError():
            return Failure(Fault.NOBODY, str(error))
        case InputError():
            return Failure(Fault.INPUT, str(error))
        case ConformanceError() | SightlineError():
            return Failure(Fault.OURS, str(error))
        case _:
            return Failure(Fault.OURS, f"Unexpected {type(error).__name__}; please report it.")


def retry_delay_s(attempt: int, policy: Policy, *, chance: float = 0.5) -> float:
    """Seconds to wait after *attempt* failed: doubling, within a quarter of jitter, at most ``policy.most_s``.

    Parameters
    ----------
    chance : a random number in [0, 1]; jobs that failed together do not come back together.

    Raises
    ------
    ValueError
        If *attempt* is below 1, or *chance* is not in [0, 1].
    """
    if attempt < 1 or not 0 <= chance <= 1:
        raise ValueError("a job is tried again after at least one attempt, and a chance lies in [0, 1]")
    doubled = policy.first_s * 2.0 ** min(attempt - 1, 32)
    return min(doubled * (0.75 + 0.5 * chance), policy.most_s)


def judge(failure: Failure, *, attempt: int, age_s: float, policy: Policy, chance: float = 0.5) -> Verdict:
    """What becomes of a job whose *attempt* (from 1) failed, *age_s* seconds after it was put."""
    if failure.fault is Fault.NOBODY:
        return LetGo(failure.reason)
    if failure.fault in (Fault.INPUT, Fault.OURS):
        return Refuse(failure.reason)
    counts = failure.fault is Fault.OUTSIDE
    if counts and attempt >= policy.max_attempts:
        return GiveUp(f"{_sentence(failure.reason)} Given up after {_attempts(attempt)}.")
    wait_s = max(retry_delay_s(attempt, policy, chance=chance) if counts else 0.0, failure.retry_after_s or 0.0)
    wait_s = min(wait_s or policy.first_s, policy.most_s)
    if age_s + wait_s > policy.give_up_after_s:
        return GiveUp(f"{_sentence(failure.reason)} Given up after {age_s / DAY_S:.1f} days.")
    return Retry(wait_s, counts=counts)


def _sentence(reason: str) -> str:
    return reason if reason.endswith((".", "!", "?")) else f"{reason}."


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"
