"""The interactive multimedia report (IHE RAD IMR 1.1.0): a DiagnosticReport of our own beside the radiologist's.

It repeats the report's exact text with each lit phrase linked to its region, in ``text.div`` and as a rendered page
(``presentedForm``). It is made in two steps: the *frame* is what is known when the evidence is made, and is kept with
the results; :func:`report_at` adds text and page once the address is known under which this service is reached.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from fhir.resources.R4B.bundle import Bundle
from markupsafe import Markup

from nlp.phrases import Assertion
from plugin.errors import ConformanceError
from plugin.fhir.codes import RADIOLOGY, coded
from plugin.fhir.marking import Link, narrative_markup, page_markup
from plugin.fhir.ours import MULTIMEDIA_REPORT, REPORT_SYSTEM
from plugin.fhir.parts import (
    Fhir,
    clean,
    fingerprint,
    instant_of,
    narrative,
    present,
    report_reference,
    study_reference,
    subject_of,
    uid_identifier,
)
from plugin.fhir.r5 import as_r5
from plugin.fhir.selections import KIND, About, lit, selection_id
from plugin.fhir.writing import observation_id
from plugin.identity import derived_id, sha256_hex
from plugin.page.address import phrase_path
from plugin.page.document import EvidenceDocument, evidence_document
from plugin.page.spans import plain_text
from plugin.values import Evidence, PatientRef, ReportStatus, StudyRef

PROFILE_URL = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/"
REPORT_PROFILE = f"{PROFILE_URL}imr-diagnosticreport"
BUNDLE_PROFILE = f"{PROFILE_URL}imr-store-multimedia-report-bundle"
TEXT_LINK = "http://hl7.org/fhir/StructureDefinition/textLink"
SUPPORTING_INFO = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.supportingInfo"
DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
FHIR_ROOT = "/fhir"
_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_CODE = coded("LN", "18748-4", "Diagnostic imaging study")
_REPEATED = "The radiologist's report, whose text this one repeats"
# Table 2:4.141.4.1.2.2.1-1, row Report Status; withdrawn ones are never built.
_STORED = frozenset(("partial", "preliminary", "final", "amended", "corrected", "appended"))
_NOTICES = {
    "registered": "This report has not been written to its end.",
    "partial": "This is a partial report: more is to come.",
    "preliminary": "This is a preliminary report: it has not been verified.",
    "amended": "This report was amended after it was final.",
    "corrected": "This report was corrected after it was final.",
    "appended": "This report was added to after it was final.",
    "unknown": "It is not known whether this report is final.",
}


@dataclass(frozen=True, slots=True)
class Organization:
    """The institution that answers for the reports, where they do not name one themselves."""

    name: str
    system: str = ""
    value: str = ""


def multimedia_id(study_instance_uid: str, report_id: str) -> str:
    """Our DiagnosticReport of a study and a report, the same for all versions of the report."""
    return derived_id("multimedia report", study_instance_uid, report_id)


# The frame


def frame_of(evidence: Evidence, *, organization: Organization | None = None) -> Fhir:
    """Everything of the report but its text and its rendered page, as R4; ``meta.versionId`` is that of its content.

    What the radiologist's report names is taken over: performers, interpreters, encounter, time, category and code.
    """
    report = evidence.report
    carried: Fhir = json.loads(report.carried)
    own_id = multimedia_id(evidence.study.study_instance_uid, report.ref.report_id)
    frame: Fhir = present(
        {
            "resourceType": "DiagnosticReport",
            "id": own_id,
            "meta": {"tag": [MULTIMEDIA_REPORT]},
            "extension": [_repeats(evidence)],
            "identifier": [{"system": REPORT_SYSTEM, "value": own_id}],
            "basedOn": list(_orders(evidence)) or None,
            "status": _status(report.status),
            "category": [RADIOLOGY],
            "code": _CODE,
            "subject": _subject(evidence),
            "issued": report.issued.isoformat() if report.issued else instant_of(evidence),
            **carried,
            "performer": _performers(carried.get("performer", []), organization) or None,
            "resultsInterpreter": _interpreters(carried),
            "result": [{"reference": f"Observation/{each}"} for each in _observations(evidence)] or None,
            "imagingStudy": [study_reference(evidence) | {"identifier": uid_identifier(_uid(evidence))}],
        }
    )
    version = derived_id("multimedia report version", *evidence.key, json.dumps(frame, sort_keys=True))
    return frame | {"meta": {"versionId": version} | frame["meta"]}


def _uid(evidence: Evidence) -> str:
    return evidence.study.study_instance_uid


def _status(status: ReportStatus) -> str:
    return "preliminary" if status is ReportStatus.MODIFIED else status.value  # R5's; it comes before final


def _repeats(evidence: Evidence) -> Fhir:
    """The radiologist's report, by R5's supportingInfo: R4 has no place for it."""
    reference = {"url": "reference", "valueReference": report_reference(evidence)}
    return {
        "url": SUPPORTING_INFO,
        "extension": [{"url": "type", "valueCodeableConcept": {"text": _REPEATED}}, reference],
    }


def _subject(evidence: Evidence) -> Fhir | None:
    subject, patient = subject_of(evidence), evidence.report.patient
    if subject is None or patient is None or not clean(patient.patient_id):
        return subject
    system = {"system": patient.issuer} if ":" in patient.issuer else {}
    return subject | {"identifier": system | {"value": clean(patient.patient_id)}}


def _orders(evidence: Evidence) -> tuple[Fhir, ...]:
    """The orders, with the accession number where it is clear whose it is."""
    kind = {"coding": [{"system": _IDENTIFIER_TYPES, "code": "ACSN"}]}
    known = tuple(filter(None, map(clean, accession_numbers(evidence))))
    numbers = [{"identifier": {"type": kind, "value": number}} for number in known]
    orders = [{"reference": f"ServiceRequest/{each}"} for each in evidence.report.service_request_ids]
    if len(orders) == len(numbers) == 1:
        return (orders[0] | numbers[0],)
    return tuple(orders) or tuple({"type": "ServiceRequest"} | number for number in numbers)


def _performers(carried: list[Fhir], organization: Organization | None) -> list[Fhir]:
    if organization is None or any(each.get("type") == "Organization" for each in carried):
        return carried
    identifier = present({"system": organization.system or None, "value": organization.value})
    known = {"identifier": identifier} if organization.value else {}
    return [*carried, {"type": "Organization", "display": clean(organization.name)} | known]


def _interpreters(carried: Fhir) -> list[Fhir]:
    """The carried ones; else the people who performed the report; else that they are not known (1..* in IMR)."""
    people = [each for each in carried.get("performer", []) if each.get("type", "Practitioner").startswith("Pract")]
    unknown = {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}], "type": "Practitioner"}
    return carried.get("resultsInterpreter") or people or [unknown | {"display": "Not named in the report"}]


def _observations(evidence: Evidence) -> tuple[str, ...]:
    claimed = (each for each in evidence.phrases if each.phrase.assertion is not Assertion.NOT_REPORTED)
    return tuple(observation_id(each.tracking_uid) for each in claimed)


def accession_numbers(evidence: Evidence) -> tuple[str, ...]:
    """Those of the report; else the one of the images."""
    imaged = (image.description.accession_number for image in evidence.images)
    return evidence.report.accession_numbers or tuple(dict.fromkeys(filter(None, imaged)))


# What is kept with the results


@dataclass(frozen=True, slots=True)
class Known:
    """What a report is found by, beside what stands in it.

    Parameters
    ----------
    patients : everything that the patient is known by, in report and images.
    modalities : of the images ("DX").
    started : when the first image was taken (ISO 8601); "" when it is not known.
    selections : ids of its ImagingSelections.
    tracking_uids : of its lit phrases.
    """

    patients: tuple[PatientRef, ...] = ()
    accession_numbers: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    started: str = ""
    selections: tuple[str, ...] = ()
    tracking_uids: tuple[str, ...] = ()


def known_of(evidence: Evidence) -> Known:
    """What the report of *evidence* is found by."""
    report, images = evidence.report, tuple(image.description for image in evidence.images)
    patients = (report.patient, *report.other_patient_ids, *(image.patient for image in images))
    started = min((image.acquired for image in images if image.acquired), default=None)
    placed = ((each.tracking_uid, placement) for each in evidence.phrases for placement in each.placements)
    return Known(
        patients=tuple(dict.fromkeys(filter(None, patients))),
        accession_numbers=accession_numbers(evidence),
        modalities=tuple(dict.fromkeys(image.modality for image in images)),
        started=started.isoformat() if started else "",
        selections=tuple(
            selection_id(uid, placement.image.sop_instance_uid) for uid, placement in placed if placement.regions
        ),
        tracking_uids=tuple(each.tracking_uid for each in evidence.phrases if each.lit),
    )


def multimedia_json(evidence: Evidence, *, organization: Organization | None = None) -> str:
    """Frame and :class:`Known` as a file of the results; the same bytes every time."""
    kept = {"report": frame_of(evidence, organization=organization), "known": asdict(known_of(evidence))}
    return json.dumps(kept, ensure_ascii=False, indent=1) + "\n"


def read_multimedia(content: bytes) -> tuple[Fhir, Known]:
    """Frame and :class:`Known` of a file that :func:`multimedia_json` made."""
    kept = json.loads(content)
    known: dict[str, Any] = kept["known"]
    return kept["report"], Known(
        patients=tuple(PatientRef(**each) for each in known["patients"]),
        accession_numbers=tuple(known["accession_numbers"]),
        modalities=tuple(known["modalities"]),
        started=known["started"],
        selections=tuple(known["selections"]),
        tracking_uids=tuple(known["tracking_uids"]),
    )


# Text and page


def links_of(document: EvidenceDocument, *, base: str) -> tuple[Link, ...]:
    """A link for each lit phrase, to its region on the best image that shows it.

    It leads to our own page, opened with the phrase lit: a rendered frame alone would not show the region.
    """
    study, report = StudyRef(document.study_instance_uid), document.report.report_id
    return tuple(
        Link(
            start=phrase.start,
            end=phrase.end,
            target=f"{KIND}/{selection_id(phrase.tracking_uid, lit(phrase)[0].sop_instance_uid)}",
            href=base + phrase_path(study, report, number),
            label=plain_text(phrase.text) or "phrase",
        )
        for number, phrase in enumerate(document.phrases)
        if lit(phrase)
    )


def rendered(document: EvidenceDocument, *, base: str) -> bytes:
    """The report as an HTML page without script, in which each lit phrase is a link; the same bytes every time."""
    card, style = document.provenance.model, _style()
    page = _template().render(
        language=document.report.language,
        policy=page_policy(),
        style=Markup(style),  # noqa: S704 - a file of this package
        notice=_NOTICES.get(_status(document.report.status)),
        text=page_markup(document.report.text, links_of(document, base=base)),
        model=f"{card.name} {card.version}",
    )
    return page.encode()


def page_policy() -> str:
    """The Content Security Policy of :func:`rendered`: its one style sheet, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def report_at(frame: Fhir, document: EvidenceDocument, *, base: str) -> Fhir:
    """The report for a service that is reached at *base* ("https://host", no slash at its end), as R4.

    Its rendered page is named by address, with size and hash of what is answered there.
    """
    form = {"contentType": "text/html", "url": f"{base}{FHIR_ROOT}/Binary/{frame['id']}"}
    return _completed(frame, document, form=form, base=base)


