"""The table of routes and roles: every address of the service, and who may come in there.

To add a route, add a line to :data:`RULES` whose method and path are exactly those of the route's decorator (prefix
included): without it the service does not start, and ``test_access_matrix`` fails. Then, where the route answers data
of patients:

1. take the request's :class:`plugin.service.entrance.Visit` as a parameter, ``visit: VisitNow``;
2. read results through ``visit.results(services.results)`` and multimedia reports through ``visit.reports(...)``: they
   hide what the caller does not see as if it were not there. Whatever else is about a patient (a file, a row, a job)
   is answered after ``visit.admits(...)`` said yes, with 404 otherwise;
3. show who decided about regions and why, and the model's figures, to nobody whose ``visit.sees.workings`` is false;
4. give the rule the FHIR type that a SMART scope must allow to be read (``reads``), or written (``writes``); or say
   that the route tells of all patients (``whole``), such as a list of jobs.

``OWN_PROOF`` is for routes that check a signature or a secret by themselves; ``OPEN`` answers everybody, and holds
nothing about anybody. The first line that matches counts, so those with ``:path`` stand behind the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from starlette.routing import compile_path

from plugin.access.caller import Role


class Entry(StrEnum):
    """How a route is entered."""

    ROLES = "roles"
    OWN_PROOF = "own-proof"
    OPEN = "open"


@dataclass(frozen=True)
class Rule:
    """Who may use a route.

    Parameters
    ----------
    name : of the route, in events and logs.
    methods : of HTTP; "WS" for a web socket.
    path : as in the route's decorator.
    roles : who may; empty unless *entry* is by roles.
    reads, writes : the FHIR type that a caller with SMART scopes needs one for; "": none.
    whole : whether it tells of all patients, or changes what is about them: nobody comes in who sees one alone.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    roles: frozenset[Role] = frozenset()
    reads: str = ""
    writes: str = ""
    whole: bool = False
    entry: Entry = Entry.ROLES

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return compile_path(self.path)[0]

    def matches(self, method: str, path: str) -> bool:
        """Whether it is about that request."""
        return method in self.methods and self._pattern.match(path) is not None

    def values(self, path: str) -> dict[str, str]:
        """The values in *path* of the names in the rule's own."""
        found = self._pattern.match(path)
        return {} if found is None else found.groupdict()


PATIENT, RADIOLOGIST, OPERATOR, SERVICE = Role
STAFF: Final = frozenset({RADIOLOGIST, OPERATOR})
REPORTERS: Final = frozenset({RADIOLOGIST})
WORKERS: Final = frozenset({RADIOLOGIST, SERVICE})
READERS: Final = WORKERS | {PATIENT}
EVERYBODY: Final = frozenset(Role)
READ: Final = ("GET", "HEAD")
_FHIR_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ANYWHERE: Final = "/{path:path}"
_STUDY: Final = "/studies/{study_instance_uid}"
_REPORT: Final = _STUDY + "/reports/{report_id}"

