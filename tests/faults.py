"""A server's bad days: an HTTP proxy on real sockets that a test programs, to stand before any server.

    with run_faults(engine_url) as faults:
        client = FhirClient(faults.base)
        faults.next(refused(503, retry_after="1"), truncated())      # the next two requests; then all is well
        faults.next(answered(500), when=transactions)                # applied, but the answer says 500
        hidden = faults.always(Hidden({"DiagnosticReport/late"}))    # standing: until hidden.show(...)
        faults.always(Sometimes(random.Random(1), 0.2, [refused(429), reset(), reset_after()]))
        faults.asked                                                 # every request that came, in order

A fault is a function of the request and of the way on to the server, which it may take or not; it returns the answer.
Those of ``next`` meet one request each and stand before those of ``always``, of which the last one added stands first.
Requests are answered in threads, so that 8 of them race; with one client at a time, equal seeds give equal histories.

| what real servers do | fault |
|---|---|
| busy, overloaded, in conflict, signed out | ``refused(status, retry_after=...)``: not passed on |
| applied, but the answer is lost or says 500 | ``answered(500)``, ``reset_after()`` |
| a transaction applied in part; refused as a whole | ``in_part(entries)``; ``refused(status), when=transactions`` |
| slow; slow within the body; truncated; connection reset | ``slow(s)``, ``dripping(s)``, ``truncated()``, ``reset()`` |
| reset within the body; no answer; a request that comes twice | ``broken()``, ``dropped(s)``, ``twice`` |
| rows that appear late, with an older lastUpdated | ``Hidden`` |
| whole-second lastUpdated, while the search compares in full | ``whole_seconds`` |
| next links with another host; that expire | ``OtherHost``, ``expired_page()`` |
| duplicated rows across pages; OperationOutcomes among the hits | ``DuplicatedRows``, ``outcome_among_hits`` |
| equal searches answered from a cache, unless told no-cache | ``CachedSearches`` |
| conflicting writers: 409 (HAPI) or 412 (others) | ``refused(409)``, ``refused(412)``, ``answers_as(412, 409)`` |
| parallel conditional creates that all find nothing | ``RacyCreates`` |
| parallel writers of one resource, of which some get a 500 | ``Racing`` |
| no update-as-create; ids assigned by the server | ``NoUpdateAsCreate`` |
| HAPI: numeric client ids and absolute references refused | ``hapi_rules`` |
| XML only; another release; no /metadata | ``xml_only``, ``Release``, ``no_metadata`` |
| tokens that are not taken any more: 401 | ``Tokens`` |
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import httpx

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request. *path* is below the base, without slashes around it; *headers* by lower-case name."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(frozen=True)
class Told:
    """An answer and how it is sent: after *delay_s*; in pieces *pause_s* apart; only so many bytes; or not at all."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/fhir+json"})
    delay_s: float = 0.0
    pause_s: float = 0.0
    cut: int | None = None
    reset: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def saying(self, document: Any) -> Told:
        return replace(self, body=json.dumps(document).encode())


Forward = Callable[[Asked], Told]
Fault = Callable[[Asked, Forward], Told]
When = Callable[[Asked], bool]
F = TypeVar("F", bound=Fault)
R = TypeVar("R")


# Which requests


def anything(_: Asked) -> bool:
    return True


def transactions(asked: Asked) -> bool:
    return asked.method == "POST" and not asked.path


def writes(asked: Asked) -> bool:
    return asked.method in ("POST", "PUT", "PATCH", "DELETE")


def searches(asked: Asked) -> bool:
    return asked.method == "GET" and bool(asked.query)


def later_pages(asked: Asked) -> bool:
    return searches(asked) and "_getpages" in asked.params


def of(*types: str) -> When:
    """Requests about resources of these types (not transactions)."""
    return lambda asked: asked.path.partition("/")[0] in types


# Faults that one request meets


def outcome(code: str, **issue: Any) -> Json:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code, **issue}]}


