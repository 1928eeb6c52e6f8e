"""Whether the service lives, and whether it can work."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from plugin.errors import SightlineError
from plugin.service.parts import Check
from plugin.service.problems import RETRY_AFTER_S, log_defect


class CheckAnswer(BaseModel):
    """One thing the service needs."""

    name: str = Field(examples=["archive"])
    ready: bool
    detail: str = Field(examples=["", "The archive does not answer."])


class Readiness(BaseModel):
    """Ready when every check is."""

    ready: bool
    checks: tuple[CheckAnswer, ...]


class Liveness(BaseModel):
    """The process answers."""

    alive: bool = True


def health_router(checks: tuple[Check, ...]) -> APIRouter:
    """Routes of health."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="The process answers")
    def live() -> Liveness:
        return Liveness()

    @router.get(
        "/ready",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Something it needs is not there."}},
        summary="Archive, report store, database and model can be used",
    )
    def ready() -> JSONResponse:
        answers = tuple(answer_of(check) for check in checks)
        readiness = Readiness(ready=all(answer.ready for answer in answers), checks=answers)
        headers = None if readiness.ready else {"Retry-After": str(RETRY_AFTER_S)}
        return JSONResponse(readiness.model_dump(mode="json"), 200 if readiness.ready else 503, headers=headers)

    return router


def answer_of(check: Check) -> CheckAnswer:
    """What *check* finds."""
    try:
        check.probe()
    except SightlineError as error:
        return CheckAnswer(name=check.name, ready=False, detail=str(error))
    except Exception as error:  # noqa: BLE001 - a probe may fail in any way; health still answers
        log_defect(f"check {check.name}", error)
        return CheckAnswer(name=check.name, ready=False, detail=f"Unexpected {type(error).__name__}.")
    return CheckAnswer(name=check.name, ready=True, detail="")
