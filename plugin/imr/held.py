"""The multimedia reports that the results hold, and what each is found by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from plugin.fhir.codes import DICOM_UID_SYSTEM
from plugin.fhir.multimedia import Known, about_of, read_multimedia
from plugin.fhir.parts import Fhir, uid_identifier
from plugin.fhir.selections import selections_of, withdrawn_selection
from plugin.imr.dates import Interval, interval
from plugin.imr.search import Parameter, Target, Token
from plugin.page.document import EvidenceDocument, read_evidence
from plugin.values import ReportStatus

MULTIMEDIA_FILE = "imr.json"


class Kept(Protocol):
    """The results of one report version."""

    @property
    def withdrawn(self) -> bool:
        """Whether nothing may be shown of it any more."""

    @property
    def changed(self) -> datetime:
        """When it, or its withdrawal, was written here."""

    def read(self, name: str) -> bytes | None:
        """The file *name*, or None; of a withdrawn report, too."""


class Shelf(Protocol):
    """Where results of reports are kept; each report with its newest version only."""

    def kept(self) -> Iterable[Kept]:
        """Every report with results, withdrawn ones, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A multimedia report that is held here.

    Parameters
    ----------
    frame : see :func:`plugin.fhir.multimedia.frame_of`, with ``meta.lastUpdated``.
    """

    kept: Kept
    frame: Fhir
    known: Known

    @property
    def id(self) -> str:
        return str(self.frame["id"])

    @property
    def subject(self) -> str | None:
        """Whom it is about, "Patient/<id>"; None when that is not known."""
        reference = self.frame.get("subject", {}).get("reference")
        return reference if isinstance(reference, str) else None

    @property
    def study_instance_uid(self) -> str:
        """Of the study that it is about."""
        return str(self.frame["imagingStudy"][0]["identifier"]["value"]).removeprefix("urn:oid:")

    @property
    def status(self) -> ReportStatus:
        """As it stands, whatever its content says."""
        return ReportStatus.ENTERED_IN_ERROR if self.kept.withdrawn else ReportStatus(self.frame["status"])

    @property
    def document(self) -> EvidenceDocument:
        """The evidence; raises ValueError if the file was lost or damaged."""
        return read_evidence(self.kept.read("evidence.json") or b"")

    @property
    def selections(self) -> tuple[Fhir, ...]:
        """Its regions as ImagingSelections."""
        found = selections_of(self.document, about_of(self.frame))
        stamped = tuple(each | {"meta": self.frame["meta"]} for each in found)
        return tuple(map(withdrawn_selection, stamped)) if self.kept.withdrawn else stamped

    @property
    def outline(self) -> Fhir:
        """What its ImagingSelections have in common, with the identifiers of all: known without the evidence."""
        about = about_of(self.frame)
        return {
            "status": "available",
            "identifier": [uid_identifier(each) for each in self.known.tracking_uids],
            "studyUid": about.study["identifier"]["value"].removeprefix("urn:oid:"),
            "derivedFrom": [about.study],
            "basedOn": list(about.orders),
            "subject": about.subject,
        }

    @property
    def observations(self) -> tuple[Fhir, ...]:
        """The Observations that were written about its phrases, as R4."""
        bundle = json.loads(self.kept.read("fhir.json") or b"{}")
        resources = (entry["resource"] for entry in bundle.get("entry", ()))
        return tuple(_as_r4(each) for each in resources if each["resourceType"] == "Observation")


def _as_r4(observation: Fhir) -> Fhir:
    """One that was written for a server of R5 is derived from ImagingSelections, which R4 does not know."""
    return {name: value for name, value in observation.items() if name != "derivedFrom"}


def held(shelf: Shelf) -> Iterator[Held]:
    """Every multimedia report on *shelf*; results of earlier versions of Sightline have none."""
    for kept in shelf.kept():
        content = kept.read(MULTIMEDIA_FILE)
        if content is not None:
            frame, known = read_multimedia(content)
            changed = kept.changed.astimezone(UTC).isoformat(timespec="milliseconds")
            yield Held(kept, frame | {"meta": frame["meta"] | {"lastUpdated": changed}}, known)


# What they are found by


def parameters(root: str) -> tuple[Parameter[Held], ...]:
    """The search parameters of DiagnosticReport: RAD-143, table 2:4.143.4.1.2.1-1, and those of R4 that fit.

    Parameters
    ----------
    root : of the FHIR server whose resources are referred to by relative references; "" when there is none.
    """

    def targets(name: str, *types: str) -> Parameter[Held]:
        element = {"subject": "subject", "patient": "subject", "encounter": "encounter"}.get(name) or _camel(name)
        return Parameter(
            name, "reference", lambda held: _targets(held.frame.get(element), root), (_camel(name),), types
        )

    return (
        Parameter("_id", "token", lambda held: (Token(held.id),)),
        Parameter("_lastUpdated", "date", lambda held: _moments(held.frame["meta"]["lastUpdated"])),
        Parameter("identifier", "token", lambda held: _tokens(held.frame["identifier"])),
        Parameter("status", "token", lambda held: (Token(held.frame["status"], _STATUS),)),
        Parameter("category", "token", lambda held: _codings(held.frame.get("category", ()))),
        Parameter("code", "token", lambda held: _codings((held.frame["code"],))),
        Parameter("issued", "date", lambda held: _moments(held.frame["issued"])),
        Parameter("date", "date", _effective),
        targets("patient", "Patient"),
        targets("subject", "Patient"),
        Parameter("patient.identifier", "token", _patients, ("subject.identifier", "subject:Patient.identifier")),
        targets("based-on", "ServiceRequest"),
        Parameter(
            "based-on.identifier", "token", _accessions, ("basedOn.identifier", "based-on:ServiceRequest.identifier")
        ),
        targets("imaging-study", "ImagingStudy"),
        Parameter("imaging-study.identifier", "token", _study_uids, ("imagingStudy.identifier",)),
        Parameter(
            "imaging-study.modality",
            "token",
            lambda held: (Token(each, _DCM) for each in held.known.modalities),
            ("imagingStudy.modality",),
        ),
        Parameter(
            "imaging-study.started", "date", lambda held: _moments(held.known.started), ("imagingStudy.started",)
        ),
        targets("encounter", "Encounter"),
        targets("performer", "Organization", "Practitioner", "PractitionerRole", "CareTeam"),
        targets("results-interpreter", "Practitioner", "PractitionerRole"),
        targets("result", "Observation"),
    )


SORTS = ("issued", "_lastUpdated", "_id", "status")
_STATUS = "http://hl7.org/fhir/diagnostic-report-status"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"


def sort_key(held: Held, name: str) -> str | datetime:
    """By what *held* is sorted under *name* of :data:`SORTS`."""
    if name == "_id":
        return held.id
    value = held.frame["meta"]["lastUpdated"] if name == "_lastUpdated" else str(held.frame[name])
    return value if name == "status" else _start(value)


def _start(value: str) -> datetime:
    found = interval(value)
    return found.start if found else datetime.min.replace(tzinfo=UTC)


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(part.capitalize() for part in rest)


def _targets(element: Fhir | list[Fhir] | None, root: str) -> Iterator[Target]:
    for reference in [element] if isinstance(element, dict) else element or ():
        name = reference.get("reference", "").partition("/_history/")[0]
        names = (name, f"{root}/{name}") if root and ":" not in name else (name,)
        yield Target(names if name else (), tuple(_tokens([reference.get("identifier", {})])))


def _tokens(identifiers: Iterable[Fhir]) -> Iterator[Token]:
    return (Token(each["value"], each.get("system", "")) for each in identifiers if each.get("value"))


def _codings(concepts: Iterable[Fhir]) -> Iterator[Token]:
    for concept in concepts:
        for coding in concept.get("coding", ()):
            yield Token(coding.get("code", ""), coding.get("system", ""))


def _moments(value: str) -> tuple[Interval, ...]:
    found = interval(value)
    return (found,) if found else ()


def _effective(held: Held) -> tuple[Interval, ...]:
    """``effectiveDateTime``, or the period from its start to its end, however far back or on where one is open."""
    if moment := held.frame.get("effectiveDateTime"):
        return _moments(moment)
    period = held.frame.get("effectivePeriod")
    if not period:
        return ()
    start, end = interval(period.get("start", "0001")), interval(period.get("end", "9998"))
    return (Interval(start.start, end.end + timedelta()),) if start and end else ()


def _patients(held: Held) -> Iterator[Token]:
    return (Token(each.patient_id, each.issuer) for each in held.known.patients)


def _accessions(held: Held) -> Iterator[Token]:
    return (Token(each) for each in held.known.accession_numbers)


def _study_uids(held: Held) -> tuple[Token, ...]:
    """As R4 has it, and the bare UID that some write."""
    study = next(iter(_targets(held.frame["imagingStudy"], "")))
    return tuple(
        Token(code, DICOM_UID_SYSTEM)
        for each in study.identifiers
        for code in (each.code, each.code.removeprefix("urn:oid:"))
    )


# The parameters that Held.outline can tell a miss by.
OUTLINED = frozenset({"identifier", "status", "study-uid", "derived-from", "based-on", "patient", "subject"})


def selection_parameters(root: str) -> tuple[Parameter[Fhir], ...]:
    """The search parameters of ImagingSelection (R5 imagingselection.html#search) that are known here."""

    def patients(selection: Fhir) -> Iterator[Target]:
        return _targets(selection.get("subject"), root)

    return (
        Parameter("_id", "token", lambda each: (Token(each["id"]),)),
        Parameter("identifier", "token", lambda each: _tokens(each["identifier"])),
        Parameter("status", "token", lambda each: (Token(each["status"]),)),
        Parameter("study-uid", "token", lambda each: (Token(each["studyUid"]),)),
        Parameter("derived-from", "reference", lambda each: _targets(each["derivedFrom"], root), (), ("ImagingStudy",)),
        Parameter("based-on", "reference", lambda each: _targets(each.get("basedOn"), root), (), ("ServiceRequest",)),
        Parameter("patient", "reference", patients, (), ("Patient",)),
        Parameter("subject", "reference", patients, (), ("Patient",)),
    )
