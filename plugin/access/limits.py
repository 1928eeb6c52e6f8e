"""How much one client may ask: so many requests a minute, and so many at once. Bounded memory, whoever comes."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MOST_CLIENTS: Final = 10_000
"""Clients that are told apart; when there are more, whoever was longest away begins anew."""


@dataclass(slots=True)
class Limits:
    """A bucket for each client, which fills up evenly; used on one event loop.

    Parameters
    ----------
    per_minute : requests, in the long run; half as many may come together.
    at_once : requests of one client that are worked on at the same time.
    clock : seconds; any beginning.
    """

    per_minute: float = 1200.0
    at_once: int = 32
    clock: Callable[[], float] = time.monotonic
    most_clients: int = MOST_CLIENTS
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _working: Counter[str] = field(default_factory=Counter)

    @property
    def burst(self) -> float:
        """Requests that may come together."""
        return max(1.0, self.per_minute / 2)

    def enter(self, client: str) -> int:
        """Begin a request of *client*: 0, or the whole seconds after which to try again; then it has not begun."""
        if self._working.get(client, 0) >= self.at_once:
            return 1
        now = self.clock()
        left, at = self._buckets.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.per_minute / 60)
        self._buckets[client] = (max(0.0, left - 1) if left >= 1 else left, now)
        while len(self._buckets) > self.most_clients:
            self._buckets.popitem(last=False)
        if left < 1:
            return max(1, math.ceil((1 - left) * 60 / self.per_minute))
        self._working[client] += 1
        return 0

    def leave(self, client: str) -> None:
        """The request that :meth:`enter` let begin has ended."""
        self._working[client] -= 1
        if self._working[client] <= 0:
            del self._working[client]


def client_at(address: str) -> str:
    """Who *address* is counted as: itself, or its network, since one holder has many addresses of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
