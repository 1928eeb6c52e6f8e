"""The lit regions as R5 ImagingSelection resources, one for each lit phrase and image; as Basic for a server of R4.

R5 5.0.0 imagingselection.html: studyUid, seriesUid and instance.uid are bare UIDs; there is no polygon, so an outline
is a polyline that ends where it began; coordinates are image pixels, 0\\0 the top left corner of the first pixel, and
stay within 0\\0 and columns\\rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plugin.fhir.codes import R5_EXTENSION, coded
from plugin.fhir.ours import MULTIMEDIA_REPORT
from plugin.fhir.parts import URI, Fhir, device_id, narrative, present, uid_identifier
from plugin.identity import derived_id
from plugin.page.document import EvidenceDocument, ImagePart, PhrasePart, PlacementPart
from plugin.values import Ruling

OF_INTEREST = coded("DCM", "113000", "Of Interest")  # PS3.16 CID 7010
KIND = "ImagingSelection"
_FHIR_TYPES = "http://hl7.org/fhir/fhir-types"


@dataclass(frozen=True, slots=True)
class About:
    """Whom and what selections are about, as R4 and R5 references alike; None where it is not known."""

    issued: str
    study: Fhir
    subject: Fhir | None = None
    orders: tuple[Fhir, ...] = ()


def selection_id(tracking_uid: str, sop_instance_uid: str) -> str:
    """The ImagingSelection of a phrase on an image, the same as long as the phrase keeps its tracking UID."""
    return derived_id(KIND, tracking_uid, sop_instance_uid)


def lit(phrase: PhrasePart) -> tuple[PlacementPart, ...]:
    """Where *phrase* is lit, best image first."""
    return tuple(placement for placement in phrase.placements if placement.regions)


def selections_of(document: EvidenceDocument, about: About) -> tuple[Fhir, ...]:
    """The ImagingSelection of every lit phrase on every image, in the order of the text."""
    images = {image.sop_instance_uid: image for image in document.images}
    return tuple(
        _selection(phrase, placement, image=images[placement.sop_instance_uid], document=document, about=about)
        for phrase in document.phrases
        for placement in lit(phrase)
    )


def _selection(
    phrase: PhrasePart, placement: PlacementPart, *, image: ImagePart, document: EvidenceDocument, about: About
) -> Fhir:
    selection = {
        "resourceType": KIND,
        "id": selection_id(phrase.tracking_uid, image.sop_instance_uid),
        "meta": {"tag": [MULTIMEDIA_REPORT]},
        "text": narrative(f"Where {_who(placement)} marks on the image what the report says: {phrase.text}."),
        "identifier": [uid_identifier(phrase.tracking_uid)],
        "status": "available",
        "subject": about.subject,
        "issued": about.issued,
        "performer": [{"actor": {"reference": f"Device/{device_id(document.provenance)}"}}],
        "basedOn": list(about.orders) or None,
        "code": OF_INTEREST,
        "studyUid": document.study_instance_uid,
        "derivedFrom": [about.study],
        "seriesUid": image.series_instance_uid,
        "instance": [
            {
                "uid": image.sop_instance_uid,
                "sopClass": {"system": URI, "code": f"urn:oid:{image.sop_class_uid}"},
                "imageRegion2D": [_polyline(region.outline, image) for region in placement.regions],
            }
        ],
    }
    return present(selection)  # type: ignore[no-any-return]


def _who(placement: PlacementPart) -> str:
    drawn = placement.decision is not None and placement.decision.ruling is Ruling.REDRAWN
    return "a radiologist" if drawn else "software"


def _polyline(outline: tuple[tuple[float, float], ...], image: ImagePart) -> Fhir:
    limits = (image.columns, image.rows)
    numbers = [
        round(min(max(value, 0.0), float(limit)), 2)
        for point in (*outline, outline[0])
        for value, limit in zip(point, limits, strict=True)
    ]
    return {"regionType": "polyline", "coordinate": numbers}


def withdrawn_selection(selection: Fhir) -> Fhir:
    """*selection* when its report was withdrawn: known, but showing nothing."""
    kept = {name: selection[name] for name in ("resourceType", "id", "meta", "identifier", "code")}
    return kept | {"status": "entered-in-error"}


# As Basic, for a server that knows no ImagingSelection (R5 versions.html#extensions)

_TYPES = {
    "status": "valueCode",
    "issued": "valueInstant",
    "studyUid": "valueId",
    "derivedFrom": "valueReference",
    "seriesUid": "valueId",
    "basedOn": "valueReference",
    "uid": "valueId",
    "sopClass": "valueCoding",
    "regionType": "valueCode",
    "coordinate": "valueDecimal",
    "actor": "valueReference",
    "code": "valueCodeableConcept",
}
_ON_BASIC = ("id", "meta", "text", "identifier", "subject")


def as_basic(selection: Fhir) -> Fhir:
    """*selection* as a Basic of the same id, each element of R5 in its cross-version extension."""
    others = {name: value for name, value in selection.items() if name not in (*_ON_BASIC, "resourceType")}
    return {
        "resourceType": "Basic",
        **{name: selection[name] for name in _ON_BASIC if name in selection},
        "extension": [
            _extension(R5_EXTENSION + name, name, each) for name, value in others.items() for each in _items(value)
        ],
        "code": {"coding": [{"system": _FHIR_TYPES, "code": KIND}]},
    }


def _extension(url: str, name: str, value: Any) -> Fhir:
    if name in _TYPES:
        return {"url": url, _TYPES[name]: value}
    inner = [_extension(part, part, each) for part, given in value.items() for each in _items(given)]
    return {"url": url, "extension": inner}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
