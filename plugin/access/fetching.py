"""The documents of an issuer, fetched within limits; redirects are none of its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from plugin.errors import TransientError
from plugin.fhir.sending import Sender

_DELAYS_S: Final = (0.2,)


class JsonReader:
    """A :class:`plugin.access.issuer.ReadJson` over *pool*. Somebody waits for it: it tries once more, and soon."""

    def __init__(self, pool: httpx.Client, *, timeout_s: float) -> None:
        self._sender = Sender(pool, timeout_s=min(timeout_s, 10.0), named="the login", delays_s=_DELAYS_S)

    def __call__(self, url: str) -> Mapping[str, Any]:
        """See the port."""
        answer = self._sender.send("GET", url, headers={"Accept": "application/json"})
        try:
            said = json.loads(answer.content) if answer.ok else None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise TransientError(f"the login answered {answer.status} without a JSON document")
        return said