def _completed(frame: Fhir, document: EvidenceDocument, *, form: Fhir, base: str) -> Fhir:
    page = {"title": "Radiology report, linked to its image"} | fingerprint(rendered(document, base=base))
    report = {"resourceType": frame["resourceType"], "id": frame["id"], "meta": frame["meta"]}
    report |= {"text": _text(document, base=base)} | frame | {"presentedForm": [form | page]}
    profile = {} if unfit_for_imr(report) else {"profile": [REPORT_PROFILE]}
    return report | {"meta": frame["meta"] | profile}


def _text(document: EvidenceDocument, *, base: str) -> Fhir:
    """The narrative; its extensions repeat by HL7's textLink what the spans say by IMR's class and id."""
    marked = narrative_markup(document.report.text, links_of(document, base=base))
    root = Markup('<div xmlns="http://www.w3.org/1999/xhtml"><div style="white-space: pre-wrap">{}</div></div>')
    text = {"status": "additional", "div": str(root.format(marked))}
    text_links = _text_links(document, base=base)
    return {"extension": text_links, **text} if text_links else text


def _text_links(document: EvidenceDocument, *, base: str) -> list[Fhir]:
    """For each span the regions of its phrase, those on further images too, at our own endpoint.

    HL7's extension pack has one ``data`` in each textLink.
    """
    found = []
    for phrase in document.phrases:
        ids = [selection_id(phrase.tracking_uid, placement.sop_instance_uid) for placement in lit(phrase)]
        for each in ids:
            span = {"url": "htmlid", "valueString": f"{KIND}/{ids[0]}"}
            data = {"url": "data", "valueUri": f"{base}{FHIR_ROOT}/{KIND}/{each}"}
            found.append({"url": TEXT_LINK, "extension": [span, data]})
    return found


