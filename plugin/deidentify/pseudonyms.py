"""What stands in the place of UIDs, ids and dates: the same for the same value and key, whatever it stands in."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from plugin.errors import InputError
from plugin.identity import derived_code, derived_id, derived_uid

STANDARD = "1.2.840.10008."
"""UIDs that DICOM itself gives: SOP classes, transfer syntaxes, coding schemes."""
LEAST_DAYS, MOST_DAYS = 364, 3650


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Stand-ins under a *key*.

    Parameters
    ----------
    key : secret; who has it can tell what stands for what, and exports with the same key fit together.
    """

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < 32:
            raise ValueError("the key has at least 32 characters")

    def uid(self, uid: str) -> str:
        """Another UID, unless DICOM gives it."""
        return uid if not uid or uid.startswith(STANDARD) else derived_uid("deidentified", self.key, uid)

    def name(self, kind: str, value: str) -> str:
        """Another id; "" stays so."""
        return derived_id("deidentified", self.key, kind, value) if value else ""

    def patient(self, patient_id: str) -> str:
        """Another Patient ID, short enough for every field."""
        return "P-" + derived_code("deidentified patient", self.key, patient_id)[:12].upper()

    def days(self, patient_id: str) -> int:
        """By how many days all dates of a patient move back: one to ten years, in weeks, so that weekdays stay."""
        weeks = (MOST_DAYS - LEAST_DAYS) // 7
        return -LEAST_DAYS - 7 * (int(derived_code("shift", self.key, patient_id), 16) % weeks)

    def moved(self, moment: datetime, patient_id: str) -> datetime:
        """*moment* as that patient's dates are moved."""
        return moment + timedelta(days=self.days(patient_id))


def key_in(file: Path | None) -> str:
    """The key that stands in *file*, made when it is not there; None: a new one that nobody keeps.

    Raises
    ------
    InputError
        If the file cannot be used, or its key is short.
    """
    if file is None:
        return secrets.token_hex(32)
    try:
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise InputError(f"the key file cannot be used ({type(error).__name__})") from error
    if len(key) < 32:
        raise InputError("the key in the file has fewer than 32 characters")
    return key
