"""What of a study in the archive a patient reads: its radiographs, and the regions on them; series by series.

Beside them the archive holds structured reports, which say who decided about a region and why and how sure the model
was, and heat maps, which show it. Whatever is not named here is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from plugin.page.document import read_evidence
from plugin.service.parts import Results
from plugin.values import StudyRef

SEGMENTATIONS = ("seg.dcm", *(f"seg-{number}.dcm" for number in range(1, 9)))
_STUDY = frozenset({"StudyInstanceUID", "0020000D", "limit", "offset"})
_SERIES = frozenset({"SeriesInstanceUID", "0020000E", "Modality", "00080060", "limit", "offset"})
_SERIES_UID = "0020000E"


def series_for_patients(results: Results, study: StudyRef, series_of: Callable[[bytes], str]) -> frozenset[str]:
    """The series of the radiographs that *results* are about, and of the Segmentations in them."""
    found: set[str] = set()
    for kept in results.reports(study):
        content = results.read(study, "evidence.json", kept.ref.report_id)
        if content is not None:
            document = read_evidence(content)
            found.update(image.series_instance_uid for image in document.images)
            found.update(image.series_instance_uid for image in document.references)
            written = (results.read(study, name, kept.ref.report_id) for name in SEGMENTATIONS)
            found.update(series_of(each) for each in written if each is not None)
    return frozenset(found)


def asked_series(resource: str) -> str:
    """The series that *resource* ("studies/1.2/series/1.3/...") lies in; "" for none."""
    match resource.split("/"):
        case ["studies", _, "series", uid, *_]:
            return uid
        case _:
            return ""


def search_query(resource: str, query: Iterable[tuple[str, str]]) -> list[tuple[str, str]] | None:
    """What of *query* a search for a study or for its series keeps: no attribute is asked or searched for beyond those
    that name them. None: *resource* is no such search.
    """
    match resource.split("/"):
        case ["studies"]:
            names = _STUDY
        case ["studies", _, "series"]:
            names = _SERIES
        case _:
            return None
    return [(name, value) for name, value in query if name in names]


def series_among(answer: Any, series: frozenset[str]) -> list[Any]:
    """Those of the DICOM JSON of a search for series that are among *series*."""
    return [each for each in answer if isinstance(each, dict) and _uid(each) in series]


def _uid(hit: dict[str, Any]) -> str:
    values = hit.get(_SERIES_UID, {}).get("Value") or [""]
    return str(values[0])
