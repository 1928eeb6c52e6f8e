"""Narratives: R4 and R5 narrative.html, "well-formed XHTML, and nothing that runs"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

XHTML = "http://www.w3.org/1999/xhtml"
# Basic formatting of HTML 4.0 chapters 7-11 (except 4) and 15, links and images (invariant txt-1).
TAGS = frozenset(
    "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt "  # noqa: SIM905  read as words
    "em h1 h2 h3 h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul "
    "var".split()
)
ATTRIBUTES = frozenset(
    "id class style title href src alt colspan rowspan lang dir name".split()  # noqa: SIM905
)
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# A narrative links to what a reader may open; browsers ignore blanks and control characters inside a scheme.
SCHEMES = {"", "http", "https", "mailto", "tel", "urn", "data"}
_IGNORED = re.compile(r"[\x00-\x20]")
_IN_STYLE = re.compile(r"expression\s*\(|javascript:|url\s*\(|@import|behavior\s*:", re.IGNORECASE)


def faults(item: object, where: str) -> Iterator[str]:
    """What is wrong with a narrative's ``div``."""
    try:
        root = etree.fromstring(str(item), etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        yield f"{where}: txt-1: not well-formed XHTML"
        return
    if root.tag != f"{{{XHTML}}}div":
        yield f"{where}: txt-1: the root is not an XHTML div"
    if root.getroottree().docinfo.doctype:
        yield f"{where}: txt-1: a document type declaration"
    for node in root.iter():
        yield from _node(node, where)
    if not "".join(root.itertext()).strip() and root.find(f".//{{{XHTML}}}img") is None:
        yield f"{where}: txt-2: nothing to read"


def _node(node: etree._Element, where: str) -> Iterator[str]:
    if node.tag is etree.Comment:
        return
    name = etree.QName(node).localname if isinstance(node.tag, str) else "?"
    if name not in TAGS or not str(node.tag).startswith(f"{{{XHTML}}}") or set(node.attrib) - ATTRIBUTES - {LANGUAGE}:
        yield f"{where}: txt-1: <{name}> or one of its attributes is not allowed"
    for attribute in ("href", "src"):
        link = _IGNORED.sub("", str(node.get(attribute, "")))
        scheme = re.match(r"([a-z][a-z0-9+.\-]*):", link, re.IGNORECASE)
        if scheme and scheme[1].lower() not in SCHEMES:
            yield f"{where}: txt-1: a link runs a script or opens no page"
        if link.lower().startswith("data:") and not link.lower().startswith("data:image/"):
            yield f"{where}: txt-1: a link runs a script or opens no page"
    if _IN_STYLE.search(str(node.get("style", ""))):
        yield f"{where}: txt-1: a style runs or fetches something"
