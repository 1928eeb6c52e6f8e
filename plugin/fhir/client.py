"""A thin FHIR REST client that expects real servers: busy, behind proxies, and not all alike.

Every request goes to the configured base and nowhere else, so credentials cannot leave it: links that a server
returns are rebased, redirects are not followed.
"""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

import httpx

from plugin.errors import ConformanceError, InputError, SightlineError, TransientError
from plugin.fhir.capability import Capability, Release, capability_of, unknown
from plugin.fhir.resource import Element, is_fhir_id, parse
from plugin.fhir.sending import BUSY, Answer, Sender
from plugin.fhir.signing_in import Bearer
from plugin.outbound import allowed, guarded_client
from plugin.patience import asked_wait_s

CONFLICT: Final = frozenset({409, 412})
"""HAPI says 409 where others say 412."""

MAX_PAGES: Final = 1000
RESTARTS: Final = 3
"""Times that a search is begun again because its next links expired."""
CAPABILITY_S: Final = 3600.0
"""How long a CapabilityStatement is gone by: servers are upgraded without us."""
_GONE = (404, 410)
_REFUSED = (400, 404, 405, 410, 413, 422)
_EXPIRED = (400, 404, 410)
_UNSPOKEN = (406, 415)
# Codes and paths name rules; free text may quote the patient.
_SAFE = re.compile(r"[\w.\-\[\]()]{1,80}")


class ConflictError(TransientError):
    """Another writer was faster: read again what stands there, and decide anew."""


class RefusedError(ConformanceError):
    """The server does not take what was sent: its content, or the ids in it."""


class SearchExpiredError(TransientError):
    """The server does not know the search's further pages any more: start it again."""


