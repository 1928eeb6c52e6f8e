"""A thin FHIR REST client that expects real servers: busy, behind proxies, and not all alike.

Every request goes to the configured base and nowhere else, so credentials cannot leave it: links that a server
returns are rebased, redirects are not followed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from plugin.errors import ConformanceError, InputError, SightlineError, TransientError
from plugin.fhir.resource import Element, parse

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
CONFLICT = frozenset({409, 412})
"""HAPI says 409 where others say 412."""

MAX_PAGES = 1000
MAX_WAIT_S = 30.0
_DELAYS_S = (0.5, 1.0, 2.0)
_GONE = (404, 410)
# Codes and paths name rules; free text may quote the patient.
_SAFE = re.compile(r"[\w.\-\[\]()]{1,80}")


class FhirClient:
    """Reads, searches and transactions at one FHIR server.

    Parameters
    ----------
    base_url : of the FHIR service ("https://host/fhir").
    client : the connection pool, which whoever made it closes; None for one that lives as long as this object.
    headers : sent with every request, for example ``Authorization``.
    timeout_s : longest wait for one answer.
    sleep : waits between tries; an argument so that tests need not wait.

    Raises
    ------
    InputError
        If *base_url* is no HTTP address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        client: httpx.Client | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not re.match(r"https?://[^/?#]+", base_url):
            raise InputError("the FHIR server's base URL has to start with http:// or https://: set SIGHTLINE_FHIR_URL")
        self._base = base_url.rstrip("/")
        self._client = client or httpx.Client()
        # no-cache: HAPI answers equal searches from a cache for a minute otherwise.
        self._headers = {"Accept": "application/fhir+json", "Cache-Control": "no-cache", **(headers or {})}
        self._timeout_s = timeout_s
        self._sleep = sleep

    def read(self, name: str) -> Element | None:
        """The resource "Type/id" or "Type/id/_history/version"; None when there is none, or it was deleted.

        Raises
        ------
        TransientError
            If the server does not answer, or asks for other credentials.
        InputError
            If the server is not a FHIR server that speaks JSON.
        """
        answer = self._request("GET", f"{self._base}/{name}")
        if answer.status_code in _GONE:
            return None
        return self._resource(answer)

    def relative(self, reference: str) -> str:
        """A literal reference to this server's own resource as "Type/id"; "" when it may be another server's."""
        own = reference.removeprefix(f"{self._base}/")
        return "" if ":" in own else own

    def search(self, resource_type: str, params: Mapping[str, str]) -> Iterator[Element]:
        """Every hit, over all pages, each once.

        Raises
        ------
        TransientError, InputError
            As :meth:`read`; also if the pages do not end.
        """
        url: str | None = f"{self._base}/{resource_type}?{httpx.QueryParams(dict(params))}"
        visited: set[str] = set()
        seen: set[tuple[str, str]] = set()
        while url and url not in visited:
            if len(visited) == MAX_PAGES:
                raise TransientError(f"the FHIR server's search goes on after {MAX_PAGES} pages")
            visited.add(url)
            page = self._resource(self._request("GET", url))
            for hit in _hits(page):
                if (hit.type, hit.id) not in seen:
                    seen.add((hit.type, hit.id))
                    yield hit
            url = self._next(page, resource_type)

    def transaction(self, bundle: str) -> None:
        """Send a transaction Bundle of PUTs; tried again as a whole, since PUTs may be repeated.

        Raises
        ------
        TransientError
            If the server does not answer, or another writer keeps winning.
        ConformanceError
            If the server refuses the bundle or one of its entries.
        """
        answer = self._request("POST", self._base, content=bundle.encode(), again=BUSY | CONFLICT)
        if answer.status_code in _GONE:
            raise _refused(answer, ConformanceError)
        for entry in self._resource(answer, refused=ConformanceError).children("entry"):
            status = entry.child("response").string("status")
            if status and not status.startswith("2"):
                raise _entry_refused(status, entry.child("response").child("outcome"))

    def _request(
        self, method: str, url: str, *, content: bytes | None = None, again: frozenset[int] = BUSY
    ) -> httpx.Response:
        """The server's answer, which may be a refusal; tried again while it is busy."""
        headers = self._headers | ({"Content-Type": "application/fhir+json"} if content else {})
        failure: SightlineError
        for delay_s in (*_DELAYS_S, None):
            try:
                answer = self._client.request(
                    method, url, content=content, headers=headers, timeout=self._timeout_s, follow_redirects=False
                )
            except (httpx.RequestError, httpx.InvalidURL) as error:
                # A truncated body ends here too. The class alone: messages quote addresses.
                failure = TransientError(f"the FHIR server does not answer ({type(error).__name__})")
                wait_s = delay_s
            else:
                if answer.status_code not in again:
                    return answer
                failure = _refused(answer, TransientError)
                wait_s = None if delay_s is None else _retry_after(answer, delay_s)
            if wait_s is None or wait_s > MAX_WAIT_S:
                break
            self._sleep(wait_s)
        raise failure

    def _resource(self, answer: httpx.Response, *, refused: type[SightlineError] = InputError) -> Element:
        if answer.status_code in (401, 403):
            raise _refused(answer, TransientError, "; check the credentials (SIGHTLINE_FHIR_TOKEN)")
        if answer.is_redirect:
            raise InputError("the FHIR server redirects, which is not followed: set SIGHTLINE_FHIR_URL to its new base")
        if not answer.is_success:
            raise _refused(answer, refused)
        if "xml" in answer.headers.get("content-type", ""):
            raise InputError("the FHIR server answers in XML: Sightline needs one that speaks JSON")
        if not answer.content and answer.request.method != "GET":
            return Element()
        try:
            return parse(answer.content)
        except InputError:
            raise TransientError("the FHIR server's answer is not complete FHIR JSON") from None

    def _next(self, page: Element, resource_type: str) -> str | None:
        links = (link.string("url") for link in page.children("link") if link.string("relation") == "next")
        link = next(links, "")
        return rebased(link, base=self._base, resource_type=resource_type) if link else None