def withdrawn_report(frame: Fhir) -> Fhir:
    """The report when the radiologist's was withdrawn: known, but saying nothing."""
    kept = {name: frame[name] for name in ("resourceType", "id", "identifier", "code", "subject") if name in frame}
    meta = {name: value for name, value in frame["meta"].items() if name != "profile"}
    return kept | {"meta": meta, "text": narrative("This report was withdrawn."), "status": "entered-in-error"}


def about_of(frame: Fhir) -> About:
    """Whom and what the regions of the report are about."""
    return About(
        issued=frame["issued"],
        study=frame["imagingStudy"][0],
        subject=frame.get("subject"),
        orders=tuple(frame.get("basedOn", ())),
    )


def unfit_for_imr(report: Fhir) -> str | None:
    """Why *report* is no imr-diagnosticreport of IMR 1.1.0, or None when it is one."""
    rules = {
        "subject": "subject" in report,
        "issued": "issued" in report,
        "performer:organization": any(each.get("type") == "Organization" for each in report.get("performer", ())),
        "resultsInterpreter": bool(report.get("resultsInterpreter")),
        "imagingStudy": bool(report.get("imagingStudy")),
        "presentedForm:html": any(each["contentType"] == "text/html" for each in report.get("presentedForm", ())),
    }
    return next((name for name, held in rules.items() if not held), None)


