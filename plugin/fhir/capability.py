"""What a FHIR server says of itself in its CapabilityStatement, as far as Sightline goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from plugin.fhir.resource import Element

OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"


class Release(Enum):
    """The release of FHIR that a server speaks."""

    R4 = "R4"
    R5 = "R5"


@dataclass(frozen=True, slots=True)
class Capability:
    """What is known of a server.

    Parameters
    ----------
    release : what is written in; R4 where the server does not tell.
    note : why the release is a guess, for the doctor; "" when the server told it.
    update_create : resource type -> whether PUT may make a resource under an id of the client's; types that the server
        does not speak of are missing.
    token_url : the token endpoint, where the statement names one (SMART App Launch 1); "".
    """

    release: Release = Release.R4
    note: str = ""
    update_create: Mapping[str, bool] = field(default_factory=dict)
    token_url: str = ""

    def refuses_ids(self, *types: str) -> bool:
        """Whether the server says that it alone gives ids to resources of one of these types."""
        return any(self.update_create.get(each) is False for each in types)


def capability_of(statement: Element) -> Capability:
    """What *statement*, a CapabilityStatement, says."""
    release, note = _release(statement.string("fhirVersion"))
    update_create: dict[str, bool] = {}
    for rest in statement.children("rest"):
        for each in rest.children("resource"):
            if isinstance(allowed := each.json.get("updateCreate"), bool):
                update_create[each.string("type")] = allowed
    return Capability(release, note, update_create, _token_url(statement))


def unknown(why: str) -> Capability:
    """A server that has no CapabilityStatement, because *why*."""
    return Capability(note=f"its CapabilityStatement cannot be read ({why}), so it is taken for one of R4")


def _release(version: str) -> tuple[Release, str]:
    """R4B differs from R4 in nothing that is read or written here; what comes after R5 is closest to R5."""
    major = version.partition(".")[0]
    if major == "4":
        return Release.R4, ""
    if major == "5":
        return Release.R5, ""
    if major.isdecimal() and int(major) > 5:
        return Release.R5, "it speaks a release of FHIR after R5, and is taken for one of R5"
    told = "a release of FHIR before R4" if major.isdecimal() else "no release of FHIR that is known"
    return Release.R4, f"it tells {told}, and is taken for one of R4"


def _token_url(statement: Element) -> str:
    for rest in statement.children("rest"):
        for extension in rest.child("security").children("extension"):
            if extension.string("url") == OAUTH_URIS:
                urls = (part.string("valueUri") for part in extension.children("extension") if _is_token(part))
                return next(urls, "")
    return ""


def _is_token(part: Element) -> bool:
    return part.string("url") == "token"
