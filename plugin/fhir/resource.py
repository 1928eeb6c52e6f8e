"""Other people's FHIR JSON, read tolerantly: what has the wrong type reads as absent, unknown fields are fine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from plugin.errors import InputError
from plugin.limits import MAX_DEPTH, MAX_VALUES, is_deep, values_in

PdfReader = Callable[[bytes], str]
"""Text of a PDF; raises InputError for one that has none, or cannot be read."""

MAX_BYTES = 50_000_000

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$")


def is_fhir_id(text: str) -> bool:
    """Whether *text* is a FHIR logical id (R4 datatypes, ``id``)."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Element:
    """A resource or a part of one. An absent part is an empty element, so that paths need no checks."""

    json: Mapping[str, object] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.json)

    def string(self, name: str) -> str:
        """The text of *name*, or "" when it is absent or no text."""
        value = self.json.get(name)
        return value if isinstance(value, str) else ""

    def child(self, name: str) -> Element:
        """The object *name*; the first when it is an array (R4 and R5 differ in cardinality here and there)."""
        return next(iter(self.children(name)), Element())

    def children(self, name: str) -> tuple[Element, ...]:
        """The objects of the array *name*; a single object counts as an array of one."""
        value = self.json.get(name)
        items = value if isinstance(value, list) else [value]
        return tuple(Element(item) for item in items if isinstance(item, dict))

    @property
    def type(self) -> str:
        """``resourceType``."""
        return self.string("resourceType")

    @property
    def id(self) -> str:
        """The logical id, or "" when there is none that follows the rules."""
        return text if is_fhir_id(text := self.string("id")) else ""


@dataclass(frozen=True, slots=True)
class Identifier:
    """A FHIR Identifier. *kind* is its type's code from HL7 v2 table 0203 ("MR", "ACSN"), or ""."""

    system: str
    value: str
    kind: str
    assigner: str = ""


def identifiers(element: Element, name: str = "identifier") -> tuple[Identifier, ...]:
    """The identifiers of *element* that have a value, in their order."""
    return tuple(
        Identifier(
            system=each.string("system"),
            value=value,
            kind=next((code for c in each.child("type").children("coding") if (code := c.string("code"))), ""),
            assigner=each.child("assigner").string("display"),
        )
        for each in element.children(name)
        if (value := each.string("value").strip())
    )


def local_name(reference: str) -> tuple[str, str] | None:
    """(type, id) of a relative or absolute literal reference ("Patient/1/_history/2"), or None."""
    found = _REFERENCE.search(reference)
    return (found[1], found[2]) if found else None


class Resources:
    """The resources at hand, found by reference; nothing is fetched."""

    def __init__(self, entries: Iterable[tuple[str, Element]], *, read_pdf: PdfReader | None = None) -> None:
        """*entries*: (fullUrl or "", resource); *read_pdf* makes text of PDFs, None: they are not read."""
        entries = tuple(entries)
        self.read_pdf = read_pdf
        self.all = tuple(resource for _, resource in entries)
        self._by_url: dict[str, Element] = {}
        self._by_name: dict[tuple[str, str], tuple[str, Element]] = {}
        for url, resource in entries:
            if url:
                self._by_url.setdefault(url, resource)
            if resource.id:
                self._by_name.setdefault((resource.type, resource.id), (url, resource))

    def of_type(self, resource_type: str) -> tuple[Element, ...]:
        """All resources of one type, in order."""
        return tuple(resource for resource in self.all if resource.type == resource_type)

    def resolve(self, reference: Element, *, container: Element) -> Element:
        """What *reference* points to: contained, in the same bundle, or an empty element."""
        target = reference.string("reference")
        if target.startswith("#"):
            return next((c for c in container.children("contained") if c.string("id") == target[1:]), Element())
        if (named := self._by_url.get(target)) is not None:
            return named
        name = local_name(target)
        url, resource = self._by_name.get(name, ("", Element())) if name else ("", Element())
        # Patient/1 of another server is somebody else: R4 references.html "Resolving references in Bundles".
        return Element() if "://" in target and "://" in url else resource


def logical_id(reference: Element, resolved: Element) -> str:
    """The id to write into a relative reference, or "" when the target has none (contained, logical, urn:uuid)."""
    target = reference.string("reference")
    if target.startswith("#"):
        return ""
    return resolved.id or (name[1] if (name := local_name(target)) else "")


def parse(content: bytes) -> Element:
    """A FHIR resource from JSON in UTF-8 (R4 json.html), a byte order mark allowed.

    Raises
    ------
    InputError
        If it is too large, has too many values, is not JSON, nested too deeply, or not a FHIR resource.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"the FHIR input has {len(content):,} bytes; at most {MAX_BYTES:,} are read: split the bundle")
    if values_in(content) > MAX_VALUES:
        raise InputError(f"the FHIR input has more than {MAX_VALUES:,} values: split the bundle")
    try:
        document = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InputError("the FHIR input is not UTF-8, as FHIR JSON has to be: convert it") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"the FHIR input is not valid JSON ({where}): export it again") from None
    except (ValueError, RecursionError):
        raise InputError("the FHIR input is not valid JSON (NaN, an absurd number, or nested too deeply)") from None
    if not isinstance(document, dict) or not Element(document).type:
        raise InputError("the JSON is not FHIR: expected an object with a resourceType (DiagnosticReport or Bundle)")
    if is_deep(document):
        raise InputError(f"the JSON is nested more than {MAX_DEPTH} levels deep, which no report is: export it again")
    _check_characters(document)
    return Element(document)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_characters(document: object) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError("the JSON holds half a character (an unpaired \\u surrogate): export it again") from None


def resources_of(document: Element, *, read_pdf: PdfReader | None = None) -> Resources:
    """The resources of a Bundle, or the one resource given."""
    if document.type != "Bundle":
        return Resources([("", document)], read_pdf=read_pdf)
    entries = ((entry.string("fullUrl"), entry.child("resource")) for entry in document.children("entry"))
    return Resources([(url, resource) for url, resource in entries if resource.type], read_pdf=read_pdf)
