"""Radiologists' decisions as training data, without whom they are about: a :class:`plugin.exporting.Disguise`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from plugin.deidentify.burnt_in import suspicions
from plugin.deidentify.dicom import known_words
from plugin.deidentify.pseudonyms import Pseudonyms
from plugin.deidentify.text import cleaned
from plugin.dicom.header import read_part10, text
from plugin.values import Radiograph


@dataclass(frozen=True, slots=True)
class WithoutIdentity:
    """Pseudonyms for patients and images, moved times, cleaned words; images that may hold writing are left out."""

    pseudonyms: Pseudonyms

    def name(self, sop_instance_uid: str) -> str:
        """Another UID."""
        return self.pseudonyms.uid(sop_instance_uid)

    def refusal(self, radiograph: Radiograph) -> str:
        """Why writing may be burnt into the image, or ""."""
        found = suspicions(read_part10(radiograph.header, header_only=True), radiograph.pixels)
        return "; ".join(found)

    def line(self, line: dict[str, Any], radiograph: Radiograph) -> dict[str, Any]:
        """*line* with what stands for the patient, the time, and the words of report and person."""
        header = read_part10(radiograph.header, header_only=True)
        patient, known = text(header, "PatientID"), tuple(known_words(header))
        days = self.pseudonyms.days(patient)
        words = {name: cleaned(line[name], known=known, days=days).text for name in ("phrase", "reason")}
        made = self.pseudonyms.moved(datetime.fromisoformat(line["made"]), patient)
        return line | words | {"patient": self.pseudonyms.patient(patient), "made": made.isoformat()}
