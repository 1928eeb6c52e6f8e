"""``/chart``: the studies of one patient, who logged in, or whose record is open in the system that launched us."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from plugin.access.caller import Caller, Role
from plugin.imr.endpoint import MultimediaReports
from plugin.page.words import Audience
from plugin.service.entrance import VisitNow
from plugin.service.problems import NOT_FOUND, RESPONSES
from plugin.service.styled import rendered


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
        return HTMLResponse(rendered("chart.html", rows=rows, audience=audience))

    return router


def audience_of(caller: Caller) -> Audience:
    """Whose page *caller* comes to."""
    return Audience.RADIOLOGIST if Role.RADIOLOGIST in caller.roles else Audience.PATIENT
