"""Writes the files anew."""

from __future__ import annotations

from fhir_profiles import FOLDER, artefacts, as_text

FOLDER.mkdir(parents=True, exist_ok=True)
for stale in FOLDER.glob("*.json"):
    stale.unlink()
for name, resource in artefacts().items():
    (FOLDER / name).write_text(as_text(resource), encoding="utf-8")