def told(status: int, document: Any, **headers: str) -> Told:
    """An answer in FHIR JSON; ``retry_after="1"`` makes a header Retry-After."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(status, json.dumps(document).encode(), {"content-type": "application/fhir+json", **names})


def refused(status: int, *, retry_after: str | None = None, code: str = "transient") -> Fault:
    """Answered with *status* and not passed on."""
    headers = {} if retry_after is None else {"retry_after": retry_after}
    return lambda _asked, _forward: told(status, outcome(code), **headers)


def answered(status: int) -> Fault:
    """Passed on, so that it is done; but the answer says *status*."""

    def fault(asked: Asked, forward: Forward) -> Told:
        forward(asked)
        return told(status, outcome("exception"))

    return fault


def answers_as(said: int, instead: int) -> Fault:
    """The server's answer *said* becomes *instead* (412 as HAPI's 409)."""

    def fault(asked: Asked, forward: Forward) -> Told:
        answer = forward(asked)
        return replace(answer, status=instead) if answer.status == said else answer

    return fault


def in_part(entries: int, status: int = 500) -> Fault:
    """Of a transaction, only the first so many entries are applied; then *status* is answered."""

    def fault(asked: Asked, forward: Forward) -> Told:
        bundle = asked.json
        some = bundle | {"entry": bundle["entry"][:entries]}
        if some["entry"]:
            forward(replace(asked, body=json.dumps(some).encode()))
        return told(status, outcome("exception"))

    return fault


def slow(seconds: float) -> Fault:
    """Answered rightly, but late."""
    return lambda asked, forward: replace(forward(asked), delay_s=seconds)


def dripping(seconds: float) -> Fault:
    """The body comes in eight pieces, so many seconds between two."""
    return lambda asked, forward: replace(forward(asked), pause_s=seconds)


def truncated(share: float = 0.5) -> Fault:
    """The body breaks off before its announced length."""

    def fault(asked: Asked, forward: Forward) -> Told:
        answer = forward(asked)
        return replace(answer, cut=int(len(answer.body) * share))

    return fault


def reset() -> Fault:
    """The connection is reset; the request is not passed on."""
    return lambda _asked, _forward: Told(0, reset=True)


def reset_after() -> Fault:
    """The request is done, and the connection reset before the answer."""
    return lambda asked, forward: replace(forward(asked), reset=True)


def broken(share: float = 0.5) -> Fault:
    """The request is done; within the body of the answer the connection is reset."""

    def fault(asked: Asked, forward: Forward) -> Told:
        answer = forward(asked)
        return replace(answer, cut=int(len(answer.body) * share), reset=True)

    return fault


def dropped(seconds: float) -> Fault:
    """Not passed on, and not answered for so long."""
    return lambda _asked, _forward: Told(0, reset=True, delay_s=seconds)


def twice(asked: Asked, forward: Forward) -> Told:
    """Passed on twice, as something between the two did that saw no answer; the second answer is told."""
    forward(asked)
    return forward(asked)


def expired_page(status: int = 410) -> Fault:
    """A next link that has expired; use ``when=later_pages``."""
    return refused(status, code="expired")


# Standing ways of a server


class Sometimes:
    """At random, by *chance*, a request that *when* allows meets one of *faults*; otherwise all is well."""

    def __init__(self, chance: random.Random, share: float, faults: Sequence[Fault], *, when: When = anything) -> None:
        self._chance, self._share, self._faults, self._when = chance, share, tuple(faults), when
        self._lock = threading.Lock()

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        with self._lock:
            fault = self._chance.choice(self._faults) if self._chance.random() < self._share else None
        return fault(asked, forward) if fault and self._when(asked) else forward(asked)


class Hidden:
    """Resources ("Type/id") that searches do not find yet, though they were written earlier; reads do."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def show(self, *names: str) -> None:
        """From now on these are found, with the lastUpdated that they always had; all of them without arguments."""
        self.names -= set(names) or set(self.names)

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        return _rows(asked, forward(asked), lambda rows: [row for row in rows if _name(row) not in self.names])


def whole_seconds(asked: Asked, forward: Forward) -> Told:
    """Every lastUpdated is rendered without its fraction, while the search compares instants with it (PostgreSQL)."""
    # R4 reads a second without fraction as all of it; such a server, as its first instant.
    exact = re.sub(r"(_lastUpdated=gt[0-9\-]{10}T\d\d(?::|%3A)\d\d(?::|%3A)\d\d)(?!\.)", r"\1.000", asked.query)
    answer = forward(replace(asked, query=exact))
    seconds = re.sub(rb'("lastUpdated": ?"[0-9T:\-]{19})\.\d+', rb"\1", answer.body)
    return replace(answer, body=seconds)


