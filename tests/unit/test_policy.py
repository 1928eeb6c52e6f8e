"""What becomes of a job that failed, as a table."""

from __future__ import annotations

import pytest

from plugin.errors import (
    ConformanceError,
    InputError,
    NoReportError,
    TransientError,
    UnavailableError,
    WithdrawnError,
)
from plugin.policy import (
    DAY_S,
    Failure,
    Fault,
    GiveUp,
    LetGo,
    Policy,
    Refuse,
    Retry,
    Verdict,
    failure_of,
    judge,
    retry_delay_s,
)

POLICY = Policy()
AWAY = Failure(Fault.OUTSIDE, "The archive does not answer.")


@pytest.mark.parametrize(
    ("failure", "attempt", "age_s", "verdict"),
    [
        (AWAY, 1, 0, Retry(30)),
        (AWAY, 2, 31, Retry(60)),
        (AWAY, 4, 300, Retry(240)),
        (AWAY, 5, 600, GiveUp("The archive does not answer. Given up after 5 attempts.")),
        (AWAY, 1, 7 * DAY_S, GiveUp("The archive does not answer. Given up after 7.0 days.")),
        (Failure(Fault.OUTSIDE, "busy", 90), 1, 0, Retry(90)),
        (Failure(Fault.OUTSIDE, "busy", 10), 1, 0, Retry(30)),
        (Failure(Fault.OUTSIDE, "busy", 9999), 1, 0, Retry(3600)),
        (Failure(Fault.OUTSIDE, "busy"), 5, 0, GiveUp("busy. Given up after 5 attempts.")),
        (Failure(Fault.NOT_ASKED, "The archive is left alone.", 20), 1, 0, Retry(20, counts=False)),
        (Failure(Fault.NOT_ASKED, "The archive is left alone.", 20), 5, 0, Retry(20, counts=False)),
        (Failure(Fault.NOT_ASKED, "The archive is left alone."), 5, 0, Retry(30, counts=False)),
        (
            Failure(Fault.NOT_ASKED, "The archive is left alone.", 20),
            1,
            7 * DAY_S,
            GiveUp("The archive is left alone. Given up after 7.0 days."),
        ),
        (Failure(Fault.INPUT, "no frontal image"), 1, 0, Refuse("no frontal image")),
        (Failure(Fault.INPUT, "no frontal image"), 5, 0, Refuse("no frontal image")),
        (Failure(Fault.OURS, "The SEG is not valid."), 1, 0, Refuse("The SEG is not valid.")),
        (Failure(Fault.NOBODY, "withdrawn"), 1, 0, LetGo("withdrawn")),
        (Failure(Fault.NOBODY, "withdrawn"), 5, 7 * DAY_S, LetGo("withdrawn")),
    ],
)
def test_what_becomes_of_a_failed_job(failure: Failure, attempt: int, age_s: float, verdict: Verdict) -> None:
    assert judge(failure, attempt=attempt, age_s=age_s, policy=POLICY) == verdict


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TransientError("away"), Failure(Fault.OUTSIDE, "away")),
        (TransientError("busy", retry_after_s=7), Failure(Fault.OUTSIDE, "busy", 7)),
        (UnavailableError("left alone", retry_after_s=9), Failure(Fault.NOT_ASKED, "left alone", 9)),
        (InputError("no image"), Failure(Fault.INPUT, "no image")),
        (NoReportError("no text"), Failure(Fault.INPUT, "no text")),
        (WithdrawnError("withdrawn"), Failure(Fault.NOBODY, "withdrawn")),
        (ConformanceError("not valid"), Failure(Fault.OURS, "not valid")),
        (ValueError("a name"), Failure(Fault.OURS, "Unexpected ValueError; please report it.")),
        (MemoryError(), Failure(Fault.OURS, "Unexpected MemoryError; please report it.")),
    ],
)
def test_the_class_of_an_error_says_whose_fault_it_is(error: Exception, failure: Failure) -> None:
    assert failure_of(error) == failure


@pytest.mark.parametrize(
    ("attempt", "delay_s"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 960), (7, 1920), (8, 3600), (99, 3600)],
)
def test_the_delay_doubles_up_to_an_hour(attempt: int, delay_s: float) -> None:
    assert retry_delay_s(attempt, POLICY) == delay_s


@pytest.mark.parametrize(("chance", "delay_s"), [(0.0, 45.0), (1.0, 75.0)])
def test_jobs_that_failed_together_come_back_apart(chance: float, delay_s: float) -> None:
    assert retry_delay_s(2, POLICY, chance=chance) == delay_s


def test_jitter_does_not_pass_the_ceiling() -> None:
    assert retry_delay_s(8, POLICY, chance=1.0) == POLICY.most_s


@pytest.mark.parametrize(("attempt", "chance"), [(0, 0.5), (1, -0.1), (1, 1.1)])
def test_no_delay_for_what_cannot_be(attempt: int, chance: float) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        retry_delay_s(attempt, POLICY, chance=chance)


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"first_s": 0}, {"first_s": 10, "most_s": 5}, {"give_up_after_s": 0}]
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempt|waits"):
        Policy(**wrong)  # type: ignore[arg-type]