class FhirClient:
    """Reads, searches and transactions at one FHIR server.

    Parameters
    ----------
    base_url : of the FHIR service ("https://host/fhir").
    client : the connection pool, which whoever made it closes; None for one that lives as long as this object.
    headers : sent with every request, for example ``Authorization``.
    auth : what signs in with every request, as a client of SMART backend services; None: nothing.
    timeout_s : longest wait for a connection and between two parts of an answer.
    sleep, jitter, clock : see :class:`plugin.fhir.sending.Sender`; arguments so that tests need not wait.

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
        auth: Bearer | None = None,
        timeout_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not re.match(r"https?://[^/?#]+", base_url):
            raise InputError("the FHIR server's base URL has to start with http:// or https://: set SIGHTLINE_FHIR_URL")
        self._base = base_url.rstrip("/")
        pool = client or guarded_client(allowed((base_url,), named="FHIR server"))
        self._sender = Sender(pool, timeout_s=timeout_s, sleep=sleep, jitter=jitter, clock=clock)
        # no-cache: HAPI answers equal searches from a cache for a minute otherwise.
        self._headers = {"Accept": "application/fhir+json", "Cache-Control": "no-cache", **(headers or {})}
        self._auth = auth
        self._clock = clock
        self._lock = Lock()
        self._capability: tuple[float, Capability] | None = None

    @property
    def capability(self) -> Capability:
        """What the server says of itself: read once, and again after an hour.

        Raises
        ------
        TransientError
            If the server does not answer.
        InputError
            If it speaks XML only.
        """
        with self._lock:
            known = self._capability
            if known is None or self._clock() >= known[0]:
                try:
                    self._capability = known = (self._clock() + CAPABILITY_S, self._told())
                except TransientError:  # it has not changed because it is away
                    if known is None:
                        raise
            return known[1]

    @property
    def release(self) -> Release:
        """The release of FHIR to write for; raises as :attr:`capability`."""
        return self.capability.release

    def impatient(self) -> FhirClient:
        """The same server, asked once: for those who want to know whether it answers now."""
        once = copy.copy(self)
        once._sender = replace(self._sender, delays_s=())
        return once

    def lacking_scopes(self) -> tuple[str, ...]:
        """Scopes that were asked for and not granted; raises as fetching a token does."""
        return self._auth.lacking() if self._auth is not None else ()

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
        if answer.status in _GONE:
            return None
        return self._resource(answer, bodiless=False)

    def relative(self, reference: str) -> str:
        """A literal reference to this server's own resource as "Type/id"; "" when it may be another server's."""
        own = reference.removeprefix(f"{self._base}/")
        return "" if ":" in own else own

    def search(self, resource_type: str, params: Mapping[str, str]) -> Iterator[Element]:
        """Every hit, over all pages, each version once; begun again when the next links expire.

        Raises
        ------
        TransientError, InputError
            As :meth:`read`; also if the pages do not end, or expire again and again.
        """
        seen: set[tuple[str, str, str]] = set()
        for left in range(RESTARTS, -1, -1):
            try:
                for page in self.pages(resource_type, tuple(params.items())):
                    for hit in page:
                        version = (hit.type, hit.id, hit.child("meta").string("versionId"))
                        if version not in seen:
                            seen.add(version)
                            yield hit
            except SearchExpiredError:
                if not left:
                    raise
            else:
                return

    def pages(
        self, resource_type: str, params: Sequence[tuple[str, str]], *, most: int = MAX_PAGES
    ) -> Iterator[tuple[Element, ...]]:
        """The hits of a search page by page, as the server gives them: with what it repeats.

        Raises
        ------
        SearchExpiredError
            If the server refuses a further page that it named itself.
        TransientError, InputError
            As :meth:`read`; also if there are more than *most* pages, or a full page without a next link is not all.
        """
        url: str | None = f"{self._base}/{resource_type}?{httpx.QueryParams(list(params))}"
        visited: set[str] = set()
        shown = 0
        while url and url not in visited:
            if len(visited) == most:
                raise TransientError(f"the FHIR server's search goes on after {most} pages")
            answer = self._request("GET", url)
            if visited and answer.status in _EXPIRED:
                raise SearchExpiredError(f"the FHIR server answered {answer.status} to its own next link")
            visited.add(url)
            page = self._resource(answer, bodiless=False)
            yield tuple(_hits(page))
            url = self._next(page, resource_type)
            shown += len(page.children("entry"))
            if url is None and _breaks_off(page, shown, asked=dict(params).get("_count", "")):
                raise TransientError(f"the FHIR server shows {shown} hits of more, and no next page")

    def update(self, name: str, change: Callable[[Element], Mapping[str, object] | None]) -> Element | None:
        """Change the resource *name* ("Type/id") as it stands on the server, and no other version of it.

        Parameters
        ----------
        change : what it is to be; None or the same: it is right as it is. Called again with what stands there when
            another writer was faster, so it must not depend on being called once.

        Returns
        -------
        What stands there now; None when there is no such resource.

        Raises
        ------
        ConflictError
            If other writers keep being faster.
        ConformanceError
            If the server refuses what it is to be.
        TransientError, InputError
            As :meth:`read`.
        """
        for delay_s in (*self._sender.delays_s, None):
            there = self.read(name)
            wanted = None if there is None else change(there)
            if there is None or wanted is None or wanted == there.json:
                return there
            answer = self._request("PUT", f"{self._base}/{name}", content=_body(wanted), if_match=_etag(there))
            if answer.status not in CONFLICT:
                return self._resource(answer, refused=ConformanceError) or Element(wanted)
            if delay_s is not None:
                self._sender.sleep(delay_s)
        raise ConflictError(f"the FHIR server answered {answer.status} to every try: another writer keeps being faster")

    def put(self, resource: Mapping[str, object]) -> bool:
        """PUT *resource* to its own id; False when the server does not take it there.

        Raises
        ------
        ConflictError
            If another writer keeps winning.
        TransientError, ConformanceError
            As :meth:`transaction`.
        """
        url = f"{self._base}/{resource['resourceType']}/{resource['id']}"
        answer = self._request("PUT", url, content=_body(resource), again=BUSY | CONFLICT)
        if answer.status in _REFUSED:
            return False
        self._resource(answer, refused=ConformanceError)
        return True

    def create(self, resource: Mapping[str, object], *, unless: str) -> str:
        """The name ("Type/id") of the resource that *unless* finds, or else of *resource*, made now under a new id.

        Parameters
        ----------
        unless : search parameters (``If-None-Exist``), which have to find this resource and no other.

        Raises
        ------
        ConflictError
            If they find several.
        TransientError, ConformanceError
            As :meth:`transaction`.
        """
        kind = str(resource["resourceType"])
        answer = self._request("POST", f"{self._base}/{kind}", content=_body(resource), if_none_exist=unless)
        made = self._resource(answer, refused=ConformanceError)
        made_id = made.id if made.type == kind else ""
        # An answer may be empty, or an OperationOutcome: the address is there all the same (R4 http.html#create).
        found = re.search(rf"{kind}/([A-Za-z0-9\-.]{{1,64}})(/_history/|$)", answer.headers.get("location", ""))
        if not made_id and not found:
            raise TransientError("the FHIR server made a resource and did not say under which id")
        return f"{kind}/{made_id or (found[1] if found else '')}"

    def delete(self, name: str) -> bool:
        """Delete the resource *name*; whether it is gone now. A server may refuse (405, 403).

        Raises
        ------
        TransientError
            If the server does not answer.
        """
        answer = self._request("DELETE", f"{self._base}/{name}")
        return answer.ok or answer.status in _GONE

    def transaction(self, bundle: str, *, conditional: bool = False) -> Element:
        """Send a transaction Bundle of PUTs; tried again as a whole, since PUTs may be repeated.

        Parameters
        ----------
        conditional : the entries carry conditions (ifMatch, ifNoneExist), so that a conflict is not tried again here.

        Returns
        -------
        The server's answer, a Bundle; empty if the server sends none.

        Raises
        ------
        ConflictError
            If another writer keeps winning, or won against a condition.
        TransientError
            If the server does not answer.
        RefusedError
            If the server refuses the bundle or one of its entries.
        """
        again = BUSY if conditional else BUSY | CONFLICT
        answer = self._request("POST", self._base, content=bundle.encode(), again=again)
        if answer.status in _REFUSED:
            raise _refused(answer, RefusedError)
        answered = self._resource(answer, refused=ConformanceError)
        for entry in answered.children("entry"):
            status = entry.child("response").string("status")
            if status and not status.startswith("2"):
                raise _entry_refused(status, entry.child("response").child("outcome"))
        return answered

    def _told(self) -> Capability:
        answer = self._request("GET", f"{self._base}/metadata")
        if not answer.ok and answer.status not in _UNSPOKEN:
            return unknown(f"HTTP {answer.status}")
        statement = self._resource(answer, bodiless=False)
        return capability_of(statement) if statement.type == "CapabilityStatement" else unknown("it is something else")

    def _request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        again: frozenset[int] = BUSY,
        if_match: str = "",
        if_none_exist: str = "",
    ) -> Answer:
        """The server's answer, which may be a refusal; tried again while it is busy."""
        headers = self._headers | ({"Content-Type": "application/fhir+json"} if content else {})
        headers |= {"If-Match": if_match} if if_match else {}
        headers |= {"If-None-Exist": if_none_exist} if if_none_exist else {}
        return self._sender.send(
            method, url, headers=headers, content=content, auth=self._auth, again=again, refused=_not_now
        )

    def _resource(
        self, answer: Answer, *, refused: type[SightlineError] = InputError, bodiless: bool = True
    ) -> Element:
        """The resource in *answer*; an empty one where there is no body and *bodiless* says that this may be."""
        if answer.status in (401, 403):
            settings = "SIGHTLINE_FHIR_TOKEN, _USER or _CLIENT_ID"
            raise _refused(answer, TransientError, f"; check the credentials ({settings})")
        if answer.status in CONFLICT and refused is ConformanceError:
            raise _refused(answer, ConflictError)
        if answer.redirects:
            raise InputError("the FHIR server redirects, which is not followed: set SIGHTLINE_FHIR_URL to its new base")
        xml = "xml" in answer.headers.get("content-type", "") and answer.ok
        if xml or answer.status in _UNSPOKEN:
            raise InputError("the FHIR server answers in XML, or refuses JSON: Sightline needs one that speaks JSON")
        if not answer.ok:
            raise _refused(answer, refused)
        if not answer.content and bodiless:
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


