"""How long a server asks to be left alone (RFC 9110 10.2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, told as a number or as a date by the server's own clock; None when it does not ask.

    Parameters
    ----------
    headers : of the answer; their names are in lower case, or looked up whatever their case.
    """
    asked = headers.get("retry-after", "")
    if asked.isdecimal():
        return float(asked)
    try:
        until, now = parsedate_to_datetime(asked), parsedate_to_datetime(headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, KeyError):
        return None
