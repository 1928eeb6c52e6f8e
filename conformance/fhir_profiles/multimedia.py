"""The profiles of the interactive multimedia report (IHE RAD IMR 1.1.0): the report, its RAD-141 Bundle, its regions.

They ask for what IHE's imr-diagnosticreport and imr-store-multimedia-report-bundle ask for, and for more; each element
cites its clause. IHE's own files are not repeated here.
"""

from __future__ import annotations

from fhir_profiles.definition import (
    BARE_UID,
    DCM,
    DICOM_UID,
    OWN,
    R5_ELEMENT,
    UID,
    at,
    by,
    coded,
    entry,
    extension,
    only,
    profile,
    required,
    rule,
)

IHE = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/"
SUPPORTING_INFO = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.supportingInfo"
OURS = {"system": OWN, "code": "multimedia-report"}
REPORT_CLAUSE = "IMR 1.1.0, StructureDefinition imr-diagnosticreport"
BUNDLE_CLAUSE = "IMR 1.1.0, StructureDefinition imr-store-multimedia-report-bundle"
RAD_141 = "IMR 1.1.0, RAD-141, "

REPORT = profile(
    "SightlineMultimediaReport",
    "DiagnosticReport",
    "Our own report beside the radiologist's: the same text, with each lit phrase linked to its region.",
    at("meta", min=1),
    at(
        "meta.tag",
        "How we know it again, and never read it as a report to ground.",
        min=1,
        slicing=by("pattern", "$this"),
    ),
    at("meta.tag:ours", min=1, max="1", patternCoding=OURS),
    at("text", RAD_141 + "2:4.141.4.1.2.2.1, Note 2: the text is required", min=1),
    at("text.status", "The text is more than the elements say.", fixedCode="additional"),
    at("contained", RAD_141 + "2:4.141.4.1.2.1: contained resources are not used", max="0"),
    at("extension", slicing=by("value", "url")),
    at("extension:repeats", "The radiologist's report.", min=1, max="1", type=extension(SUPPORTING_INFO)),
    at("identifier", min=1, slicing=by("pattern", "system")),
    at("identifier:ours", min=1, patternIdentifier={"system": OWN}),
    at("identifier:ours.system", min=1, patternUri=OWN),
    at("basedOn", REPORT_CLAUSE, type=only("ServiceRequest")),
    at("status", RAD_141 + "Table 2:4.141.4.1.2.2.1-1, Report Status", binding=required("MultimediaReportStatus")),
    at("subject", REPORT_CLAUSE + ": 1..1 Patient", min=1, type=only("Patient")),
    at("issued", REPORT_CLAUSE + ": 1..1", min=1),
    at("performer", REPORT_CLAUSE, min=1, slicing=by("type", "resolve()")),
    at("performer:organization", REPORT_CLAUSE + ": at least one Organization", min=1, type=only("Organization")),
    at("resultsInterpreter", REPORT_CLAUSE + ": 1..*", min=1, type=only("Practitioner", "PractitionerRole")),
    at("imagingStudy", REPORT_CLAUSE + ": 1..*; ours is about one", min=1, max="1", type=only("ImagingStudy")),
    at("conclusion", "Ours concludes nothing: the text is the radiologist's.", max="0"),
    at("conclusionCode", max="0"),
    at("presentedForm", REPORT_CLAUSE + ": 1..*", min=1, slicing=by("pattern", "contentType")),
    at("presentedForm.contentType", REPORT_CLAUSE + ": 1..1", min=1),
    at("presentedForm.size", REPORT_CLAUSE + ": 1..1", min=1),
    at("presentedForm.hash", REPORT_CLAUSE + ": 1..1", min=1),
    at("presentedForm:html", RAD_141 + "2:4.141.4.1.2.2.3: rendered as HTML", min=1),
    at("presentedForm:html.contentType", RAD_141 + "2:4.141.4.1.2.2.3", min=1, patternCode="text/html"),
    title="The interactive multimedia report",
    rules=(
        rule(
            "sl-50",
            f"A rendered report is inside, or has an address ({REPORT_CLAUSE}, IMRAttachmentInvariant)",
            "presentedForm.all(data.exists() or url.exists())",
        ),
        rule("sl-51", "The hash is a SHA-1 in base64", "presentedForm.hash.all($this.matches('^[A-Za-z0-9+/]{27}=$'))"),
        rule(
            "sl-52",
            "The study is named by its UID",
            f"imagingStudy.all(identifier.where(system = '{DICOM_UID}' and value.matches('{UID}')).exists())",
        ),
    ),
)

