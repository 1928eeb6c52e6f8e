"""Findings, sites and qualifiers as DICOM codes (PS3.16). A code that is not verified is not written."""

from __future__ import annotations

import re

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from nlp.phrases import Assertion, Change, Concept, Laterality, Phrase, Section, Severity

LATERALITY = {
    Laterality.LEFT: Code("7771000", "SCT", "Left"),
    Laterality.RIGHT: Code("24028007", "SCT", "Right"),
    Laterality.BILATERAL: Code("51440002", "SCT", "Bilateral"),
}
FINDING_CONTEXT = Code("408729009", "SCT", "Finding context")
ASSERTION = {
    Assertion.AFFIRMED: Code("410515003", "SCT", "Known present"),
    Assertion.PROBABLE: Code("410592001", "SCT", "Probably present"),
    Assertion.POSSIBLE: Code("410590009", "SCT", "Known possible"),
    Assertion.NEGATED: Code("410516002", "SCT", "Known absent"),
}
SEVERITY_NAME = Code("246112005", "SCT", "Severity")
SEVERITY = {
    Severity.MINIMAL: Code("255605001", "SCT", "Minimal"),
    Severity.MILD: Code("255604002", "SCT", "Mild"),
    Severity.MODERATE: Code("6736007", "SCT", "Moderate"),
    Severity.SEVERE: Code("24484000", "SCT", "Severe"),
}
CHANGE_NAME = Code("111049", "DCM", "Qualitative Difference")
CHANGE = {
    Change.NEW: Code("129721008", "SCT", "New finding"),
    Change.INCREASED: Code("35105006", "SCT", "Increased"),
    Change.DECREASED: Code("1250004", "SCT", "Decreased"),
    Change.UNCHANGED: Code("260388006", "SCT", "No change"),
    Change.RESOLVED: Code("413322009", "SCT", "Problem resolved"),
}
SOURCE = Code("260753009", "SCT", "Source")
# Where in the report the phrase stands, as headings of diagnostic imaging reports (PS3.16 CID 7001).
SECTION = {
    Section.INDICATION: codes.DCM.IndicationsForProcedure,
    Section.TECHNIQUE: codes.DCM.CurrentProcedureDescriptions,
    Section.COMPARISON: codes.DCM.PriorProcedureDescriptions,
    Section.FINDINGS: codes.DCM.Findings,
    Section.IMPRESSION: codes.DCM.Impressions,
    Section.ADDENDUM: codes.DCM.Addendum,
}
# Parts of our structured report.
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
SOURCE_REPORT = Code("128225", "DCM", "Source report")
THORAX = Code("816094009", "SCT", "Thorax")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
PHYSICAL_OBJECT = Code("260787004", "SCT", "Physical object")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")

# PS3.16 chapter 8: designators that every reader knows; the order is that of preference.
_SCHEMES = ("SCT", "DCM", "RADLEX")
_PHYSICAL_OBJECTS = frozenset(
    (code.scheme_designator, code.value)
    for code in codes.cid7193.concepts.values()  # what devices are made of
)
_DEVICE_WORDS = re.compile(r"\b(device|catheter|tube|pump|pacemaker|lead|defibrillator|PICC|wires?)\b", re.IGNORECASE)


def coded(concept: Concept) -> Code | None:
    """The best known code of *concept*, or None."""
    by_scheme = {code.scheme: code for code in reversed(concept.codes)}
    for scheme in _SCHEMES:
        if scheme in by_scheme:
            code = by_scheme[scheme]
            return Code(code.value, code.scheme, code.meaning[:64])
    return None


def is_device(finding: Concept) -> bool:
    """Whether *finding* is an object put into the patient (PS3.16 CID 7193) and not disease."""
    in_context_group = any((code.scheme, code.value) in _PHYSICAL_OBJECTS for code in finding.codes)
    return in_context_group or _DEVICE_WORDS.search(finding.name) is not None


def property_category(finding: Concept) -> Code:
    """Segmented property category (PS3.16 CID 7150)."""
    return PHYSICAL_OBJECT if is_device(finding) else ABNORMAL_STRUCTURE


def property_type(finding: Concept) -> Code:
    """Segmented property type: the finding itself, or its category when no code is known."""
    return coded(finding) or property_category(finding)


def site(phrase: Phrase) -> Code | None:
    """The most specific coded site; the thorax when only a side is known; None when neither is."""
    known = (code for code in map(coded, phrase.sites) if code is not None)
    return next(known, THORAX if phrase.laterality else None)


def evaluations(phrase: Phrase) -> tuple[tuple[Code, Code], ...]:
    """(name, value) of what the report says about the finding: presence, severity, change, section."""
    pairs = [
        (FINDING_CONTEXT, ASSERTION.get(phrase.assertion)),
        (SEVERITY_NAME, SEVERITY[phrase.severity] if phrase.severity else None),
        (CHANGE_NAME, CHANGE[phrase.change] if phrase.change else None),
        (SOURCE, SECTION.get(phrase.section)),
    ]
    return tuple((name, value) for name, value in pairs if value is not None)
