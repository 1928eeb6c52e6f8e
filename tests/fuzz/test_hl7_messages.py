"""Mutated HL7 v2 messages: each has its acknowledgment, and none meets a defect."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from fuzzing import Random, cases, flipped, fuzz, nasty_text
from hl7_input import OBR, OBX, ORC, PID, ZDS, oru

from plugin.hl7v2.inbox import Inbox
from plugin.hl7v2.receiver import Receiver
from plugin.hl7v2.reports import ACCESSION_FIELDS


def mutated(random: Random) -> bytes:
    segments = oru().decode().rstrip("\r").split("\r")
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(segments))
        fields = segments[at].split("|")
        match random.randrange(6):
            case 0 | 1:
                fields[random.randrange(len(fields))] = nasty_text(random)
                segments[at] = "|".join(fields)
            case 2:
                segments[at : at + 1] = [segments[at]] * random.choice((0, 2, 50))
                segments = segments or [PID]
            case 3:
                segments[at] = segments[at].replace("^", random.choice("~&^|\\\r"), random.randint(1, 4))
            case 4:
                segments[at] += random.choice(
                    ("|" * 3000, "^" * 3000, "~" * 3000, r"\X0D\\.br\\E\\Xzz\\H\ "[:-1], "\\")
                )
            case 5:
                segments.insert(
                    at, random.choice((ORC, OBR, *OBX, ZDS, "ZZZ|1", "", "OBX|1|ED|x||^AP^^Base64^JVBERi0="))
                )
    content = "\r".join(segments).encode(random.choice(("utf-8", "latin-1", "utf-16")), "replace")
    return flipped(content, random) if random.random() < 0.3 else content


@pytest.mark.filterwarnings("error")
def test_a_mutated_message_is_acknowledged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    receiver = Receiver(Inbox(tmp_path), otherwise="windows-1252", accession_fields=tuple(ACCESSION_FIELDS[:1]))

    def case(random: Random) -> bool:
        answer = receiver(mutated(random))
        assert answer.startswith(b"MSH")
        kinds = {line.split(b"|")[1] for line in answer.split(b"\r") if line.startswith(b"MSA")}
        assert kinds <= {b"AA", b"AR"}, caplog.text
        assert not caplog.records
        return kinds == {b"AA"}

    fuzz("HL7 messages", cases(150), case)

    for file in tmp_path.rglob("*.json"):
        assert json.loads(file.read_bytes())["resourceType"] == "Bundle"
