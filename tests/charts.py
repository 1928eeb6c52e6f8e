"""Results of several patients, for tests of who sees what."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache

from evidence import STUDY, make_evidence

from plugin.fhir.multimedia import Organization, about_of
from plugin.fhir.selections import selections_of
from plugin.flow import outputs_of
from plugin.identity import derived_id, derived_uid
from plugin.page.document import read_evidence
from plugin.page.words import Audience
from plugin.results import ResultFile, ResultFolder, kept_report
from plugin.values import Evidence, PatientRef, ReportRef, ReportStatus, StudyRef

HOSPITAL = Organization("St. Elsewhere", "http://example.org/organizations", "17")
_CARRIED = {
    "performer": [{"reference": "Organization/o1", "type": "Organization"}],
    "resultsInterpreter": [{"reference": "Practitioner/d1", "type": "Practitioner"}],
}


@dataclass(frozen=True)
class Chart:
    """One report about Patient/<patient>, in a study of its own."""

    patient: str
    number: int = 1
    status: ReportStatus = ReportStatus.FINAL

    @property
    def study(self) -> StudyRef:
        return StudyRef(derived_uid("chart", self.patient, str(self.number)))

    @property
    def uid(self) -> str:
        return self.study.study_instance_uid

    @property
    def image(self) -> str:
        """SOP Instance UID of the first image."""
        evidence = next(each.content for each in _files(self) if each.name == "evidence.json")
        return read_evidence(evidence).images[0].sop_instance_uid

    @property
    def report_id(self) -> str:
        return f"report-{self.patient}-{self.number}"

    @property
    def evidence(self) -> Evidence:
        made = make_evidence()
        report = replace(
            made.report,
            ref=ReportRef(self.report_id, "1"),
            status=self.status,
            patient=PatientRef(f"MRN-{self.patient}", "urn:oid:1.2.3"),
            subject_id=self.patient,
            carried=json.dumps(_CARRIED),
        )
        return replace(made, report=report)

    def keep(self, results: ResultFolder, *, study: StudyRef | None = None) -> None:
        """Keep everything that is written about it, in *study* when that is another one's."""
        evidence = self.evidence
        kept = kept_report(evidence.report, created=evidence.provenance.created)
        results.write(study or self.study, kept, _files(self))

    def resource(self, kind: str) -> str:
        """The id of a resource of that type that is written about it."""
        document = json.loads(next(each.content for each in _files(self) if each.name == "imr.json"))
        if kind == "DiagnosticReport":
            return str(document["report"]["id"])
        if kind == "Observation":
            return str(document["report"]["result"][0]["reference"]).partition("/")[2]
        return str(document["known"]["selections"][0])


@cache
def _files(chart: Chart) -> tuple[ResultFile, ...]:
    """The files of the evidence, which is of the study of all tests, named after the chart's own."""
    made = {
        each.name: _renamed(each.content, chart) if each.name.endswith((".json", ".html")) else each.content
        for each in outputs_of(chart.evidence, organization=HOSPITAL, audience=Audience.PATIENT).kept
    }
    multimedia = json.loads(made["imr.json"])
    selections = selections_of(read_evidence(made["evidence.json"]), about_of(multimedia["report"]))
    multimedia["known"]["selections"] = [each["id"] for each in selections]
    made["imr.json"] = json.dumps(multimedia).encode()
    return tuple(ResultFile(name, content) for name, content in made.items())


def _renamed(content: bytes, chart: Chart) -> bytes:
    """Studies of their own have images, phrases and resources of their own."""
    content = content.replace(STUDY.study_instance_uid.encode(), b"<study>")
    for old in set(re.findall(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", content)):
        content = content.replace(old, derived_id("chart", chart.uid, old.decode()).encode())
    for old in sorted(set(re.findall(rb"2\.25\.\d+", content)), key=len, reverse=True):
        content = content.replace(old, derived_uid("chart", chart.uid, old.decode()).encode())
    return content.replace(b"<study>", chart.uid.encode())
