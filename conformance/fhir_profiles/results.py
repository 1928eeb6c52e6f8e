"""The profiles of the results: the model, a phrase, a portal's entry, where results come from, what was done."""

from __future__ import annotations

from fhir_profiles.definition import (
    BARE_UID,
    DCM,
    DICOM_UID,
    HASH_URI,
    LOINC,
    OWN,
    R5_ELEMENT,
    SCT,
    TERMINOLOGY,
    UID,
    URI,
    at,
    by,
    coded,
    entry,
    extension,
    is_a,
    naming,
    only,
    profile,
    required,
    rule,
)


def having(*codes: str) -> str:
    """FHIRPath: the components with one of these codes."""
    said = " or ".join(f"code = '{each}'" for each in codes)
    return f"component.where(code.coding.where({said}).exists())"


def claims(code: str) -> str:
    """FHIRPath: whether the interpretation is *code*."""
    return f"interpretation.coding.where(code = '{code}').exists()"


REGION, SEGMENT = having("111030"), having("121191")
CORNERS = "extension.where(url = 'coordinate').value"
CLOSED = (
    f"extension.where(url = 'regionType').value = 'polyline' and {CORNERS}.count() >= 8 and {CORNERS}.count() mod 2 = 0"
    f" and {CORNERS}.first() = {CORNERS}.skip({CORNERS}.count() - 2).first()"
    f" and {CORNERS}.skip(1).first() = {CORNERS}.last() and {CORNERS}.all($this >= 0)"
)
PLACED = "(extension.count() = 3 and value.exists() and dataAbsentReason.empty())"
UNPLACED = "(extension.empty() and value.empty() and dataAbsentReason.exists())"
SERIES = f"extension.where(url = '{R5_ELEMENT}studyUid' or url = '{R5_ELEMENT}seriesUid')"