# Store Multimedia Report [RAD-141]


def store_bundle(evidence: Evidence, *, base: str, organization: Organization | None, r5: bool = False) -> str | None:
    """The RAD-141 transaction Bundle as JSON, or None when the report cannot be one: its status, or no patient.

    The report is created (POST, as the profile fixes it) unless one with its version identifier is there. Its page is
    inside, so that size and hash stay those of what is stored.

    Parameters
    ----------
    r5 : the receiver speaks R5, where some elements have other names.

    Raises
    ------
    ConformanceError
        If it is not valid.
    """
    frame, document = frame_of(evidence, organization=organization), evidence_document(evidence)
    page = base64.b64encode(rendered(document, base=base)).decode()
    report = _completed(frame, document, form={"contentType": "text/html", "data": page}, base=base)
    if report["status"] not in _STORED or unfit_for_imr(report):
        return None
    version = derived_id("multimedia report", sha256_hex(json.dumps(report, sort_keys=True).encode()))
    report["identifier"] = [*report["identifier"], {"system": REPORT_SYSTEM, "value": version}]
    report["meta"] = {name: value for name, value in report["meta"].items() if name != "versionId"}  # the server's
    del report["id"]
    if not r5:
        _validate(report)
    request = {"method": "POST", "url": "DiagnosticReport", "ifNoneExist": f"identifier={REPORT_SYSTEM}|{version}"}
    bundle = {
        "resourceType": "Bundle",
        "meta": {"profile": [BUNDLE_PROFILE]},
        "type": "transaction",
        "entry": [{"fullUrl": f"urn:uuid:{version}", "resource": as_r5(report) if r5 else report, "request": request}],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1) + "\n"


def _validate(report: Fhir) -> None:
    try:
        Bundle.model_validate({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": report}]})
    except ValueError as error:
        # The class alone: the message quotes values, and with them the report.
        raise ConformanceError(f"a FHIR resource that Sightline built is not valid ({type(error).__name__})") from None


@cache
def _style() -> str:
    return files("plugin.fhir").joinpath("multimedia.css").read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plugin.fhir", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("multimedia.html")