class OtherHost:
    """Next links carry a name that only the server knows."""

    def __init__(self, base: str = "http://internal.example:8080/fhir") -> None:
        self.base = base

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        answer = forward(asked)
        document = _bundle(asked, answer)
        if document is None:
            return answer
        for link in document.get("link", ()):
            link["url"] = re.sub(r"^https?://[^/]+/fhir", self.base, link["url"])
        return answer.saying(document)


class DuplicatedRows:
    """Each later page begins with the last row of the page before, as when rows are added in between."""

    def __init__(self) -> None:
        self._last: dict[str, Json] = {}

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        answer = forward(asked)
        document = _bundle(asked, answer)
        if document is None:
            return answer
        rows = document.get("entry", [])
        again = self._last.get(asked.params.get("_getpages", ""))
        for link in document.get("link", ()):
            if link["relation"] == "next" and rows:
                self._last[dict(parse_qsl(link["url"].partition("?")[2]))["_getpages"]] = rows[-1]
        return answer.saying(document | {"entry": [again, *rows]}) if again else answer


def outcome_among_hits(asked: Asked, forward: Forward) -> Told:
    """Searches tell of trouble by an entry of their own (search.mode outcome)."""
    trouble = {"resource": outcome("incomplete", diagnostics="Some results"), "search": {"mode": "outcome"}}
    return _rows(asked, forward(asked), lambda rows: [trouble, *rows])


class CachedSearches:
    """Equal searches are answered from a cache, as HAPI does for a minute, unless the request says no-cache."""

    def __init__(self) -> None:
        self._kept: dict[str, Told] = {}

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        if not searches(asked):
            return forward(asked)
        name = f"{asked.path}?{asked.query}"
        if name not in self._kept or "no-cache" in asked.headers.get("cache-control", ""):
            self._kept[name] = forward(asked)
        return self._kept[name]


class RacyCreates:
    """Conditional creates that look first and create later: up to *parties* at once all find nothing.

    A request waits at most *wait_s* for the others, so that one alone goes on.
    """

    def __init__(self, parties: int = 8, wait_s: float = 0.2) -> None:
        self._barrier = threading.Barrier(parties)
        self._wait_s = wait_s

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        if transactions(asked):
            bundle = asked.json
            for entry in bundle["entry"]:
                request = entry["request"]
                if "ifNoneExist" in request and not _found(forward, request["url"], request["ifNoneExist"]):
                    del request["ifNoneExist"]
            self._together()
            return forward(replace(asked, body=json.dumps(bundle).encode()))
        if asked.method != "POST" or "if-none-exist" not in asked.headers:
            return forward(asked)
        found = _found(forward, asked.path, asked.headers["if-none-exist"])
        self._together()
        if found:
            return told(200, found[0]) if len(found) == 1 else told(412, outcome("multiple-matches"))
        headers = {name: value for name, value in asked.headers.items() if name != "if-none-exist"}
        return forward(replace(asked, headers=headers))

    def _together(self) -> None:
        try:
            self._barrier.wait(self._wait_s)
        except threading.BrokenBarrierError:
            self._barrier.reset()


class Racing:
    """Of writers that meet at one resource, only the first is served; the others get *status*."""

    def __init__(self, status: int = 500, *, hold_s: float = 0.02) -> None:
        self._status, self._hold_s = status, hold_s
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        if not writes(asked):
            return forward(asked)
        names = {entry["request"]["url"] for entry in asked.json["entry"]} if transactions(asked) else {asked.path}
        with self._lock:
            if self._busy & names:
                return told(self._status, outcome("conflict"))
            self._busy |= names
        try:
            time.sleep(self._hold_s)
            return forward(asked)
        finally:
            with self._lock:
                self._busy -= names


class NoUpdateAsCreate:
    """PUT to an id that is not there is answered *status*; the server alone gives ids, also against the body's.

    *told_so*: its CapabilityStatement says ``updateCreate: false``.
    """

    def __init__(self, status: int = 405, *, told_so: bool = False) -> None:
        self._status, self._told_so = status, told_so

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        if asked.method == "PUT" and not self._there(asked.path, forward):
            return told(self._status, outcome("not-supported"))
        if transactions(asked):
            requests = [entry["request"] for entry in asked.json["entry"]]
            if any(each["method"] == "PUT" and not self._there(each["url"], forward) for each in requests):
                return told(self._status, outcome("not-supported"))
        if asked.method == "POST" and asked.path and not asked.path.startswith("$"):
            resource = {name: value for name, value in asked.json.items() if name != "id"}
            return forward(replace(asked, body=json.dumps(resource).encode()))
        answer = forward(asked)
        if asked.path != "metadata" or not self._told_so:
            return answer
        return answer.saying(_with_types(answer.json, updateCreate=False))

    @staticmethod
    def _there(name: str, forward: Forward) -> bool:
        return forward(Asked("GET", name)).status == 200


