"""Checks FHIR resources offline: against HL7's definitions (R4 and R5), our profiles, and IHE IMR's rules.

In a test::

    from fhir_check import checker

    assert checker().check(resource) == []             # HL7's definitions, and the profiles that it claims
    assert checker().written(bundle) == []             # the same, and our profiles: whatever Sightline writes
    assert checker("R5").written(selection) == []      # the form for an R5 server
    assert checker().multimedia(report, selections=[...], pages={url: content}) == []    # with IHE IMR's rules

Every fault is a line "path: what", with the profile and the clause that ask for it. As a program::

    PYTHONPATH=conformance python -m fhir_check [--written | --imr [--page PAGE]] [--r5] FILE ...
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache

from fhir_check import imr, lint
from fhir_check.bundles import entry_faults, reference_faults, unknown_extensions, unresolved
from fhir_check.checker import FORM, BaseChecker
from fhir_check.definitions import Json, definitions
from fhir_check.profiles import Profile, profiles

__all__ = ["Checker", "checker", "unresolved"]

# Our profile of each resource type that Sightline writes.
WRITTEN = {
    "R4": {
        "AuditEvent": "SightlineAuditEvent",
        "Basic": "SightlineImagingSelectionBasic",
        "Bundle": "SightlineTransaction",
        "Device": "SightlineDevice",
        "DiagnosticReport": "SightlineMultimediaReport",
        "DocumentReference": "SightlineDocumentReference",
        "Observation": "SightlinePhraseObservation",
        "Provenance": "SightlineProvenance",
        "Subscription": "SightlineSubscription",
    },
    "R5": {
        "AuditEvent": "SightlineAuditEventR5",
        "Bundle": "SightlineTransactionR5",
        "Device": "SightlineDeviceR5",
        "DocumentReference": "SightlineDocumentReferenceR5",
        "ImagingSelection": "SightlineImagingSelection",
        "Observation": "SightlinePhraseObservationR5",
        "Provenance": "SightlineProvenanceR5",
        "Subscription": "SightlineSubscriptionR5",
    },
}


class Checker(BaseChecker):
    """A checker of one FHIR release; see the module."""

    def __init__(self, release: str = "R4") -> None:
        super().__init__(definitions(release))
        self._release = release

    def check(self, resource: Json) -> list[str]:
        """What is wrong with *resource*, by its release's definitions and by the profiles that it claims."""
        faults = super().check(resource)
        if _is_malformed(faults):
            return faults
        faults += self._claimed(resource)
        if not faults and resource.get("resourceType") == "StructureDefinition":
            faults += lint.faults(resource, profiles())
        return faults

    def written(self, resource: Json, *, stored: Collection[str] = ()) -> list[str]:
        """What is wrong with a resource or transaction that Sightline wrote.

        *stored*: references ("Device/1") that need not be in the bundle, since the server has them.
        """
        kind = str(resource.get("resourceType"))
        if kind not in WRITTEN[self._release]:
            return [f"{kind}: Sightline has no profile of it in {self._release}"]
        faults = self.check(resource)
        if _is_malformed(faults):
            return faults
        faults += self.conforms(resource, profiles().named(WRITTEN[self._release][kind]))
        faults += unknown_extensions(resource, kind)
        if kind == "Bundle":
            faults += [*reference_faults(resource, stored=stored), *entry_faults(resource)]
        return faults

    def multimedia(
        self, resource: Json, *, selections: Collection[Json] = (), pages: Mapping[str, bytes] | None = None
    ) -> list[str]:
        """What is wrong with a multimedia report, alone or in its RAD-141 Bundle, IHE IMR's rules included.

        Parameters
        ----------
        selections : the ImagingSelection resources (R5) that its spans may name.
        pages : address -> content of each rendered report that is not inside.
        """
        name = "SightlineMultimediaReport" + ("Bundle" if resource.get("resourceType") == "Bundle" else "")
        faults = self.check(resource)
        if _is_malformed(faults):
            return faults
        if self._release == "R4":
            faults += self.conforms(resource, profiles().named(name))
        faults += unknown_extensions(resource, str(resource.get("resourceType")))
        if resource.get("resourceType") == "Bundle":
            faults += [*imr.bundle_faults(resource), *entry_faults(resource)]
        for report in imr.reports_in(resource):
            faults += imr.report_faults(report, selections=selections, pages=pages or {})
        for selection in selections:
            faults += checker("R5").written(selection)
        return faults

    def conforms(self, resource: Json, profile: Profile) -> list[str]:
        """What *resource* has against one profile, the base definition apart."""
        return list(profiles().faults(resource, profile, where=profile.type))

    def _coding(self, item: Json, *, where: str) -> Iterator[str]:
        yield from super()._coding(item, where=where)
        if profiles().has_code(str(item.get("system")), str(item.get("code"))) is False:
            yield f"{where}: {item.get('code')} is no code of ours"

    def _claimed(self, resource: Json) -> Iterator[str]:
        meta = resource.get("meta")
        for url in meta.get("profile", ()) if isinstance(meta, dict) else ():
            profile = profiles().get(str(url))
            if profile is not None and profile.release == self._release:
                yield from profiles().faults(resource, profile, where=profile.type)


def _is_malformed(faults: list[str]) -> bool:
    """Whether something has not the form of FHIR's JSON, so that no rule about content can be held to it."""
    return any(f": {FORM} " in line for line in faults)


@cache
def checker(release: str = "R4") -> Checker:
    """The checker of "R4" or "R5", made once."""
    return Checker(release)
