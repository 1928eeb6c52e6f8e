"""What is new in an archive: Orthanc's change log, and for every other archive QIDO-RS searched again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import requests
from dicomweb_client import DICOMwebClient

from plugin.archive import answered
from plugin.dicom.header import MANUFACTURER
from plugin.dicomweb import search_studies, value_of, values_of, web_client
from plugin.endpoint import Endpoint, session_of
from plugin.errors import TransientError
from plugin.ports import Look, Sighting
from plugin.values import StudyRef

RADIOGRAPHS: Final = ("CR", "DX", "RG")
#: Series of which an instance is news: radiographs, also captured ones, and reports.
_NEWS: Final = frozenset({*RADIOGRAPHS, "OT", "SR"})
_CHANGES_PER_PAGE: Final = 500
_STUDY_DATE: Final = "00080020"
_MODALITIES_IN_STUDY: Final = "00080061"
_NUMBER_OF_INSTANCES: Final = "00201208"


class OrthancFeed:
    """Orthanc's change log (``/changes``), which survives both sides' deaths; the cursor is a sequence number.

    Every new instance is looked up, and not only the events of stability: Orthanc raises none for a study that was
    still arriving when it was killed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session = session_of(endpoint)

    def first(self) -> Look:
        """Nothing, and the end of the log."""
        return Look((), str(self._get("/changes?last")["Last"]))

    def look(self, cursor: str) -> Look:
        """The studies of one page of the log from *cursor* on; "" is its beginning."""
        since = int(cursor or 0)
        page = self._get(f"/changes?since={since}&limit={_CHANGES_PER_PAGE}")
        if not page["Changes"] and self._get("/changes?last")["Last"] < since:
            return Look(
                (), "", more=True
            )  # another database stands behind the address: its log is read from its beginning
        news = {change["ID"]: change["Seq"] for change in page["Changes"] if change["ChangeType"] == "NewInstance"}
        return Look(self._sightings(news), str(max(page["Last"], since)), more=not page["Done"])

    def _sightings(self, news: Mapping[str, int]) -> tuple[Sighting, ...]:
        if not news:
            return ()
        series = self._parents(tuple(news), level="Series")
        touched = {one["ParentStudy"] for one in series if _is_news(one["MainDicomTags"])}
        mark = str(max(news.values()))
        uids = (study["MainDicomTags"].get("StudyInstanceUID", "") for study in self._parents(touched, level="Study"))
        return tuple(Sighting(StudyRef(uid), mark) for uid in sorted(filter(None, uids)))

    def _parents(self, identifiers: tuple[str, ...] | set[str], *, level: str) -> list[dict[str, Any]]:
        """The resources of *level* above *identifiers*, each once; those deleted meanwhile are left out."""
        if not identifiers:
            return []
        asked = {"Resources": sorted(identifiers), "Level": level}
        return self._answer(self._session.post, "/tools/bulk-content", json=asked)  # type: ignore[no-any-return]

    def _get(self, path: str) -> dict[str, Any]:
        return self._answer(self._session.get, path)  # type: ignore[no-any-return]

    def _answer(self, ask: Callable[..., requests.Response], path: str, **sent: Any) -> Any:
        with answered():
            answer = ask(f"{self._endpoint.url.rstrip('/')}{path}", timeout=self._endpoint.timeout_s, **sent)
            answer.raise_for_status()
            try:
                return answer.json()
            except requests.exceptions.JSONDecodeError:
                raise TransientError("Orthanc answered something that is not JSON; is it Orthanc's address?") from None


def _is_news(tags: Mapping[str, str]) -> bool:
    """Whether a series of these attributes may change what is grounded; our own reports do not."""
    return tags.get("Modality") in _NEWS and (tags["Modality"], tags.get("Manufacturer")) != ("SR", MANUFACTURER)


@dataclass(frozen=True, slots=True)
class QidoFeed:
    """Any archive, by QIDO-RS: the studies of the last days with radiographs; the cursor is the day of the last look.

    DICOMweb tells nobody what is new. So each look goes over *days* before the last one again, for studies that are
    sent late, and whoever looks keeps what was seen. The mark is the number of instances.

    Parameters
    ----------
    today : the day here; study dates up to the day after are asked for, since clocks and time zones differ.
    """

    client: DICOMwebClient
    days: int
    today: Callable[[], date]

    def first(self) -> Look:
        """Every study of the last days."""
        return self.look("")

    def look(self, cursor: str) -> Look:
        """Every study since *days* before *cursor*; "" is today."""
        today = self.today()
        begin = (date.fromisoformat(cursor) if cursor else today) - timedelta(days=self.days)
        dates = f"{begin:%Y%m%d}-{today + timedelta(days=1):%Y%m%d}"
        found: dict[StudyRef, Sighting] = {}
        for modality in RADIOGRAPHS:
            filters = {"StudyDate": dates, "ModalitiesInStudy": modality}
            with answered():
                studies = search_studies(self.client, filters, (_MODALITIES_IN_STUDY, _NUMBER_OF_INSTANCES))
                sightings = tuple(map(_sighting, filter(_may_hold_radiographs, studies)))
            found |= {sighting.study: sighting for sighting in sightings}
        return Look(tuple(found[study] for study in sorted(found)), today.isoformat())


def _may_hold_radiographs(study: Mapping[str, Any]) -> bool:
    """An archive may take no notice of the filter, and need not tell the modalities."""
    modalities = values_of(study, _MODALITIES_IN_STUDY)
    return not modalities or bool(set(RADIOGRAPHS) & set(modalities))


def _sighting(study: Mapping[str, Any]) -> Sighting:
    return Sighting(StudyRef(value_of(study, "0020000D")), value_of(study, _NUMBER_OF_INSTANCES))


def studies_of(endpoint: Endpoint, *, modality: str) -> Callable[[date], tuple[StudyRef, ...]]:
    """The studies of a day with *modality* at the DICOMweb server at *endpoint*, in the order of their UIDs.

    The function raises TransientError if the archive does not answer, and InputError if it refuses us.
    """
    client = web_client(endpoint)

    def found(day: date) -> tuple[StudyRef, ...]:
        asked = f"{day:%Y%m%d}"
        with answered():  # an archive may take no notice of a filter, and need not tell what was asked for
            studies = [
                _sighting(study).study
                for study in search_studies(
                    client, {"StudyDate": asked, "ModalitiesInStudy": modality}, (_MODALITIES_IN_STUDY, _STUDY_DATE)
                )
                if modality in (values_of(study, _MODALITIES_IN_STUDY) or (modality,))
                and asked in (values_of(study, _STUDY_DATE) or (asked,))
            ]
        return tuple(sorted(set(studies)))

    return found


def qido_feed(endpoint: Endpoint, *, days: int, today: Callable[[], date]) -> QidoFeed:
    """The feed of the DICOMweb server at *endpoint*."""
    return QidoFeed(web_client(endpoint), days, today)