PHRASE = profile(
    "SightlinePhraseObservation",
    "Observation",
    "One phrase of a report: what it claims, how sure the model is, and where it lights the image.",
    at("text", "A portal that knows no component shows this.", min=1),
    at("contained", max="0"),
    at("extension", max="0"),
    at("modifierExtension", max="0"),
    at("identifier", min=1, slicing=by("pattern", "system")),
    at("identifier:tracking", "The tracking UID that SEG and SR carry.", min=1, max="1"),
    at("identifier:tracking.system", min=1, patternUri=DICOM_UID),
    at("identifier:tracking.value", min=1),
    at("basedOn", type=only("ServiceRequest")),
    at("partOf", "The study.", min=1, max="1", type=only("ImagingStudy")),
    at(
        "status",
        "Preliminary until a radiologist decides; entered-in-error when withdrawn.",
        binding=required("PhraseStatus"),
    ),
    at("category", min=1, slicing=by("pattern", "$this")),
    at(
        "category:imaging",
        min=1,
        max="1",
        patternCodeableConcept=coded(TERMINOLOGY + "observation-category", "imaging"),
    ),
    at("code", "DICOM PS3.16: 121071 Finding.", patternCodeableConcept=coded(DCM, "121071")),
    at("subject", type=only("Patient")),
    at("focus", "The report version that was read.", min=1, max="1", type=only("DiagnosticReport")),
    at("issued", min=1),
    at("value[x]", "The phrase.", min=1, type=is_a("CodeableConcept")),
    at("value[x].text", "The phrase, verbatim but for control characters.", min=1),
    at("dataAbsentReason", max="0"),
    at("interpretation", "What the report claims.", min=1, max="1", binding=required("PhraseInterpretation")),
    at("device", "The model.", min=1, type=only("Device")),
    at("hasMember", max="0"),
    at("derivedFrom", max="0"),
    at("component", min=2, slicing=by("pattern", "code", rules="closed")),
    at("component:certainty", max="1"),
    at("component:certainty.code", patternCodeableConcept=coded(DCM, "111012")),
    at(
        "component:certainty.value[x]",
        min=1,
        type=is_a("Quantity"),
        patternQuantity={"system": "http://unitsofmeasure.org", "code": "%"},
    ),
    at("component:start", min=1, max="1"),
    at("component:start.code", patternCodeableConcept=coded(OWN, "phrase-start")),
    at("component:start.value[x]", min=1, type=is_a("integer")),
    at("component:end", min=1, max="1"),
    at("component:end.code", patternCodeableConcept=coded(OWN, "phrase-end")),
    at("component:end.value[x]", min=1, type=is_a("integer")),
    at("component:region"),
    at(
        "component:region.extension",
        "R5 ImagingSelection, element by element.",
        slicing=by("value", "url", rules="closed"),
    ),
    at("component:region.extension:studyUid", max="1", type=extension(R5_ELEMENT + "studyUid")),
    at("component:region.extension:seriesUid", max="1", type=extension(R5_ELEMENT + "seriesUid")),
    at("component:region.extension:instance", max="1", type=extension(R5_ELEMENT + "instance")),
    at("component:region.code", patternCodeableConcept=coded(DCM, "111030")),
    at("component:region.value[x]", type=is_a("string")),
    at("component:region.dataAbsentReason", binding=required("NoRegionReason")),
    at("component:segment"),
    at("component:segment.extension", min=1, slicing=by("value", "url", rules="closed")),
    at("component:segment.extension:instance", min=1, max="1", type=extension(R5_ELEMENT + "instance")),
    at("component:segment.code", patternCodeableConcept=coded(DCM, "121191")),
    at("component:segment.value[x]", min=1, type=is_a("integer")),
    title="A phrase of a report and its regions",
    rules=(
        rule(
            "sl-1",
            "A denied phrase has neither region nor segment",
            f"{claims('NEG')} implies {having('111030', '121191')}.empty()",
        ),
        rule(
            "sl-2", "An asserted phrase has a region, or says why it has none", f"{claims('NEG')} or {REGION}.exists()"
        ),
        rule(
            "sl-3",
            "A region has either a place (and words for it) or a dataAbsentReason",
            f"{REGION}.all({PLACED} or {UNPLACED})",
        ),
        rule(
            "sl-4",
            "Where nothing is grounded, there is one region component and no segment",
            f"{REGION}.where(dataAbsentReason.exists()).empty() or ({REGION}.count() = 1 and {SEGMENT}.empty())",
        ),
        rule(
            "sl-5",
            "A phrase starts before it ends, at a character that is there",
            f"{having('phrase-start')}.value < {having('phrase-end')}.value and {having('phrase-start')}.value >= 0",
        ),
        rule("sl-6", "Certainty is a percentage", f"{having('111012')}.all(value.value >= 0 and value.value <= 100)"),
        rule(
            "sl-7", "Only what the report commits itself to is coded", f"{claims('IND')} implies value.coding.empty()"
        ),
        rule(
            "sl-8",
            "Absence is coded exactly where the report denies",
            f"{claims('NEG')} = value.coding.where(system = '{SCT}' and code = '373572006').exists()",
        ),
        rule(
            "sl-9",
            "A region is a closed polyline of at least three corners in pixels (R5 ImagingSelection has no polygon)",
            f"{REGION}.extension.extension.where(url = 'imageRegion2D').all({CLOSED})",
        ),
        rule(
            "sl-10",
            "A region names study, series and instance by bare UID",
            f"{REGION}.{SERIES}.all(value.matches('{BARE_UID}'))"
            f" and {REGION}.extension.extension.where(url = 'uid').all(value.matches('{BARE_UID}'))",
        ),
        rule(
            "sl-11",
            "A region is drawn on one instance",
            f"{REGION}.where(extension.exists()).all(extension.extension.where(url = 'imageRegion2D').count() = 1)",
        ),
        rule(
            "sl-12",
            "The referenced segment's number is its instance's subset",
            f"{SEGMENT}.all(value > 0 and value.toString() = extension.extension.where(url = 'subset').value)",
        ),
        rule(
            "sl-13",
            "The tracking UID is a UID",
            f"identifier.where(system = '{DICOM_UID}').value.all($this.matches('{UID}'))",
        ),
    ),
)

