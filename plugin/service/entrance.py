"""The entrance: no request reaches a route before its rule is found, its caller known, and both fit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugin.access.caller import DEMO, Caller
from plugin.access.deciding import Refused, decide
from plugin.access.events import AccessEvent, Decision, Observe, nobody_listens
from plugin.access.limits import Limits, client_at
from plugin.access.ports import Credentials, Identification, UnknownError
from plugin.access.rules import RULES, Entry, Rule, methods_at, rule_for
from plugin.access.visit import Visit
from plugin.errors import TransientError
from plugin.imr.refusal import outcome
from plugin.page.release import IMMEDIATELY, Rules
from plugin.service.foreign import foreign
from plugin.service.problems import log_defect, problem, problem_of

_VISIT, _ENTERED = "visit", "entered"
_CODES = {401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 429: "throttled"}


def anybody(credentials: Credentials) -> Caller:  # noqa: ARG001
    """Demo mode: everybody is whoever sits at this machine."""
    return DEMO


@dataclass(frozen=True, slots=True)
class Access:
    """How requests are let in.

    Parameters
    ----------
    identify : who asks.
    observe : is told of every decision.
    cookie : name of the session's; "": there are no sessions.
    limits : on what one client asks, by caller, or by address while nobody is known; None: none.
    way_in : where a browser is sent that has to log in first, by path and query; None: it is refused like a program.
    """

    identify: Identification = anybody
    observe: Observe = nobody_listens
    cookie: str = ""
    way_in: Callable[[str, str], Response] | None = None
    limits: Limits | None = None


def visit_of(connection: HTTPConnection) -> Visit:
    """The visit that a request is; raises when it did not come through the entrance, so that nothing is answered."""
    visit: Visit = connection.scope["state"][_VISIT]
    return visit


def enter(connection: HTTPConnection, decision: Decision, caller: Caller) -> None:
    """Let the audit trail know that *caller* logged in, or out, by this request."""
    connection.scope.setdefault("state", {})[_ENTERED] = (decision, caller)


VisitNow = Annotated[Visit, Depends(visit_of)]


class Entrance:
    """ASGI middleware before the routes.

    Parameters
    ----------
    release : when patients see a report that is final.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        release: Rules = IMMEDIATELY,
        rules: tuple[Rule, ...] = RULES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._access = access
        self._release = release
        self._rules = rules
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        decided = await self._decided(scope)
        limits, client = self._access.limits, _client(scope, decided)
        wait_s = limits.enter(client) if limits and _is_counted(decided.rule) else 0
        if wait_s:
            decided = replace(decided, why="too many requests", refusal=_too_many(scope, wait_s))
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if not status and message["type"].endswith((".start", ".accept", ".close")):
                status = message.get("status", 101 if message["type"].endswith(".accept") else 403)
            await send(message)

        try:
            if decided.visit is not None:
                scope.setdefault("state", {})[_VISIT] = decided.visit
            if decided.refusal is None:
                await self._app(scope, receive, noted)
            elif scope["type"] == "http":
                await decided.refusal(scope, receive, noted)
            else:
                await noted({"type": "websocket.close", "code": 1008, "reason": ""})
        finally:
            if limits and not wait_s and _is_counted(decided.rule):
                limits.leave(client)
            self._tell(scope, decided, status or 500)

    async def _decided(self, scope: Scope) -> _Decided:
        rule = rule_for(_method(scope), scope["path"], self._rules)
        if rule is not None and rule.entry is not Entry.ROLES:
            return _Decided(rule)
        try:
            credentials = credentials_of(HTTPConnection(scope), cookie=self._access.cookie)
            caller = await run_in_threadpool(self._access.identify, credentials)
        except UnknownError as error:
            return _Decided(rule, why=str(error), refusal=_unknown(scope, str(error), sent=True))
        except TransientError as error:
            return _Decided(rule, why=str(error), refusal=problem_of(error))
        if caller is None:
            why = "This needs a login: send a bearer token."
            return _Decided(rule, why=why, refusal=self._way_in(scope) or _unknown(scope, why, sent=False))
        return self._of_caller(scope, rule, caller)

    def _of_caller(self, scope: Scope, rule: Rule | None, caller: Caller) -> _Decided:
        if rule is None:
            return _Decided(None, caller, why="no such address", refusal=_nothing_there(scope))
        if why := foreign(Headers(scope=scope), _method(scope), caller.proof):
            return _Decided(rule, caller, why=why, refusal=_refusal(scope, HTTPStatus.FORBIDDEN, why))
        seen = decide(rule, caller)
        if isinstance(seen, Refused):
            return _Decided(rule, caller, why=seen.why, refusal=_refusal(scope, HTTPStatus.FORBIDDEN, seen.why))
        return _Decided(rule, caller, Visit(caller, seen, rule, self._release))

    def _way_in(self, scope: Scope) -> Response | None:
        """For a browser that goes to a page, when people can log in."""
        headers = Headers(scope=scope)
        goes = headers.get("sec-fetch-mode", "navigate") == "navigate" and "text/html" in headers.get("accept", "")
        if self._access.way_in is None or scope.get("method") != "GET" or not goes:
            return None
        return self._access.way_in(scope["path"], scope["query_string"].decode("latin-1"))

    def _tell(self, scope: Scope, decided: _Decided, status: int) -> None:
        rule, visit = decided.rule, decided.visit
        values = rule.values(scope["path"]) if rule is not None else {}
        decision, caller = scope.get("state", {}).get(_ENTERED, (decision_of(status), decided.caller))
        if decided.caller is None and 300 <= status < 400 and decided.refusal is not None:
            decision = Decision.UNKNOWN  # sent to the login
        event = AccessEvent(
            at=self._clock(),
            caller=caller,
            route=rule.name if rule else "",
            method=_method(scope),
            decision=decision,
            status=status,
            why=decided.why,
            study=values.get("study_instance_uid", "") or next(iter(visit.studies if visit else ()), ""),
            report=values.get("report_id", ""),
            patients=tuple(visit.patients) if visit else (),
            address=(scope.get("client") or ("",))[0],
        )
        try:
            self._access.observe(event)
        except Exception as error:  # noqa: BLE001 - whoever listens must not take the answer away; logged without data
            log_defect("observing an access", error)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What becomes of a request: it is a visit, or there is a refusal; neither for a route that is open."""

    rule: Rule | None
    caller: Caller | None = None
    visit: Visit | None = None
    why: str = ""
    refusal: Response | None = None


def _is_counted(rule: Rule | None) -> bool:
    """Health is always answered, and costs nothing."""
    return rule is None or not rule.path.startswith("/health/")


def _client(scope: Scope, decided: _Decided) -> str:
    """Who is counted: the caller, or the address while nobody is known."""
    if decided.caller is not None:
        return decided.caller.id
    return f"address|{client_at((scope.get('client') or ('',))[0])}"


def _too_many(scope: Scope, wait_s: int) -> Response:
    answer = _refusal(scope, HTTPStatus.TOO_MANY_REQUESTS, f"Too many requests; try again in {wait_s} s.")
    answer.headers["Retry-After"] = str(wait_s)
    return answer


def _method(scope: Scope) -> str:
    return "WS" if scope["type"] == "websocket" else str(scope["method"])


def decision_of(status: int) -> Decision:
    """What an answer of *status* means."""
    known = {
        401: Decision.UNKNOWN,
        403: Decision.FORBIDDEN,
        404: Decision.MISSING,
        410: Decision.MISSING,
        429: Decision.TOO_MANY,
    }
    return known.get(status, Decision.ANSWERED if status < 400 else Decision.FAILED)


def credentials_of(connection: HTTPConnection, *, cookie: str = "") -> Credentials:
    """What the request brings. A token in the address is none: addresses end in logs and histories."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return Credentials(bearer=bearer, session=connection.cookies.get(cookie, "") if cookie else "")


