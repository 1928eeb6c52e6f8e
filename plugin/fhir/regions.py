"""Regions at a FHIR server of R4, by option: each ImagingSelection as a Basic, and none that is no longer lit.

Pure: *there* is what the server holds of ours, as FHIR JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plugin.fhir.capability import Release
from plugin.fhir.codes import R5_EXTENSION
from plugin.fhir.multimedia import about_of, frame_of
from plugin.fhir.parts import Fhir, name_of
from plugin.fhir.selections import as_basic, selection_id, selections_of
from plugin.fhir.writing import transaction
from plugin.page.document import evidence_document
from plugin.values import Evidence

WITHDRAWN = "entered-in-error"
_KEPT = ("resourceType", "id", "meta", "identifier", "subject", "code")


def regions_of(evidence: Evidence) -> tuple[Fhir, ...]:
    """The regions of *evidence*, as Basic."""
    return tuple(map(as_basic, selections_of(evidence_document(evidence), about_of(frame_of(evidence)))))


def region_names(tracking_uids: Iterable[str], sop_instance_uids: Iterable[str]) -> tuple[str, ...]:
    """Every region that phrases can have on images, as "Basic/<id>"."""
    images = sorted(set(sop_instance_uids))
    return tuple(f"Basic/{selection_id(uid, image)}" for uid in sorted(set(tracking_uids)) for image in images)


def regions_bundle(wanted: Sequence[Fhir], there: Sequence[Mapping[str, Any]]) -> str | None:
    """The transaction that makes *there* what is *wanted*, the rest withdrawn; None when there is nothing to do.

    Raises
    ------
    ConformanceError
        If a resource is not valid.
    """
    names = {name_of(each) for each in wanted}
    gone = [withdrawn_region(each) for each in there if name_of(dict(each)) not in names and not _is_withdrawn(each)]
    resources = [*wanted, *gone]
    return transaction(resources, Release.R4) if resources else None


def withdrawn_region(region: Mapping[str, Any]) -> Fhir:
    """*region* as one that should never have been: it says whose it was, and no place."""
    kept = {name: region[name] for name in _KEPT if name in region}
    code = [each for each in region["extension"] if each["url"] == f"{R5_EXTENSION}code"]
    return kept | {"extension": [{"url": f"{R5_EXTENSION}status", "valueCode": WITHDRAWN}, *code]}


def _is_withdrawn(region: Mapping[str, Any]) -> bool:
    status = (each for each in region.get("extension", ()) if each.get("url") == f"{R5_EXTENSION}status")
    return any(each.get("valueCode") == WITHDRAWN for each in status)
