"""HL7 v2 input for tests: one ORU^R01, with parts left out or changed."""

from __future__ import annotations

from fhir_input import STUDY_UID

MSH = r"MSH|^~\&|RIS|HOSPITAL|SIGHTLINE|RESEARCH|20260301100000+0100||ORU^R01^ORU_R01|MSG-1|P|2.5.1||||||UNICODE UTF-8"
PID = "PID|1||MRN-42^^^HOSPITAL&1.2.826.0.1.3680043.9&ISO^MR~N-1^^^NATIONAL^NI||Geheim^Anna||19500101|F"
ORC = "ORC|RE|PLACER-1|ACC-7|||||||||"
OBR = (
    "OBR|1|PLACER-1|ACC-7^RIS|36643-5^XR Chest 2 Views^LN|||20260301093000+0100|||||||||||ACC-7|||"
    "|20260301095900+0100||RAD|F"
)
OBX = (
    "OBX|1|TX|36643-5&GDT^XR Chest^LN||Small left pleural effusion.||||||F",
    "OBX|2|TX|36643-5&GDT^XR Chest^LN||No pneumothorax.  Größe 5 mm.||||||F",
    "OBX|3|TX|36643-5&IMP^XR Chest^LN||Effusion.||||||F",
)
ZDS = f"ZDS|{STUDY_UID}^RIS^Application^DICOM"
TEXT = "FINDINGS:\nSmall left pleural effusion.\nNo pneumothorax.  Größe 5 mm.\n\nIMPRESSION:\nEffusion."


def field(segment: str, number: int, value: str) -> str:
    """*segment* with another value in a field; of MSH, the separator itself is field 1."""
    parts = segment.split("|")
    at = number - 1 if parts[0] == "MSH" else number
    parts += [""] * (at + 1 - len(parts))
    parts[at] = value
    return "|".join(parts)


def oru(*segments: str, msh: str = MSH, pid: str = PID, encoding: str = "utf-8") -> bytes:
    """The message; the whole example when no segments are given that follow PID."""
    chosen = segments or (ORC, OBR, *OBX, ZDS)
    return "".join(f"{segment}\r" for segment in (msh, pid, *chosen)).encode(encoding)


def obx(text: str, *, kind: str = "TX", named: str = "36643-5", status: str = "F") -> str:
    """One observation."""
    return f"OBX|1|{kind}|{named}||{text}||||||{status}"
