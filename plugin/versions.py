"""Which results of a study count: what new ones replace, and what a rejection note has to name. Pure.

The archive remembers: its own instances of a study are the record of what was written before, which a lost disk of the
service does not take along. See docs/adr/0009-the-archive-remembers-versions.md. A study can have several reports:
results of one never replace those of another; results that do not tell their report count as of any.
"""

from __future__ import annotations

from plugin.ports import StoredResult, report_code
from plugin.values import ImageRef

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"  # PS3.4 B.5


def of_report(stored: tuple[StoredResult, ...], report_id: str) -> tuple[StoredResult, ...]:
    """What counts for one report: its results, those that do not tell theirs, and every rejection note."""
    return tuple(result for result in stored if result.rejects or result.report in ("", report_code(report_id)))


def rejected(stored: tuple[StoredResult, ...]) -> frozenset[str]:
    """The SOP instance UIDs that rejection notes name."""
    return frozenset(uid for result in stored for uid in result.rejects)


def standing(stored: tuple[StoredResult, ...]) -> tuple[StoredResult, ...]:
    """The results that no rejection note names, without the notes."""
    gone = rejected(stored)
    return tuple(result for result in stored if not result.rejects and result.image.sop_instance_uid not in gone)


def superseded(stored: tuple[StoredResult, ...], *, by: frozenset[str]) -> tuple[StoredResult, ...]:
    """What stands besides the instances *by*, the SOP instance UIDs of the newest results: these go."""
    return tuple(result for result in standing(stored) if result.image.sop_instance_uid not in by)


def reports_before(stored: tuple[StoredResult, ...], report_uid: str) -> tuple[ImageRef, ...]:
    """The reports that the one of *report_uid* replaces; those that it names already when it is stored itself."""
    for result in stored:
        if result.image.sop_instance_uid == report_uid:
            return result.follows
    return tuple(result.image for result in standing(stored) if _is_report(result))


def series_before(stored: tuple[StoredResult, ...], segmentation_uid: str, image: ImageRef) -> tuple[str, ...]:
    """Likewise the series of the Segmentations of *image* that the one of *segmentation_uid* replaces."""
    for result in stored:
        if result.image.sop_instance_uid == segmentation_uid:
            return result.follows_series
    return tuple(
        result.image.series_instance_uid for result in standing(stored) if image.sop_instance_uid in result.source_uids
    )


def phrases_before(stored: tuple[StoredResult, ...], report_uid: str) -> tuple[str, ...]:
    """The tracking UIDs, in the order of the text, of the report version that the one of *report_uid* comes after.

    That is the one of this UID when it is stored itself, else the last one that stands, else the last one at all: a
    report that comes back has its phrases back.
    """
    reports = [result for result in stored if _is_report(result)]
    followed = {image.sop_instance_uid for result in reports for image in result.follows}
    gone = rejected(stored)

    def rank(result: StoredResult) -> tuple[bool, bool, bool, str]:
        uid = result.image.sop_instance_uid
        return uid == report_uid, uid not in gone, uid not in followed, uid

    return max(reports, key=rank).phrases if reports else ()


def phrases_ever(stored: tuple[StoredResult, ...]) -> frozenset[str]:
    """The tracking UIDs of every phrase that any version had."""
    return frozenset(uid for result in stored for uid in result.phrases)


def _is_report(result: StoredResult) -> bool:
    return result.image.sop_class_uid == COMPREHENSIVE_SR
