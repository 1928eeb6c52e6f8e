"""Who and what a synthetic study is about, the same in its images and its report. Nobody here is real."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from plugin.identity import derived_uid

_FAMILIES = ("Testperson", "Example", "Phantom", "Sample", "Fiction", "Placeholder")
_GIVEN = {"F": ("Ada", "Berta", "Clara", "Dora"), "M": ("Anton", "Bruno", "Carl", "Emil")}
_STREAM = 3


@dataclass(frozen=True, slots=True)
class TwinRecord:
    """The administrative side of a synthetic study; *taken* is in UTC and *sex* "F" or "M"."""

    study_instance_uid: str
    patient_id: str
    family: str
    given: str
    sex: str
    birth_year: int
    accession_number: str
    taken: datetime


def record_of(seed: int) -> TwinRecord:
    """The record of the study of *seed*."""
    rng = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    sex = "FM"[int(rng.integers(2))]
    first = datetime.fromisoformat("2024-01-02T07:30:00+00:00")
    return TwinRecord(
        study_instance_uid=derived_uid("twin study", str(seed)),
        patient_id=f"TWIN-{seed:04d}",
        family=_FAMILIES[int(rng.integers(len(_FAMILIES)))],
        given=_GIVEN[sex][int(rng.integers(4))],
        sex=sex,
        birth_year=int(rng.integers(1935, 2004)),
        accession_number=f"TWACC{seed:04d}",
        taken=first + timedelta(minutes=int(rng.integers(500 * 24 * 60))),
    )
