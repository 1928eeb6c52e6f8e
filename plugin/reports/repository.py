"""Where multimedia reports are stored (IHE RAD IMR, Store Multimedia Report [RAD-141]): a FHIR server, or a folder.

IMR only creates reports; it has nothing for one that is amended or withdrawn. So each version is a report of its own
under one key, and those that are no longer current are marked entered-in-error and emptied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plugin.errors import ConformanceError, InputError, TransientError
from plugin.fhir.capability import Release
from plugin.fhir.client import FhirClient, token
from plugin.fhir.multimedia import withdrawn_report
from plugin.fhir.ours import REPORT_SYSTEM, is_ours
from plugin.fhir.parts import URI
from plugin.fhir.resource import Element, identifiers, parse
from plugin.results import ResultFile, write_results

WITHDRAWN = "entered-in-error"


class FhirReportRepository:
    """Implements :class:`plugin.ports.ReportRepository` on a FHIR server.

    Reports are created, as the profile fixes it, on the condition that this version is not there; whoever calls sees to
    it that nobody else publishes the same report at the same time.
    """

    def __init__(self, server: FhirClient) -> None:
        self._server = server

    @property
    def r5(self) -> bool:
        """Whether the server speaks R5; raises as :attr:`plugin.fhir.client.FhirClient.release`."""
        return self._server.release is Release.R5

    def publish(self, bundle: str) -> None:
        """See :class:`plugin.ports.ReportRepository`."""
        document, report = _bundle(bundle)
        key, version = _names(report)
        there = self._under(key)
        same = [each for each in there if version in _values(each)]
        if not same:
            entry = {**document.children("entry")[0].json, "resource": self._placed(report)}
            self._server.transaction(json.dumps({**document.json, "entry": [entry]}, ensure_ascii=False))
        elif same[0].string("status") == WITHDRAWN:  # it was withdrawn, and is right again
            placed = self._placed(report)
            self._server.update(_name(same[0]), lambda now: placed | {"id": now.id, "meta": _meta(report, now)})
        for other in (*same[1:], *(each for each in there if each not in same)):
            self._withdraw(other)

    def retract(self, key: str) -> None:
        """See :class:`plugin.ports.ReportRepository`."""
        for report in self._under(key):
            self._withdraw(report)

    def _under(self, key: str) -> list[Element]:
        """The reports of *key*, withdrawn ones, too; the order is stable."""
        found = self._server.search("DiagnosticReport", {"identifier": token(key, system=REPORT_SYSTEM)})
        return sorted((each for each in found if is_ours(each) and key in _values(each)), key=lambda each: each.id)

    def _withdraw(self, report: Element) -> None:
        self._server.update(
            _name(report), lambda now: None if now.string("status") == WITHDRAWN else withdrawn_report(dict(now.json))
        )

    def _placed(self, report: Element) -> dict[str, Any]:
        """*report* with its results by identifier, where the server has them under ids of its own."""
        results = [each.string("reference") for each in report.children("result")]
        if not results or self._server.read(results[0]) is not None:
            return dict(report.json)
        named = ((name.partition("/")[0], f"urn:uuid:{name.partition('/')[2]}") for name in results)
        return {**report.json, "result": [{"type": k, "identifier": {"system": URI, "value": v}} for k, v in named]}


class FolderReportRepository:
    """Implements :class:`plugin.ports.ReportRepository` on a folder: one file for each report, its current version."""

    r5 = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, bundle: str) -> None:
        """See :class:`plugin.ports.ReportRepository`."""
        _, report = _bundle(bundle)
        key, _ = _names(report)
        self._keep(key, {**report.json, "id": key})

    def retract(self, key: str) -> None:
        """See :class:`plugin.ports.ReportRepository`."""
        path = self._folder / _file_name(key)
        if path.is_file():
            there = json.loads(path.read_bytes())
            if there["status"] != WITHDRAWN:
                self._keep(key, withdrawn_report(there))

    def _keep(self, key: str, report: Mapping[str, Any]) -> None:
        content = (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode()
        try:
            write_results(self._folder, (ResultFile(_file_name(key), content),))
        except InputError as error:
            raise TransientError("the folder of multimedia reports cannot be written") from error


def _bundle(bundle: str) -> tuple[Element, Element]:
    """The Bundle and its one report."""
    document = parse(bundle.encode())
    reports = [entry.child("resource") for entry in document.children("entry")]
    if len(reports) != 1 or reports[0].type != "DiagnosticReport" or len(_values(reports[0])) != 2:
        raise ConformanceError("the bundle to publish is not one multimedia report")
    return document, reports[0]


def _names(report: Element) -> tuple[str, str]:
    """Its key, which all versions share, and its version."""
    key, version = _values(report)
    return key, version


def _values(report: Element) -> tuple[str, ...]:
    return tuple(each.value for each in identifiers(report) if each.system == REPORT_SYSTEM)


def _name(report: Element) -> str:
    return f"DiagnosticReport/{report.id}"


def _meta(report: Element, there: Element) -> dict[str, object]:
    """What we say in ``meta``, and what the server does."""
    own = {name: value for name, value in there.child("meta").json.items() if name in ("versionId", "lastUpdated")}
    return {**report.child("meta").json, **own}


def _file_name(key: str) -> str:
    return f"multimedia-{key}.json"