def _unknown(scope: Scope, why: str, *, sent: bool) -> Response:
    answer = _refusal(scope, HTTPStatus.UNAUTHORIZED, why)
    # RFC 6750 3: no error code when nothing was sent.
    answer.headers["WWW-Authenticate"] = 'Bearer realm="sightline"' + (', error="invalid_token"' if sent else "")
    return answer


def _nothing_there(scope: Scope) -> Response:
    allowed = methods_at(scope["path"])
    if not allowed:
        return _refusal(scope, HTTPStatus.NOT_FOUND, "There is no such address here.")
    answer = _refusal(scope, HTTPStatus.METHOD_NOT_ALLOWED, "That address is not for this method.")
    answer.headers["Allow"] = ", ".join(allowed)
    return answer


def _refusal(scope: Scope, status: HTTPStatus, why: str) -> Response:
    """A problem; below /fhir an OperationOutcome."""
    if not scope["path"].startswith("/fhir/"):
        return problem(status, why)
    return Response(json.dumps(outcome(_CODES[status], why)), status, media_type="application/fhir+json")


def check_rules(app: FastAPI, rules: Iterable[Rule] = RULES) -> None:
    """See that every route of *app* has a rule.

    Raises
    ------
    ValueError
        If one has none; it names the route. That is a defect: the service is not started.
    """
    known = {(method, rule.path) for rule in rules for method in rule.methods}
    lost = [f"{method} {path}" for method, path in routes_of(app) if (method, path) not in known]
    if lost:
        raise ValueError(f"no rule in plugin/access/rules.py for: {', '.join(lost)}")


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path) of every route of *app*; a mount is one of GET."""
    return _routes(app.routes, "")


def _routes(routes: Iterable[BaseRoute], prefix: str) -> Iterator[tuple[str, str]]:
    for route in routes:
        inner: Any = getattr(route, "original_router", None)  # what FastAPI makes of include_router
        if inner is not None:
            yield from _routes(inner.routes, prefix + route.include_context.prefix)  # type: ignore[attr-defined]
        elif isinstance(route, Mount):
            yield "GET", f"{prefix}{route.path}/{{path:path}}"
        else:
            methods = getattr(route, "methods", None) or ("WS",)
            yield from ((method, prefix + getattr(route, "path", "")) for method in sorted(methods))
