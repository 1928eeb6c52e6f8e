"""The profiles of what Sightline writes, as StructureDefinitions: the rules in one place, the files made from them.

    make fhir     # writes conformance/fhir/profiles and their index

Written in Python, not in FHIR Shorthand: its compiler wants Node and the core packages from a registry and makes no
snapshots either. Differentials only: tools that need a snapshot (HAPI, the IG publisher) make it themselves, and
``fhir_check`` reads the differential. ``requirements`` tells why an element is constrained, and the clause if one
asks for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from fhir_profiles import multimedia, release5, results, waking
from fhir_profiles.codes import CODE_SYSTEM, VALUE_SETS
from fhir_profiles.definition import Json

FOLDER = Path(__file__).parents[1] / "fhir" / "profiles"
INDEX = FOLDER.with_name("README.md")


def artefacts() -> dict[str, Json]:
    """File name -> resource."""
    made = (CODE_SYSTEM, *VALUE_SETS, *results.PROFILES, *release5.PROFILES, *multimedia.PROFILES, *waking.PROFILES)
    return {f"{each['resourceType']}-{each['id']}.json": each for each in made}


def as_text(resource: Json) -> str:
    """*resource* as its file holds it."""
    return json.dumps(resource, ensure_ascii=False, indent=1) + "\n"
