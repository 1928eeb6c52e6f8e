"""Where pages are, below the root of the service."""

from __future__ import annotations

from urllib.parse import quote

from plugin.values import StudyRef


def page_path(study: StudyRef, report_id: str) -> str:
    """The evidence page of a study and a report."""
    return f"/studies/{study.study_instance_uid}/reports/{quote(report_id, safe='')}/page"


def phrase_path(study: StudyRef, report_id: str, number: int) -> str:
    """The same, opened with a phrase lit; *number* is the phrase's place among those of the evidence, from 0."""
    return f"{page_path(study, report_id)}#phrase-{number}"
