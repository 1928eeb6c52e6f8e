"""Every UID and id that Sightline writes is derived from what it is about, so a re-run writes the same instances.

Name-based UUIDs (RFC 9562 version 5) under one namespace of our own; as DICOM UIDs in the 2.25 arc (PS3.5 B.2).
"""

from __future__ import annotations

import hashlib
import uuid

NAMESPACE = uuid.UUID("6f0ac5d2-6f5e-5b1e-9a39-2f8f3a1d7c11")


def _uuid(kind: str, parts: tuple[str, ...]) -> uuid.UUID:
    if not kind or not parts:
        raise ValueError("an identity needs a kind and at least one part")
    # Lengths make the encoding injective: ("ab", "c") and ("a", "bc") differ.
    return uuid.uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in (kind, *parts)))


def derived_uid(kind: str, *parts: str) -> str:
    """A DICOM UID (at most 64 characters, PS3.5 9.1) for the thing of this *kind* that *parts* name."""
    return f"2.25.{_uuid(kind, parts).int}"


def derived_id(kind: str, *parts: str) -> str:
    """A FHIR logical id (a UUID: 36 characters, never purely numeric) for the thing that *parts* name."""
    return str(_uuid(kind, parts))


def derived_code(kind: str, *parts: str) -> str:
    """A code of 16 hexadecimal digits (DICOM SH, PS3.5 6.2) for the thing that *parts* name."""
    return _uuid(kind, parts).hex[:16]


def sha256_hex(content: bytes) -> str:
    """Hex SHA-256 of *content*."""
    return hashlib.sha256(content).hexdigest()