def rebased(link: str, *, base: str, resource_type: str) -> str:
    """*link* with its path and query, but at *base*: servers put names there that only they know.

    Raises
    ------
    TransientError
        If it is no URL.
    """
    try:
        there, root = urlsplit(link), urlsplit(base)
    except ValueError:
        raise TransientError("the FHIR server's next link is no URL") from None
    if there.path.startswith(f"{root.path}/"):
        path = there.path.removeprefix(root.path).strip("/")
    else:
        path = resource_type if there.path.rpartition("/")[2] == resource_type else ""
    return base + (f"/{path}" if path else "") + (f"?{there.query}" if there.query else "")


def token(value: str, *, system: str | None = None) -> str:
    """A token search value with its separators escaped (R4 search.html#escaping)."""
    parts = [value] if system is None else [system, value]
    return "|".join(re.sub(r"([\\,|$])", r"\\\1", part) for part in parts)


def _hits(page: Element) -> Iterator[Element]:
    for entry in page.children("entry"):
        resource = entry.child("resource")
        # A server may report trouble among the hits (search.mode outcome).
        if resource.type and resource.type != "OperationOutcome":
            yield resource


def _retry_after(answer: httpx.Response, default_s: float) -> float:
    """Seconds that the server asks to wait (RFC 9110 10.2.3), as a number or as a date by its own clock."""
    asked = answer.headers.get("retry-after", "")
    if asked.isdecimal():
        return float(asked)
    try:
        until, now = parsedate_to_datetime(asked), parsedate_to_datetime(answer.headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, KeyError):
        return default_s


def _refused(answer: httpx.Response, error: type[SightlineError], advice: str = "") -> SightlineError:
    try:
        outcome = parse(answer.content)
    except InputError:
        outcome = Element()
    return error(f"the FHIR server answered {answer.status_code}{_issues(outcome)}{advice}")


def _entry_refused(status: str, outcome: Element) -> SightlineError:
    code = int(status[:3]) if status[:3].isdecimal() else 0
    error = TransientError if code in BUSY | CONFLICT else ConformanceError
    return error(f"the FHIR server answered {code} to an entry of the bundle{_issues(outcome)}")


def _issues(outcome: Element) -> str:
    """What an OperationOutcome says in codes and paths; its free text may quote the patient and is left out."""
    if outcome.type != "OperationOutcome":
        return ""
    said = []
    for issue in outcome.children("issue"):
        paths = issue.json.get("expression")
        details = (coding.string("code") for coding in issue.child("details").children("coding"))
        words = (issue.string("code"), *details, *(paths if isinstance(paths, list) else ()))
        said.append(" ".join(word for word in words if isinstance(word, str) and _SAFE.fullmatch(word)))
    return f" ({'; '.join(filter(None, said))})" if any(said) else ""