def hapi_rules(asked: Asked, forward: Forward) -> Told:
    """HAPI refuses client ids of digits alone, and absolute references."""
    resources = []
    if transactions(asked):
        resources = [entry["resource"] for entry in asked.json["entry"] if "resource" in entry]
    elif asked.method in ("POST", "PUT") and not asked.path.startswith("$"):
        resources = [asked.json]
    for resource in resources:
        if re.fullmatch(r"\d+", resource.get("id", "")):
            return told(400, outcome("processing", diagnostics="HAPI-0960: clients may only assign IDs with a letter"))
        if any("://" in reference for reference in references(resource)):
            return told(400, outcome("processing", diagnostics="HAPI-0507: Resource contains external reference"))
    return forward(asked)


def xml_only(asked: Asked, forward: Forward) -> Told:
    """Whatever is asked for, the answer is XML."""
    kind = forward(asked).json.get("resourceType", "Bundle")
    body = f'<?xml version="1.0"?><{kind} xmlns="http://hl7.org/fhir"/>'.encode()
    return Told(200, body, {"content-type": "application/fhir+xml;charset=UTF-8"})


class Release:
    """The CapabilityStatement says another release ("5.0.0")."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        answer = forward(asked)
        return answer.saying(answer.json | {"fhirVersion": self.version}) if asked.path == "metadata" else answer


def no_metadata(asked: Asked, forward: Forward) -> Told:
    """There is no CapabilityStatement."""
    return told(404, outcome("not-found")) if asked.path == "metadata" else forward(asked)


class Tokens:
    """401 to every request without one of the *valid* bearer tokens, a set that the test changes."""

    def __init__(self, valid: set[str]) -> None:
        self.valid = valid

    def __call__(self, asked: Asked, forward: Forward) -> Told:
        if asked.headers.get("authorization", "").removeprefix("Bearer ") in self.valid:
            return forward(asked)
        return told(401, outcome("expired"), www_authenticate='Bearer error="invalid_token"')


# The proxy


class Faults:
    """The proxy before *upstream*; *base* is where clients reach it."""

    def __init__(self, upstream: str, base: str, http: httpx.Client, *, at: str) -> None:
        self.upstream = upstream
        self.base = base
        self.at = at
        self.asked: list[Asked] = []
        self._http = http
        self._next: list[tuple[When, Fault]] = []
        self._always: list[tuple[When, Fault]] = []
        self._lock = threading.Lock()

    def next(self, *faults: Fault, when: When = anything) -> None:
        """Each of *faults* meets one request that *when* allows, in turn."""
        with self._lock:
            self._next += [(when, fault) for fault in faults]

    def always(self, fault: F, *, when: When = anything) -> F:
        """*fault* meets every request that *when* allows, until :meth:`clear`."""
        with self._lock:
            self._always.append((when, fault))
        return fault

    def clear(self) -> None:
        """All is well again."""
        with self._lock:
            self._next, self._always = [], []

    @property
    def pending(self) -> int:
        """How many faults of ``next`` no request has met yet."""
        return len(self._next)

    def answer(self, asked: Asked) -> Told:
        """What *asked* is answered, after the faults that it meets."""
        with self._lock:
            self.asked.append(asked)
            standing = [fault for when, fault in self._always if when(asked)]
            planned = next((each for each in self._next if each[0](asked)), None)
            if planned:
                self._next.remove(planned)
                standing.append(planned[1])
        # A fault that asks the server on its own goes past itself only.
        way = reduce(lambda forward, fault: partial(_through, fault, forward), standing, self.forward)
        return way(asked)

    def forward(self, asked: Asked) -> Told:
        """The server's own answer."""
        url = f"{self.upstream}/{asked.path}".rstrip("/") + (f"?{asked.query}" if asked.query else "")
        passed = ("accept", "content-type", "if-match", "if-none-exist", "if-none-match", "prefer", "cache-control")
        passed += ("authorization",)
        headers = {name: asked.headers[name] for name in passed if name in asked.headers}
        answer = self._http.request(asked.method, url, headers=headers, content=asked.body or None)
        kept = ("content-type", "etag", "last-modified", "location", "retry-after", "www-authenticate")
        return Told(
            answer.status_code, answer.content, {name: answer.headers[name] for name in kept if name in answer.headers}
        )