BUNDLE = profile(
    "SightlineMultimediaReportBundle",
    "Bundle",
    "Store Multimedia Report [RAD-141]: our report, created in a transaction.",
    at("meta", RAD_141 + "2:4.141.4.1.2.1", min=1),
    at("meta.profile", RAD_141 + "2:4.141.4.1.2.1: names IHE's profile", min=1, slicing=by("pattern", "$this")),
    at("meta.profile:imr", min=1, patternCanonical=IHE + "imr-store-multimedia-report-bundle"),
    at("type", RAD_141 + "2:4.141.4.1.2.1: a transaction", fixedCode="transaction"),
    at("entry", BUNDLE_CLAUSE + ": closed", min=1, slicing=by("type", "resource", rules="closed")),
    *entry(
        "report", "DiagnosticReport", "SightlineMultimediaReport", low=1, high="1", method="POST", why=BUNDLE_CLAUSE
    ),
    *entry("order", "ServiceRequest", None, method="POST", why=BUNDLE_CLAUSE),
    *entry("study", "ImagingStudy", None, method="POST", why=BUNDLE_CLAUSE),
    title="A multimedia report to store",
)

AVAILABLE = "status = 'available' implies "
CORNERS = "coordinate"
CLOSED = (
    "coordinate.count() >= 8 and coordinate.count() mod 2 = 0"
    " and coordinate.first() = coordinate.skip(coordinate.count() - 2).first()"
    " and coordinate.skip(1).first() = coordinate.last() and coordinate.all($this >= 0)"
)
EXTENDED = "extension.where(url = 'regionType').value = 'polyline' and " + CLOSED.replace(
    "coordinate", "extension.where(url = 'coordinate').value"
)
SELECTION = profile(
    "SightlineImagingSelection",
    "ImagingSelection",
    "A phrase lit on an image, as R5 has it; also at our own endpoint, since R4 has no such resource.",
    at("contained", max="0"),
    at("identifier", min=1, slicing=by("pattern", "system")),
    at("identifier:tracking", "The tracking UID that SEG and SR carry.", min=1, max="1"),
    at("identifier:tracking.system", min=1, patternUri=DICOM_UID),
    at("identifier:tracking.value", min=1),
    at("status", binding=required("SelectionStatus")),
    at("subject", RAD_141 + "2:4.141.4.1.2.1: if present, a Patient", type=only("Patient")),
    at("basedOn", type=only("ServiceRequest")),
    at("code", "DICOM PS3.16 CID 7010: 113000 Of Interest.", patternCodeableConcept=coded(DCM, "113000")),
    at("derivedFrom", max="1", type=only("ImagingStudy")),
    at("instance", max="1"),
    at("instance.sopClass", min=1),
    at("instance.sopClass.system", min=1, fixedUri="urn:ietf:rfc:3986"),
    at("instance.imageRegion2D", min=1),
    at("instance.imageRegion2D.regionType", "There is no polygon in R5.", fixedCode="polyline"),
    at("instance.imageRegion3D", max="0"),
    title="A region on an image",
    r5=True,
    rules=(
        rule(
            "sl-60",
            "What is available says where",
            f"{AVAILABLE}(studyUid.exists() and seriesUid.exists() and instance.exists() and derivedFrom.exists())",
        ),
        rule("sl-61", "What was withdrawn shows nothing", "status = 'entered-in-error' implies instance.empty()"),
        rule(
            "sl-62",
            "A region is a closed polyline of at least three corners, in pixels",
            f"instance.imageRegion2D.all({CLOSED})",
        ),
        rule(
            "sl-63",
            "Study, series and instance are named by bare UID",
            f"(studyUid | seriesUid | instance.uid).all($this.matches('{BARE_UID}'))",
        ),
    ),
)

PARTS = f"extension.where(url = '{R5_ELEMENT}instance').extension"
ELEMENTS = ("status", "issued", "performer", "basedOn", "code", "studyUid", "derivedFrom", "seriesUid", "instance")
BASIC = profile(
    "SightlineImagingSelectionBasic",
    "Basic",
    "A region for a server of R4: each element of ImagingSelection in its cross-version extension (R5 versions.html).",
    at("contained", max="0"),
    at("extension", min=2, slicing=by("value", "url", rules="closed")),
    *(
        at(
            f"extension:{name}",
            min=int(name in ("status", "code")),
            max="*" if name in ("basedOn", "performer") else "1",
            type=extension(R5_ELEMENT + name),
        )
        for name in ELEMENTS
    ),
    at("identifier", min=1),
    at("code", patternCodeableConcept=coded("http://hl7.org/fhir/fhir-types", "ImagingSelection")),
    at("subject", type=only("Patient")),
    title="A region on an image, for R4",
    rules=(
        rule(
            "sl-64",
            "A region is a closed polyline of at least three corners, in pixels",
            f"{PARTS}.where(url = 'imageRegion2D').all({EXTENDED})",
        ),
        rule("sl-65", "The instance is named by bare UID", f"{PARTS}.where(url = 'uid').value.matches('{BARE_UID}')"),
    ),
)

PROFILES = (REPORT, BUNDLE, SELECTION, BASIC)
