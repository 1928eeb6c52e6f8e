"""Copies of the trail at the FHIR server, each under an id derived from its hash: sent twice, it is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugin.audit.record import Link
from plugin.fhir.trail import events_of
from plugin.ports import ReportStore


@dataclass(frozen=True, slots=True)
class FhirSink:
    """A :class:`plugin.audit.forwarding.Sink`."""

    reports: ReportStore
    name: str = "fhir"

    def send(self, links: Sequence[Link]) -> None:
        """Have *links* stored.

        Raises
        ------
        SightlineError
            As the server does.
        """
        self.reports.write(events_of(links, self.reports.release))
