"""``/login``, ``/launch``, ``/callback``, ``/logout``: how people come in, by :mod:`plugin.access.login`.

The session's cookie is a random word: HttpOnly, and Secure with a ``__Host-`` name behind TLS. It is ``SameSite=Lax``,
since a login ends with a redirect from another site, which ``Strict`` would show no cookie on; requests that change
something need proof of their origin besides (:mod:`plugin.service.entrance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from plugin.access.caller import Caller
from plugin.access.events import Decision
from plugin.access.login import Login, local_address
from plugin.access.ports import UnknownError
from plugin.access.sessions import LOGIN_S
from plugin.errors import TransientError
from plugin.service.chart import audience_of
from plugin.service.entrance import VisitNow, enter
from plugin.service.problems import RETRY_AFTER_S
from plugin.service.styled import policy, style

START, LAUNCH, CALLBACK, LOGOUT, CHART = "/login", "/launch", "/callback", "/logout", "/chart"
_SESSION, _LOGIN = "sightline-session", "sightline-login"
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Cookies:
    """How cookies are set.

    Parameters
    ----------
    secure : whether browsers come through TLS.
    embedded : whether pages may stand in frames of other sites, where ``Lax`` cookies are not sent.
    """

    secure: bool
    embedded: bool = False

    def name(self, plain: str) -> str:
        """The name of a cookie; with the prefix, no other host of the domain can set it."""
        return f"__Host-{plain}" if self.secure else plain

    @property
    def session(self) -> str:
        """The name of the session's cookie."""
        return self.name(_SESSION)

    def set(self, answer: Response, plain: str, word: str, *, life_s: int | None = None) -> None:
        """Give the browser *word*; for as long as it runs, when no life is said."""
        same_site: Literal["lax", "none"] = "none" if self.embedded and self.secure else "lax"
        answer.set_cookie(
            self.name(plain), word, max_age=life_s, path="/", secure=self.secure, httponly=True, samesite=same_site
        )

    def forget(self, answer: Response, plain: str) -> None:
        """Take it away."""
        self.set(answer, plain, "", life_s=0)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the routes work with.

    Parameters
    ----------
    usual : the provider of :data:`START`.
    """

    login: Login
    cookies: Cookies
    usual: str


def login_router(doors: Doors) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["login"])
    login, cookies = doors.login, doors.cookies

    async def away(provider: str, *, to: str, launch: str = "") -> Response:
        try:
            way = await run_in_threadpool(login.begin, provider, to=to, launch=launch)
        except (UnknownError, TransientError) as error:
            return _refused(error)
        answer = RedirectResponse(way.address, HTTPStatus.SEE_OTHER)
        cookies.set(answer, _LOGIN, way.browser, life_s=int(LOGIN_S))
        return answer

    @router.get(START, include_in_schema=False)
    async def start(to: str = "") -> Response:
        return await away(doors.usual, to=local_address(to) or CHART)

    @router.get(LAUNCH, summary="Launch from a portal or record (SMART App Launch)")
    async def launch(iss: str, launch: str = "", to: str = "") -> Response:
        """Logs in at the FHIR server *iss*, which the settings have to know; without *launch*, standalone."""
        if len(launch) > _MOST:
            return _refused(UnknownError("The launch cannot be read."))
        return await away(iss.rstrip("/"), to=local_address(to) or CHART, launch=launch)

    @router.get(CALLBACK, include_in_schema=False)
    async def callback(request: Request) -> Response:
        told = dict(request.query_params)
        browser = request.cookies.get(cookies.name(_LOGIN), "")
        old = request.cookies.get(cookies.session, "")
        try:
            caller, to = await run_in_threadpool(login.finish, told, browser=browser)
            # Always a new word, and the old one ends: whoever planted it has nothing.
            word = await run_in_threadpool(login.sessions.open, caller)
            await run_in_threadpool(login.sessions.close, old)
        except (UnknownError, TransientError) as error:
            answer = _refused(error)
        else:
            enter(request, Decision.LOGIN, caller)
            answer = _onwards(_landing(caller, to))
            cookies.set(answer, _SESSION, word)
        cookies.forget(answer, _LOGIN)
        return answer

    _add_leaving(router, doors)
    return router


def _add_leaving(router: APIRouter, doors: Doors) -> None:
    login, cookies = doors.login, doors.cookies

    @router.get(LOGOUT, include_in_schema=False)
    def leaving(_visit: VisitNow) -> HTMLResponse:
        form = f'<form method="post" action="{LOGOUT}"><p><button>Log out</button></p></form>'
        return _page("Log out", form, form=True)

    @router.post(LOGOUT, include_in_schema=False)
    def leave(request: Request, visit: VisitNow) -> Response:
        login.sessions.close(request.cookies.get(cookies.session, ""))
        enter(request, Decision.LOGOUT, visit.caller)
        answer = _page("You are logged out", f'<p><a href="{START}">Log in again</a></p>')
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        cookies.forget(answer, _SESSION)
        return answer


def way_in(path: str, query: str) -> Response:
    """Send a browser to the login, and then to where it wanted to."""
    to = local_address(f"{path}?{query}" if query else path)
    return RedirectResponse(f"{START}?{urlencode({'to': to})}" if to else START, HTTPStatus.SEE_OTHER)


def _landing(caller: Caller, to: str) -> str:
    """Where a login leads: to the study of the launch, when there is one and nothing else was asked for."""
    if to != CHART:
        return to
    if caller.study:
        return f"/studies/{quote(caller.study, safe='')}/{audience_of(caller)}"
    return CHART if caller.patient else "/"


def _onwards(to: str) -> HTMLResponse:
    """To *to*, by a page of our own: on a redirect in the chain from another site some cookies would not be sent."""
    answer = _page("You are logged in", f'<p><a href="{escape(to)}">Go on</a></p>')
    answer.headers["Refresh"] = f"0;url={to}"
    return answer


def _refused(error: UnknownError | TransientError) -> HTMLResponse:
    away = isinstance(error, TransientError)
    status = HTTPStatus.SERVICE_UNAVAILABLE if away else HTTPStatus.FORBIDDEN
    why = "The login does not answer now; try again in a minute." if away else str(error)
    answer = _page("You are not logged in", f"<p>{escape(why)}</p>", status=status)
    if away:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer


def _page(title: str, body: str, *, status: int = 200, form: bool = False) -> HTMLResponse:
    """A page of ours; *body* is HTML."""
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} · Sightline</title>'
        f'<link rel="icon" href="data:,"><style>{style()}</style></head>'
        f'<body><main><p class="brand">Sightline</p><h1>{title}</h1>{body}</main></body></html>'
    )
    return HTMLResponse(text, status, headers={"Content-Security-Policy": policy(forms=form)})