RULES: Final[tuple[Rule, ...]] = (
    # Health, and what has to be known before anybody can prove who they are.
    Rule("live", READ, "/health/live", entry=Entry.OPEN),
    Rule("ready", READ, "/health/ready", entry=Entry.OPEN),
    Rule("public-keys", READ, "/.well-known/jwks.json", entry=Entry.OPEN),
    # Coming in: each checks what it is brought.
    Rule("login", READ, "/login", entry=Entry.OPEN),
    Rule("launch", READ, "/launch", entry=Entry.OPEN),
    Rule("callback", READ, "/callback", entry=Entry.OPEN),
    Rule("logout", ("GET", "HEAD", "POST"), "/logout", EVERYBODY),
    # Other machines, by a signature or a secret of their own.
    Rule("event", ("POST",), "/events", entry=Entry.OWN_PROOF),
    Rule("hook", ("POST",), "/hooks/reports", entry=Entry.OWN_PROOF),
    Rule("hook-resource", ("POST", "PUT", "DELETE"), "/hooks/reports/{_:path}", entry=Entry.OWN_PROOF),
    # Those who run it.
    Rule("metrics", READ, "/metrics", frozenset({OPERATOR, SERVICE})),
    Rule("description", READ, "/openapi.json", EVERYBODY),
    Rule("home", READ, "/", STAFF, whole=True),
    Rule("changes", READ, "/changes", STAFF, whole=True),
    Rule("worklist-parts", READ, "/worklist/{name}", STAFF),
    Rule("icon", READ, "/favicon.ico", EVERYBODY),
    Rule("submit", ("POST",), "/studies", frozenset({RADIOLOGIST, OPERATOR, SERVICE}), whole=True),
    Rule("jobs", READ, "/jobs", frozenset({RADIOLOGIST, OPERATOR, SERVICE}), whole=True),
    Rule("job", READ, "/jobs/{job_id}", frozenset({RADIOLOGIST, OPERATOR, SERVICE}), whole=True),
    Rule("job-action", ("POST",), "/jobs/{job_id}", frozenset({OPERATOR, SERVICE}), whole=True),
    Rule("review-list", READ, "/review", STAFF, whole=True),
    Rule("review", READ, "/review/{report_id}", STAFF, whole=True),
    Rule("review-decision", ("POST",), "/review/{report_id}", STAFF, whole=True),
    Rule("review-check", ("POST",), "/review/{report_id}/check", STAFF, whole=True),
    # Results.
    Rule("chart", READ, "/chart", frozenset({PATIENT, RADIOLOGIST}), reads="DiagnosticReport"),
    Rule("evidence", READ, _STUDY + "/evidence", WORKERS, reads="DiagnosticReport"),
    Rule("page", READ, _STUDY + "/page", READERS, reads="DiagnosticReport"),
    Rule("reports", READ, _STUDY + "/reports", READERS, reads="DiagnosticReport"),
    Rule("evidence-of-report", READ, _REPORT + "/evidence", WORKERS, reads="DiagnosticReport"),
    Rule("page-of-report", READ, _REPORT + "/page", READERS, reads="DiagnosticReport"),
    # The pages: what patients may see, and what only radiologists do.
    Rule("patient-of-study", READ, _STUDY + "/patient", READERS, reads="DiagnosticReport"),
    Rule("patient", READ, _REPORT + "/patient", READERS, reads="DiagnosticReport"),
    Rule("patient-image", READ, _REPORT + "/patient/images/{sop_instance_uid}", READERS, reads="ImagingStudy"),
    Rule("radiologist-of-study", READ, _STUDY + "/radiologist", REPORTERS, reads="DiagnosticReport"),
    Rule("radiologist", READ, _REPORT + "/radiologist", REPORTERS, reads="DiagnosticReport"),
    Rule(
        "radiologist-image", READ, _REPORT + "/radiologist/images/{sop_instance_uid}", REPORTERS, reads="ImagingStudy"
    ),
    Rule("heatmaps", READ, _REPORT + "/radiologist/heatmaps/{sop_instance_uid}", REPORTERS, reads="ImagingStudy"),
    Rule("files", READ, _REPORT + "/radiologist/files/{name}", REPORTERS, reads="DiagnosticReport"),
    Rule("page-parts", READ, "/pages/{name}", EVERYBODY),
    Rule("decisions", READ, _REPORT + "/decisions", WORKERS, reads="Observation"),
    Rule(
        "decision",
        ("POST",),
        _REPORT + "/phrases/{tracking_uid}/decision",
        frozenset({RADIOLOGIST}),
        writes="Observation",
    ),
    Rule("predict", ("POST",), "/predict", WORKERS),
    # FHIRcast: its web sockets are opened by the address that a subscription was answered with.
    Rule("hub", ("POST",), "/api/hub", WORKERS),
    Rule("hub-topic", ("POST",), "/api/hub/{topic}", WORKERS),
    Rule("hub-current", READ, "/api/hub/{topic}", WORKERS),
    Rule("hub-socket", ("WS",), "/api/hub/socket/{endpoint}", entry=Entry.OWN_PROOF),
    Rule("hub-configuration", READ, "/.well-known/fhircast-configuration", entry=Entry.OPEN),
    Rule("hub-own-configuration", READ, "/api/hub/.well-known/fhircast-configuration", entry=Entry.OPEN),
    Rule("cast", READ, _REPORT + "/fhircast", WORKERS, reads="DiagnosticReport"),
    # FHIR.
    Rule("fhir-metadata", READ, "/fhir/metadata", EVERYBODY),
    Rule("fhir-reports", READ, "/fhir/DiagnosticReport", READERS, reads="DiagnosticReport"),
    Rule("fhir-reports-form", ("POST",), "/fhir/DiagnosticReport/_search", READERS, reads="DiagnosticReport"),
    Rule("fhir-report", READ, "/fhir/DiagnosticReport/{resource_id}", READERS, reads="DiagnosticReport"),
    Rule("fhir-page", READ, "/fhir/Binary/{resource_id}", READERS, reads="DiagnosticReport"),
    Rule("fhir-observation", READ, "/fhir/Observation/{resource_id}", READERS, reads="Observation"),
    Rule("fhir-selections", READ, "/fhir/ImagingSelection", READERS, reads="ImagingStudy"),
    Rule("fhir-selections-form", ("POST",), "/fhir/ImagingSelection/_search", READERS, reads="ImagingStudy"),
    Rule("fhir-selection", READ, "/fhir/ImagingSelection/{resource_id}", READERS, reads="ImagingStudy"),
    Rule("fhir-base", _FHIR_METHODS, "/fhir", EVERYBODY),  # no route: it leads to the line below
    Rule("fhir-others", _FHIR_METHODS, "/fhir/{_:path}", EVERYBODY),
    # The viewer, and the archive behind it.
    Rule("viewer-link", READ, _STUDY + "/viewer", READERS, reads="ImagingStudy"),
    Rule("series", READ, _STUDY + "/series", READERS, reads="ImagingStudy"),
    Rule("dicomweb", READ, "/dicom-web/{resource:path}", READERS, reads="ImagingStudy"),
    Rule("viewer", READ, "/viewer", READERS),
    Rule("viewer-path", READ, "/viewer/{_:path}", READERS),
    Rule("viewer-configuration", READ, "/app-config.js", READERS),
    Rule("viewer-panel", READ, "/sightline/{name}", READERS),
    Rule("viewer-files", READ, ANYWHERE, READERS),
)


def rule_for(method: str, path: str, rules: Iterable[Rule] = RULES) -> Rule | None:
    """The first of *rules* for that request; None: no route has that address and method."""
    return next((rule for rule in rules if rule.matches(method, path)), None)


def methods_at(path: str, rules: Iterable[Rule] = RULES) -> tuple[str, ...]:
    """The methods that a route of that address is for; none, where none has it."""
    found = (rule for rule in rules if rule.path != ANYWHERE and any(rule.matches(each, path) for each in rule.methods))
    return tuple(sorted({method for rule in found for method in rule.methods}))