@contextmanager
def run_faults(upstream: str, *, at: str = "/fhir") -> Iterator[Faults]:
    """The proxy before the server at *upstream* ("http://127.0.0.1:1234/fhir"), until the block ends.

    *at* is the path under which clients find it here.
    """
    pool = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=64))
    with pool as http, _Server(("127.0.0.1", 0), _Handler) as server:
        base = f"http://127.0.0.1:{server.server_address[1]}{at}"
        server.faults = Faults(upstream.rstrip("/"), base, http, at=at)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.faults
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    faults: Faults

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ending = threading.Event()
        self.reset: set[int] = set()

    def shutdown_request(self, request: Any) -> None:
        if request.fileno() in self.reset:
            self.reset.discard(request.fileno())
            self.close_request(request)  # no FIN before the RST
        else:
            super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        below = path.removeprefix(self.server.faults.at).strip("/")
        self._send(self.server.faults.answer(Asked(self.command, below, query, headers, body)))

    def _send(self, answer: Told) -> None:
        if answer.delay_s:
            self.server.ending.wait(answer.delay_s)
        if answer.reset:
            # No FIN but RST, as when the process behind the address dies.
            if answer.cut is not None:
                self._begin(answer)
                self.wfile.write(answer.body[: answer.cut])
                self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.reset.add(self.connection.fileno())
            self.close_connection = True
            return
        self._begin(answer)
        sent = answer.body if answer.cut is None else answer.body[: answer.cut]
        step = -(-len(sent) // 8) or 1
        for piece in (sent[at : at + step] for at in range(0, len(sent), step)) if answer.pause_s else (sent,):
            self.wfile.write(piece)
            self.wfile.flush()
            if answer.pause_s:
                self.server.ending.wait(answer.pause_s)
        if answer.cut is not None:
            self.close_connection = True

    def _begin(self, answer: Told) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - names of the library

    def log_message(self, *_: Any) -> None:
        """Silent: ``Faults.asked`` tells."""


def together(parties: int, work: Callable[[int], R]) -> list[R]:
    """What ``work(0)``, ``work(1)``, ... return or raise, begun at the same moment in a thread each."""
    start = threading.Barrier(parties)

    def begun(number: int) -> R:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(parties) as pool:
        return list(pool.map(begun, range(parties)))


def references(part: Any) -> Iterator[str]:
    """Every ``Reference.reference`` in *part*."""
    if isinstance(part, list):
        for each in part:
            yield from references(each)
    elif isinstance(part, dict):
        if isinstance(part.get("reference"), str):
            yield part["reference"]
        for each in part.values():
            yield from references(each)


def _through(fault: Fault, forward: Forward, asked: Asked) -> Told:
    return fault(asked, forward)


def _bundle(asked: Asked, answer: Told) -> Json | None:
    """The searchset that *answer* is, or None."""
    if not searches(asked) or answer.status != 200 or answer.reset:
        return None
    document: Json = answer.json
    return document if document.get("resourceType") == "Bundle" else None


def _rows(asked: Asked, answer: Told, change: Callable[[list[Json]], list[Json]]) -> Told:
    document = _bundle(asked, answer)
    if document is None:
        return answer
    return answer.saying(document | {"entry": change(document.get("entry", []))})


def _name(row: Json) -> str:
    return f"{row['resource']['resourceType']}/{row['resource'].get('id', '')}"


def _found(forward: Forward, kind: str, condition: str) -> list[Json]:
    query = urlencode(parse_qsl(condition.rpartition("?")[2], keep_blank_values=True))
    return [row["resource"] for row in forward(Asked("GET", kind, query)).json.get("entry", [])]


def _with_types(statement: Json, **said: Any) -> Json:
    kinds = ("Device", "Observation", "DocumentReference", "Provenance", "DiagnosticReport", "ImagingStudy", "Patient")
    (rest,) = statement["rest"]
    return statement | {"rest": [rest | {"resource": [{"type": kind, **said} for kind in kinds]}]}