def _body(resource: Mapping[str, object]) -> bytes:
    return json.dumps(resource, ensure_ascii=False).encode()


def _etag(there: Element) -> str:
    """The version of *there* as HTTP writes it (R4 http.html#concurrency); "" where the server tells none."""
    version = there.child("meta").string("versionId")
    return f'W/"{version}"' if is_fhir_id(version) else ""


def _breaks_off(page: Element, shown: int, *, asked: str) -> bool:
    """Whether the last page is full, and the server counts more hits than it showed: it has no pages, or lost them."""
    total = page.json.get("total")
    return asked.isdecimal() and len(page.children("entry")) >= int(asked) and isinstance(total, int) and total > shown


def _hits(page: Element) -> Iterator[Element]:
    for entry in page.children("entry"):
        resource = entry.child("resource")
        # A server may report trouble among the hits (search.mode outcome).
        if resource.type and resource.type != "OperationOutcome":
            yield resource


def _not_now(answer: Answer) -> SightlineError:
    failure = _refused(answer, ConflictError if answer.status in CONFLICT else TransientError)
    if isinstance(failure, TransientError):
        failure.retry_after_s = asked_wait_s(answer.headers)
    return failure


def _refused(answer: Answer, error: type[SightlineError], advice: str = "") -> SightlineError:
    try:
        outcome = parse(answer.content)
    except InputError:
        outcome = Element()
    return error(f"the FHIR server answered {answer.status}{_issues(outcome)}{advice}")


def _entry_refused(status: str, outcome: Element) -> SightlineError:
    code = int(status[:3]) if status[:3].isdecimal() else 0
    error: type[SightlineError] = TransientError if code in BUSY else RefusedError
    if code in CONFLICT:
        error = ConflictError
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
