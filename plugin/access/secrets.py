"""Tokens of programs: long random words that the site gave out, of which only the hashes are kept here."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from plugin.access.caller import Caller, Proof, Role

PREFIX: Final = "slt_"
SHORTEST: Final = 40
_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]{0,63}) (?P<role>service|operator) (?P<hash>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class KnownProgram:
    """A program, by the SHA-256 of its token; whoever reads that cannot come in with it."""

    name: str
    role: Role
    sha256: str = field(repr=False)


def known_programs(text: str) -> tuple[KnownProgram, ...]:
    """What the lines ``name role sha256`` say; empty lines and those that begin with # say nothing.

    Raises
    ------
    ValueError
        If a line is of another form, or a name or token stands twice; it names the line, and quotes none.
    """
    found: list[KnownProgram] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise ValueError(
                f"line {number} is not `name role sha256`, role being service or operator; `sightline keys token` "
                "makes such a line"
            )
        found.append(KnownProgram(parts["name"], Role(parts["role"]), parts["hash"]))
    if len({each.name for each in found}) < len(found) or len({each.sha256 for each in found}) < len(found):
        raise ValueError("a name, or a token, stands twice")
    return tuple(found)


def program_of(token: str, known: tuple[KnownProgram, ...]) -> Caller | None:
    """The program whose token that is; None: nobody's. It takes as long for each."""
    if not token.startswith(PREFIX) or len(token) < SHORTEST:
        return None
    told = hashlib.sha256(token.encode()).hexdigest()
    matching = [each for each in known if hmac.compare_digest(each.sha256, told)]
    return Caller(f"program|{matching[0].name}", frozenset({matching[0].role}), Proof.SECRET) if matching else None


def new_token(name: str, role: Role) -> tuple[str, str]:
    """A new token, and the line that makes it known.

    Raises
    ------
    ValueError
        If the name cannot be one.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {role} {hashlib.sha256(token.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise ValueError("a name has lower-case letters, digits, dots and hyphens, at most 64")
    return token, line
