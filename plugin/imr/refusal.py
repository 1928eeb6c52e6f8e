"""Refusals of the FHIR endpoint, and OperationOutcomes (R4 operationoutcome.html). None repeats what was sent."""

from __future__ import annotations

from plugin.fhir.parts import Fhir


class RefusalError(Exception):
    """A request is refused: *status* of HTTP, *code* of FHIR's issue types, *text* for its sender."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text


def bad_request(text: str) -> RefusalError:
    """The request cannot be understood."""
    return RefusalError(400, "invalid", text)


def not_found(text: str) -> RefusalError:
    """There is no such resource here."""
    return RefusalError(404, "not-found", text)


def outcome(code: str, text: str, *, severity: str = "error") -> Fhir:
    """An OperationOutcome of one issue."""
    issue = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}
