"""What deciding needs from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from plugin.access.caller import Caller


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brings to prove who asks; "" where it brings nothing."""

    bearer: str = field(default="", repr=False)
    session: str = field(default="", repr=False)


class UnknownError(Exception):
    """The proof is not taken; the message is told to whoever sent it."""


class Identification(Protocol):
    """Who the credentials of a request belong to."""

    def __call__(self, credentials: Credentials) -> Caller | None:
        """The caller; None when nothing was brought.

        Raises
        ------
        UnknownError
            If what was brought is not taken.
        TransientError
            If that cannot be told now.
        """
