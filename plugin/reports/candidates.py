"""What both report stores decide alike: which reports are about a study, and in which order; what may be written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from plugin.errors import ConformanceError, InputError
from plugin.fhir.ours import is_ours
from plugin.fhir.reading import described, identity_of, ref_of, status_of
from plugin.fhir.resource import Element, Resources, is_fhir_id, parse
from plugin.matching import match
from plugin.ports import StudyIdentity
from plugin.values import ReportDescription, ReportRef


@dataclass(frozen=True, slots=True)
class Candidate:
    """A DiagnosticReport that may be about the study, with the resources to look up what it refers to."""

    report: Element
    resources: Resources


def is_about(candidate: Candidate, study: StudyIdentity) -> bool:
    """Whether the data alone say that the report is about *study*; what Sightline wrote itself is about none.

    Raises
    ------
    InputError
        If the report names the study, but another patient.
    """
    if is_ours(candidate.report):
        return False
    identity = identity_of(candidate.report, candidate.resources)
    try:
        return match(identity, study).proven
    except InputError:
        if study.study.study_instance_uid in identity.study_instance_uids:
            raise
        return False


def newest_first(candidates: Iterable[Candidate]) -> tuple[ReportRef, ...]:
    """The newest version of each report, later ones first; withdrawn ones only when there is no other."""
    newest: dict[str, Candidate] = {}
    for candidate in candidates:
        report_id = ref_of(candidate.report, candidate.resources).report_id
        if report_id not in newest or _age(candidate) > _age(newest[report_id]):
            newest[report_id] = candidate
    ranked = sorted(newest.values(), key=_age, reverse=True)
    current = [each for each in ranked if not status_of(each.report).withdrawn]
    return tuple(ref_of(each.report, each.resources) for each in current or ranked)


def newest_of(candidates: Iterable[Candidate], report_id: str) -> ReportDescription | None:
    """What the newest version of *report_id* among *candidates* says of itself, or None without one."""
    mine = [each for each in candidates if ref_of(each.report, each.resources).report_id == report_id]
    if not mine:
        return None
    newest = max(mine, key=_age)
    return described(newest.report, newest.resources)


def puts(bundle: str) -> tuple[Element, ...]:
    """The entries of a transaction Bundle, each a PUT of a resource to its own id.

    Raises
    ------
    ConformanceError
        If it is not a transaction Bundle, or has an entry that is no PUT of its own resource.
    """
    try:
        document = parse(bundle.encode())
    except InputError as error:
        raise ConformanceError(f"the bundle to write cannot be read: {error}") from None
    entries = document.children("entry")
    if document.type != "Bundle" or document.string("type") != "transaction" or not entries:
        raise ConformanceError("the bundle to write is not a transaction Bundle with entries")
    for entry in entries:
        request, resource = entry.child("request"), entry.child("resource")
        own = f"{resource.type}/{resource.id}"
        if request.string("method") != "PUT" or not resource.id or request.string("url") != own:
            raise ConformanceError("the bundle to write has an entry that is no PUT of its resource to its id")
    return entries


def _age(candidate: Candidate) -> tuple[str, int, str]:
    """Orders versions: FHIR instants compare as text well enough, then numbered versions, then the rest."""
    meta = candidate.report.child("meta")
    version = meta.string("versionId")
    return (
        meta.string("lastUpdated") or candidate.report.string("issued"),
        int(version) if is_fhir_id(version) and version.isdecimal() else 0,
        version,
    )