DEVICE = profile(
    "SightlineDevice",
    "Device",
    "The model that made a result: name, version and the hash of its weights.",
    at("text", min=1),
    at("contained", max="0"),
    at("extension", max="0"),
    at(
        "identifier",
        "The weights by their hash (RFC 6920); our id, where the server gives its own.",
        min=1,
        max="2",
    ),
    at("identifier.system", min=1, fixedUri=URI),
    at("identifier.value", min=1),
    at("status", min=1, fixedCode="active"),
    at("manufacturer", min=1, fixedString="Sightline"),
    at("deviceName", min=1, max="1"),
    at("deviceName.type", fixedCode="model-name"),
    at("modelNumber", "The model's version.", min=1),
    at("type", min=1),
    at("type.text", min=1),
    at("version", min=2, slicing=by("pattern", "type")),
    at("version:software", min=1, max="1"),
    at("version:software.type", min=1, patternCodeableConcept={"text": "software"}),
    at("version:reader", min=1, max="1"),
    at("version:reader.type", min=1, patternCodeableConcept={"text": "report reader"}),
    at("patient", "A model belongs to no patient.", max="0"),
    title="The model",
    rules=(
        rule(
            "sl-20",
            "The model is identified by a SHA-256 by RFC 6920",
            f"identifier.where(value.matches('{HASH_URI}')).count() = 1"
            f" and identifier.where(value.startsWith('urn:uuid:').not()).count() = 1",
        ),
    ),
)


RELATED, WHAT = "context.related", "entity.what"
PAGE = "content.attachment.where(contentType = 'text/html')"
FORMAT = "format.where(system = 'urn:oid:1.2.840.10008.2.6.1').exists()"
DICOM_CONTENT = "content.where(attachment.contentType = 'application/dicom')"
DOCUMENT = profile(
    "SightlineDocumentReference",
    "DocumentReference",
    "The entry that portals list: the page, the SEG and the SR of a study and a report. "
    "International Patient Access has DocumentReference and no DiagnosticReport.",
    at("text", min=1),
    at("contained", max="0"),
    at("extension", max="0"),
    at("status", binding=required("EntryStatus")),
    at("docStatus", min=1, binding=required("EntryDocStatus")),
    at("category", min=1, slicing=by("pattern", "$this")),
    at("category:radiology", min=1, max="1", patternCodeableConcept=coded(LOINC, "LP29684-5")),
    at("subject", type=only("Patient")),
    at("date", min=1),
    at("author", min=1, max="1", type=only("Device")),
    at("content.attachment.contentType", min=1, binding=required("EntryContent")),
    at("content.attachment.data", "Pages and objects are fetched from where they are.", max="0"),
    at("content.attachment.url", min=1),
    at("context", min=1),
    at(
        "context.related",
        "The report version and the study.",
        min=2,
        max="2",
        type=only("DiagnosticReport", "ImagingStudy"),
    ),
    title="A portal's entry",
    rules=(
        rule(
            "sl-30",
            "Related are one report and one study",
            f"{naming(RELATED, 'DiagnosticReport')}.count() = 1 and {naming(RELATED, 'ImagingStudy')}.count() = 1",
        ),
        rule(
            "sl-31",
            "A DICOM object has its size, hash and SOP class, and is named by its UID",
            f"{DICOM_CONTENT}.all(attachment.size.exists() and attachment.hash.exists() and {FORMAT}"
            f" and attachment.url.matches('{UID}'))",
        ),
        rule(
            "sl-32",
            "Size and hash (SHA-1, base64) are given together",
            "content.attachment.all(size.exists() = hash.exists() and hash.all($this.matches('^[A-Za-z0-9+/]{27}=$')))",
        ),
        rule(
            "sl-33",
            "There is at most one page, and it opens in a browser",
            f"{PAGE}.count() <= 1 and {PAGE}.url.all($this.matches('^https?://'))",
        ),
    ),
)

