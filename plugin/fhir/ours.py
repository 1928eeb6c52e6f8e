"""How a DiagnosticReport that Sightline wrote is known, so that it is never read as a report to ground."""

from __future__ import annotations

from plugin.fhir.codes import SYSTEMS, coding
from plugin.fhir.resource import Element, identifiers

MULTIMEDIA_REPORT = coding("SIGHTLINE", "multimedia-report", "Report whose phrases are linked to their image regions")
"""The tag (``meta.tag``) of our own DiagnosticReports."""
REPORT_SYSTEM = SYSTEMS["SIGHTLINE"]
"""The system of their identifiers: some servers and copies lose tags."""


def is_ours(resource: Element) -> bool:
    """Whether *resource* is a multimedia report that some Sightline wrote; whoever looks for reports passes it over."""
    tagged = any(
        tag.string("system") == REPORT_SYSTEM and tag.string("code") == MULTIMEDIA_REPORT["code"]
        for tag in resource.child("meta").children("tag")
    )
    return tagged or any(each.system == REPORT_SYSTEM for each in identifiers(resource))
