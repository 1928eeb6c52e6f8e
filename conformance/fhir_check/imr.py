"""What IHE RAD IMR 1.1.0 asks of a multimedia report and profiles cannot say, each rule with its clause.

Clauses are those of Store Multimedia Report [RAD-141], 2:4.141.4.1.2.*.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lxml import etree, html

from fhir_check.definitions import Json

BUNDLE_PROFILE = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-store-multimedia-report-bundle"
REPORT_PROFILE = "https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-diagnosticreport"
SPAN_CLASS = "imr-ref-ImagingSelection"
BUNDLE, SPANS, RENDERED, LINKS = (f"2:4.141.4.1.2.{number}" for number in ("1", "2.2", "2.3", "2.3.1"))
# A plain WADO-RS address of an instance gives a DICOM object; rendered ones, and all else, give what can be shown.
PLAIN_WADO = re.compile(r"/studies/[0-9.]+(/series/[0-9.]+(/instances/[0-9.]+(/frames/[0-9,]+)?)?)?/?([?#]|$)")
UNSAFE = {"script", "iframe", "object", "embed", "form", "base", "link", "applet"}


def bundle_faults(bundle: Json) -> Iterator[str]:
    """What a RAD-141 Bundle has against its clauses, its reports apart."""
    reports = reports_in(bundle)
    if BUNDLE_PROFILE not in bundle.get("meta", {}).get("profile", ()):
        yield _fault("Bundle.meta.profile", f"does not name {BUNDLE_PROFILE}", BUNDLE)
    if bundle.get("type") != "transaction":
        yield _fault("Bundle.type", "is no transaction", BUNDLE)
    if len(reports) != 1:
        yield _fault("Bundle.entry", f"{len(reports)} DiagnosticReports, exactly one is created", BUNDLE)
    for number, entry in enumerate(bundle.get("entry", ())):
        resource = entry.get("resource", {})
        if resource.get("resourceType") == "DiagnosticReport" and entry.get("request", {}).get("method") != "POST":
            yield _fault(f"Bundle.entry[{number}].request.method", "the report is created, by POST", BUNDLE)
        if "contained" in resource:
            yield _fault(f"Bundle.entry[{number}].resource.contained", "contained resources are not used", BUNDLE)


def reports_in(resource: Json) -> list[Json]:
    """The DiagnosticReports of a Bundle, or the one that *resource* is."""
    found = [entry.get("resource", {}) for entry in resource.get("entry", ())] or [resource]
    return [each for each in found if each.get("resourceType") == "DiagnosticReport"]


def report_faults(report: Json, *, selections: Collection[Json], pages: Mapping[str, bytes]) -> Iterator[str]:
    """What a multimedia report has against its clauses.

    Parameters
    ----------
    selections : the ImagingSelection resources that its spans may name.
    pages : address -> content, for each rendered report that is hosted and not inside.
    """
    if "contained" in report:
        yield _fault("DiagnosticReport.contained", "contained resources are not used", BUNDLE)
    performers = [_kind(each) for each in report.get("performer", ())]
    if "Organization" not in performers:
        yield _fault("DiagnosticReport.performer", "no Organization answers for it", "2.2.1, Performing Organization")
    rendered = list(_rendered(report, pages))
    for where, form, content in rendered:
        yield from _fingerprint(form, content, where)
    html_pages = [content for _, form, content in rendered if form.get("contentType") == "text/html"]
    if not html_pages:
        yield _fault("DiagnosticReport.presentedForm", "none is text/html", RENDERED)
    spans = list(_spans(report))
    yield from _span_faults(spans, selections)
    for content in filter(None, html_pages):
        yield from _page_faults(content, [span for span, _ in spans])


def _fault(where: str, what: str, clause: str) -> str:
    named = clause if clause.startswith("2:") else f"2:4.141.4.1.2.{clause}"
    return f"{where}: {what} [IMR 1.1.0, RAD-141, {named}]"


def _kind(reference: Json) -> str:
    return str(reference.get("type") or str(reference.get("reference", "")).partition("/")[0])


def _rendered(report: Json, pages: Mapping[str, bytes]) -> Iterator[tuple[str, Json, bytes | None]]:
    for number, form in enumerate(report.get("presentedForm", ())):
        content = pages.get(str(form.get("url")))
        if "data" in form:
            try:
                content = base64.b64decode(form["data"], validate=True)
            except (binascii.Error, ValueError, TypeError):
                content = None
        yield f"DiagnosticReport.presentedForm[{number}]", form, content


def _fingerprint(form: Json, content: bytes | None, where: str) -> Iterator[str]:
    if content is None:
        yield _fault(where, "its content is neither inside nor at hand, so size and hash are not proven", RENDERED)
        return
    # R4 Attachment.hash: "the hash of the data using SHA-1, represented using base64"; R5 size is integer64, a string.
    digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    if str(form.get("size")) != str(len(content)):
        yield _fault(f"{where}.size", f"{form.get('size')} is not the content's {len(content)}", RENDERED)
    if form.get("hash") != digest:
        yield _fault(f"{where}.hash", "is not the content's SHA-1 in base64", RENDERED)


def _spans(report: Json) -> Iterator[tuple[str, Any]]:
    """(id, element) of each span that names a region; a narrative that is no XHTML has none, and other rules tell."""
    try:
        root = etree.fromstring(str(report.get("text", {}).get("div", "<div/>")))
    except etree.XMLSyntaxError:
        return
    for node in root.iter():
        if isinstance(node.tag, str) and any(each.startswith("imr-ref-") for each in _classes(node)):
            yield node.get("id", ""), node


def _classes(node: Any) -> list[str]:
    return str(node.get("class", "")).split()


def _span_faults(spans: list[tuple[str, Any]], selections: Collection[Json]) -> Iterator[str]:
    names = Counter(f"{each.get('resourceType')}/{each.get('id')}" for each in selections)
    regions = {
        f"{each.get('resourceType')}/{each.get('id')}": [
            region for instance in each.get("instance", ()) for region in instance.get("imageRegion2D", ())
        ]
        for each in selections
    }
    for name, count in Counter(name for name, _ in spans).items():
        where = f"DiagnosticReport.text: span {name or '(no id)'}"
        if count > 1:
            yield _fault(where, f"{count} spans have this id", SPANS)
        if not re.fullmatch(r"ImagingSelection/[A-Za-z0-9\-.]{1,64}", name):
            yield _fault(where, "its id is no reference to an ImagingSelection", SPANS)
        elif names[name] != 1:
            yield _fault(where, f"{names[name]} such ImagingSelections, exactly one is needed", SPANS)
        elif not regions[name]:
            yield _fault(where, "its ImagingSelection has no region", SPANS)
    for name, node in spans:
        if etree.QName(node).localname != "span" or SPAN_CLASS not in _classes(node):
            yield _fault(f"DiagnosticReport.text: span {name}", f"is no span of class {SPAN_CLASS}", SPANS)
        if not "".join(node.itertext()).strip():
            yield _fault(f"DiagnosticReport.text: span {name}", "encloses no text to display", SPANS)


def _page_faults(content: bytes, spans: list[str]) -> Iterator[str]:
    page = html.document_fromstring(content)
    for node in page.iter():
        if not isinstance(node.tag, str):
            continue
        if node.tag in UNSAFE or any(name.startswith("on") for name in node.attrib):
            yield _fault(f"presentedForm: <{node.tag}>", "runs or fetches something", "2:4.142.5.2")
    anchors = [node for node in page.iter("a") if str(node.get("id", "")).startswith("ImagingSelection/")]
    links = Counter(str(node.get("id")) for node in anchors)
    for name in dict.fromkeys(spans):
        if links[name] != 1:
            yield _fault(f"presentedForm: {name}", f"{links[name]} links, each span becomes exactly one", LINKS)
    for name in links.keys() - set(spans):
        yield _fault(f"presentedForm: {name}", "a link that no span in the text is", LINKS)
    for node in page.iter("a"):
        address = str(node.get("href", ""))
        if not re.match(r"(https?://|/|\.|#|$)", address) or (node in anchors and not address):
            yield _fault(f"presentedForm: {node.get('id')}", "its link opens no page", LINKS)
        if PLAIN_WADO.search(address):
            yield _fault(f"presentedForm: {node.get('id')}", "its link gives a DICOM object, not what is shown", LINKS)