BY_A_PERSON = "activity.coding.where(code = 'UPDATE').exists()"
PROVENANCE = profile(
    "SightlineProvenance",
    "Provenance",
    "Who made the results of a report version and a study, and from what; who took them back; or which person decided.",
    at("contained", max="0"),
    at("extension", max="0"),
    at(
        "activity",
        "Only where results are taken back (NULLIFY), or a radiologist decided about a phrase (UPDATE).",
        binding=required("ProvenanceActivity"),
    ),
    at("agent", min=1, max="1"),
    at("agent.type", min=1, binding=required("ProvenanceRole")),
    at("agent.who", type=only("Device", "Practitioner")),
    at("entity", min=1),
    at("entity.role", fixedCode="source"),
    title="How results came about",
    rules=(
        rule(
            "sl-40",
            "Sources are one report version and, of results, the hash of the text that was read",
            f"{BY_A_PERSON} or ({naming(WHAT, 'DiagnosticReport')}.count() = 1 and (activity.exists() or {WHAT}.where("
            "display.startsWith('text used:') and identifier.value.startsWith('ni:///sha-256;')).count() = 1))",
        ),
        rule(
            "sl-41",
            "Sources of results are the images, by UID",
            f"(activity.exists() or {WHAT}.identifier.where(system = '{DICOM_UID}').exists())"
            f" and {WHAT}.identifier.where(system = '{DICOM_UID}').all(value.matches('{UID}'))",
        ),
        rule(
            "sl-42",
            "The hash is a SHA-256 by RFC 6920",
            f"{WHAT}.identifier.where(value.startsWith('ni:')).all(value.matches('{HASH_URI}'))",
        ),
        rule(
            "sl-43",
            "People decide, about a phrase on an image; the model is the author of everything else",
            f"{BY_A_PERSON} = {naming('agent.who', 'Practitioner')}.exists() and ({BY_A_PERSON} implies"
            f" ({naming('target', 'Observation')}.exists() and {WHAT}.identifier.count() = 1))"
            f" and ({BY_A_PERSON} or agent.type.coding.code = 'author')",
        ),
    ),
)

AUDIT = profile(
    "SightlineAuditEvent",
    "AuditEvent",
    "That the model read a report and images and wrote results, or took them back. It holds no text of a report.",
    at("contained", max="0"),
    at("extension", max="0"),
    at("type", fixedCoding={"system": DCM, "code": "110100", "display": "Application Activity"}),
    at("subtype", min=1, max="1"),
    at("action", min=1, fixedCode="E"),
    at("outcome", min=1, fixedCode="0"),
    at("outcomeDesc", max="0"),
    at("agent", min=1, max="1"),
    at("agent.who", min=1, type=only("Device")),
    at("agent.name", max="0"),
    at("source.observer", type=only("Device")),
    at("entity", min=2),
    at("entity.what", min=1),
    at("entity.name", "Names quote patients.", max="0"),
    at("entity.description", max="0"),
    at("entity.query", max="0"),
    at("entity.detail", max="0"),
    title="What was done to which data",
    rules=(
        rule("sl-45", "It names the report that was read", f"{naming(WHAT, 'DiagnosticReport')}.exists()"),
        rule(
            "sl-46",
            "Every other entity was read (6), made (1) or taken back (14)",
            "entity.where(role.code != '1').all(lifecycle.code = '6' or lifecycle.code = '1' or lifecycle.code = '14')",
        ),
    ),
)


TRANSACTION = profile(
    "SightlineTransaction",
    "Bundle",
    "What Sightline writes for one report version and one study, in one transaction.",
    at("type", fixedCode="transaction"),
    at("entry", min=2, slicing=by("type", "resource", rules="closed")),
    *entry("device", "Device", "SightlineDevice", low=1, high="1"),
    *entry("phrase", "Observation", "SightlinePhraseObservation"),
    *entry("document", "DocumentReference", "SightlineDocumentReference", high="1"),
    *entry("provenance", "Provenance", "SightlineProvenance", low=1),
    *entry("event", "AuditEvent", "SightlineAuditEvent", low=1, high="1"),
    title="One transaction",
    rules=(
        rule(
            "sl-70",
            "What is not put to its id is created only if it is not there (for servers that give ids themselves)",
            "entry.request.where(method = 'POST').all(ifNoneExist.exists())",
        ),
        rule(
            "sl-71",
            "One provenance is the model's",
            f"entry.resource.where($this is Provenance and ({BY_A_PERSON}).not()).count() = 1",
        ),
    ),
)

PROFILES = (DEVICE, PHRASE, DOCUMENT, PROVENANCE, AUDIT, TRANSACTION)
