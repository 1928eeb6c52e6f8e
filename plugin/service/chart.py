"""``/chart``: the studies of one patient, who logged in, or whose record is open in the system that launched us."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from http import HTTPStatus
from importlib.resources import files

import jinja2
from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from plugin.access.caller import Caller, Role
from plugin.imr.endpoint import MultimediaReports
from plugin.page.view import content_security_policy
from plugin.page.words import Audience
from plugin.service.entrance import VisitNow
from plugin.service.problems import NOT_FOUND, RESPONSES


def chart_router(reports: MultimediaReports) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["studies"])

    @router.get(
        "/chart",
        response_class=HTMLResponse,
        responses=RESPONSES | NOT_FOUND,
        summary="The studies of one patient",
    )
    def chart(visit: VisitNow) -> Response:
        """A list for people; a single study opens at once."""
        patient = visit.caller.patient
        if not patient:
            raise HTTPException(HTTPStatus.NOT_FOUND, "No patient's record is open.")
        visit.patients[patient] = None
        held = [each for each in visit.reports(reports).shown() if each.subject == patient]
        audience = audience_of(visit.caller)
        newest = {
            uid: issued for issued, uid in sorted((each.frame["issued"], each.study_instance_uid) for each in held)
        }
        if len(newest) == 1:
            return RedirectResponse(f"/studies/{next(iter(newest))}/{audience}", HTTPStatus.SEE_OTHER)
        rows = [(uid, datetime.fromisoformat(issued)) for uid, issued in reversed(newest.items())]
        style = _style()
        policy = content_security_policy(style=style, script="")
        shown = _template().render(rows=rows, audience=audience, style=Markup(style), policy=policy)  # noqa: S704 - a file of this package
        return HTMLResponse(shown)

    return router


def audience_of(caller: Caller) -> Audience:
    """Whose page *caller* comes to."""
    return Audience.RADIOLOGIST if Role.RADIOLOGIST in caller.roles else Audience.PATIENT


@cache
def _style() -> str:
    return files("plugin.service").joinpath("worklist.css").read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plugin.service", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("chart.html")
