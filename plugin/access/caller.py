"""Who asks, and what of the data they see."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from plugin.values import ReportStatus

_PATIENT = re.compile(r"Patient/[A-Za-z0-9.-]{1,64}")


class Role(StrEnum):
    """What somebody is to this service. One caller may be several."""

    PATIENT = "patient"
    RADIOLOGIST = "radiologist"
    OPERATOR = "operator"
    SERVICE = "service"


class Proof(StrEnum):
    """By what a caller is known."""

    DEMO = "demo"  # by nothing: only this machine reaches the service
    TOKEN = "token"  # noqa: S105 - a bearer token of the site's issuer
    SECRET = "secret"  # noqa: S105 - a token of the site's own file, for a program
    SESSION = "session"  # a cookie, after a login in the browser


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has proven who they are.

    Parameters
    ----------
    id : stays the same from request to request; issuer and subject, or the name of a token.
    patient : "Patient/<id>", the compartment that the issuer named; "" when it named none.
    scopes : of OAuth, as they were granted.
    study : Study Instance UID of the launch context; "" when there is none.
    user : ``fhirUser``, "Practitioner/<id>"; "" when it is not told.
    ends : when the token ends that proves it, in seconds since 1970; None when something else proves it.
    """

    id: str
    roles: frozenset[Role]
    proof: Proof
    patient: str = ""
    scopes: tuple[str, ...] = field(default=(), repr=False)
    study: str = ""
    user: str = ""
    ends: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a caller has an id")
        if self.patient and not _PATIENT.fullmatch(self.patient):
            raise ValueError('the compartment is "Patient/<id>" (R4 datatypes.html#id)')


DEMO = Caller("demo", frozenset({Role.RADIOLOGIST, Role.OPERATOR, Role.SERVICE}), Proof.DEMO)
"""Whoever sits at this machine, when there is no login: everything but a patient."""


@dataclass(frozen=True, slots=True)
class Sees:
    """What of the data a caller sees. The data layer asks it about every report; a route alone decides nothing.

    Parameters
    ----------
    patient : "Patient/<id>": what is about that patient, and nothing else; None: what is about anybody.
    drafts : whether reports are seen that are not final yet.
    workings : whether what stands behind a result is seen: who decided about a region and why, how sure the model is.
    """

    patient: str | None = None
    drafts: bool = True
    workings: bool = True

    def report(self, subject: str | None, status: ReportStatus) -> bool:
        """Whether a report about *subject* ("Patient/<id>"; None: not known) is seen."""
        if not self.drafts and not (status.final or status.withdrawn):
            return False
        return self.patient is None or subject == self.patient

    def study(self, reports: Iterable[tuple[str | None, ReportStatus]]) -> bool:
        """Whether the images of a study are seen, with all that stands beside them in the archive.

        Parameters
        ----------
        reports : subject and status of each report that is kept of the study. To a patient, every one must be about
            them, and none a draft; a study without a report is nobody's.
        """
        if self.patient is None and self.drafts:
            return True
        shown = [(subject, status) for subject, status in reports if not status.withdrawn]
        return bool(shown) and all(self.report(subject, status) for subject, status in shown)


EVERYTHING = Sees()
