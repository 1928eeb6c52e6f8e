"""Errors split by what the caller should do. None carries patient data: they end in logs and HTTP answers."""

from __future__ import annotations


class SightlineError(Exception):
    """Base of every error that Sightline raises on purpose.

    *retryable* says whether the same call may succeed later.
    """

    retryable = False


class TransientError(SightlineError):
    """Something outside is not available now; try again later.

    *retry_after_s* is how long it asked to be left alone, if it did.
    """

    retryable = True

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(TransientError):
    """Nothing was tried, so no attempt was used up: a server is left alone for a while, or another worker is at it."""


class InputError(SightlineError):
    """The input cannot be used as it is; the message says what was wrong, what was expected and what to do."""


class MissingError(InputError):
    """There is no such study or instance in the archive: it may still come."""


class NoReportError(InputError):
    """There is no usable report about the study (any more): what was written about it is taken back."""


class WithdrawnError(NoReportError):
    """The report was withdrawn or deleted: nothing may be shown of it, and nothing failed."""


class ConformanceError(SightlineError):
    """We were about to write, or wrote, something that is not valid: a defect of Sightline; please report it."""
