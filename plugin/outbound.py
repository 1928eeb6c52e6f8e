"""What leaves this process: requests go to the origins that the settings name, and to no others.

Addresses also come from outside: next links, redirects, token endpoints, bulk data, attachments of reports. Whatever
follows one of them, on purpose or by mistake, ends here. An origin is scheme, host and port as the settings spell them;
another spelling of the same host (a number, a trailing dot, another name) is another origin. Since no address is
resolved before it is compared, a name that changes what it points to gains nothing.

Variables of the environment that are meant for other programs (``HTTPS_PROXY``, ``ALL_PROXY``, ``.netrc``,
``REQUESTS_CA_BUNDLE``) change nothing: a proxy that they name would be one more server that sees what is sent.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter

from plugin.errors import InputError, TransientError

if TYPE_CHECKING:
    import ssl

    import httpx

#: A larger answer is not read, however small it was before it was inflated: the largest radiograph is smaller.
MAX_ANSWER_BYTES: Final = 256 * 1024**2
#: A whole answer may take so many times as long as the wait for a part of it.
WHOLE: Final = 20
_PART_BYTES: Final = 1 << 18
# Parsers differ about where the host ends.
_DOUBTFUL: Final = re.compile(r"[\\\x00-\x20\x7f]")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of an address (RFC 6454)."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin | None:
    """The origin of *url*; None when it has none that a request could go to."""
    if _DOUBTFUL.search(url):
        return None
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError):
        return None
    return Origin(parts.scheme, parts.hostname, port) if parts.hostname else None


@dataclass(frozen=True, slots=True)
class Allowed:
    """The origins that *named* (what messages call the server) is reached at."""

    origins: frozenset[Origin]
    named: str

    def check(self, url: str) -> None:
        """Raises InputError when *url* is of another origin; the address is not quoted, since it may hold anything."""
        if origin_of(url) not in self.origins:
            raise InputError(f"The {self.named} names an address of another server, which is not asked.")

    def __contains__(self, url: object) -> bool:
        return isinstance(url, str) and origin_of(url) in self.origins


def allowed(urls: Iterable[str], *, named: str) -> Allowed:
    """The origins of the addresses *urls* that the settings give; "" counts as none."""
    return Allowed(frozenset(origin for url in urls if (origin := origin_of(url)) is not None), named)


class Outbound(HTTPAdapter):
    """Sends to *allowed* alone, and reads what is not streamed within limits of size and time.

    It stands below whatever follows redirects or repeats requests, so nothing goes past it.
    """

    def __init__(self, allowed: Allowed, *, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._allowed = allowed
        self._max_bytes = max_bytes
        super().__init__()

    def send(self, request: requests.PreparedRequest, stream: bool = False, **sent: Any) -> requests.Response:  # type: ignore[override]
        """See requests.

        Raises
        ------
        InputError
            If the address is of another origin, or the answer is too large.
        TransientError
            If the answer does not end.
        """
        self._allowed.check(request.url or "")
        answer = super().send(request, stream=True, **sent)
        if not stream:
            self._read(answer, _wait_s(sent.get("timeout")))
        return answer

    def _read(self, answer: requests.Response, wait_s: float | None) -> None:
        """Take the whole answer, as ``Response.content`` would; it is inflated part by part."""
        ends = math.inf if wait_s is None else time.monotonic() + WHOLE * wait_s
        content = bytearray()
        try:
            for part in answer.iter_content(_PART_BYTES):
                content += part
                self._check_going_on(len(content), ends)
        except BaseException:
            answer.close()
            raise
        answer._content, answer._content_consumed = bytes(content), True

    def _check_going_on(self, size_bytes: int, ends: float) -> None:
        if size_bytes > self._max_bytes:
            raise InputError(f"The answer of the {self._allowed.named} is larger than {self._max_bytes // 2**20} MiB.")
        if time.monotonic() > ends:
            raise TransientError(f"The answer of the {self._allowed.named} does not end; try again later.")


def _wait_s(timeout: object) -> float | None:
    return float(timeout) if isinstance(timeout, int | float) else None


def guarded_session(allowed: Allowed, *, max_bytes: int = MAX_ANSWER_BYTES) -> requests.Session:
    """A session whose requests go to *allowed* alone; redirects are an error."""
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0  # a redirect would take the secrets elsewhere
    for scheme in _PORTS:
        session.mount(f"{scheme}://", Outbound(allowed, max_bytes=max_bytes))
    return session


def guarded_client(allowed: Allowed, *, verify: ssl.SSLContext | bool = True, proxy: str | None = None) -> httpx.Client:
    """A pool whose requests, those of an authentication flow among them, go to *allowed* alone.

    Parameters
    ----------
    proxy : of the settings, which they go through; None: none.
    """
    import httpx

    def check(request: httpx.Request) -> None:
        allowed.check(str(request.url))

    return httpx.Client(verify=verify, proxy=proxy, trust_env=False, event_hooks={"request": [check]})
