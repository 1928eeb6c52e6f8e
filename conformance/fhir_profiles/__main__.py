"""Writes the files anew."""

from __future__ import annotations

from fhir_profiles import FOLDER, INDEX, artefacts, as_text
from fhir_profiles.index import index

FOLDER.mkdir(parents=True, exist_ok=True)
for stale in FOLDER.glob("*.json"):
    stale.unlink()
for name, resource in artefacts().items():
    (FOLDER / name).write_text(as_text(resource), encoding="utf-8")
INDEX.write_text(index(artefacts().values()), encoding="utf-8")
