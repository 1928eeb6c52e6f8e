"""A record of the audit trail, and the chain of hashes that holds records together. Pure.

Each line is one JSON object: ``number``, ``previous`` (hash of the record before), ``record``, ``hash``: the SHA-256 of
the other three in canonical JSON (keys sorted, no spaces, ASCII). A record names people, patients and studies by
identifiers; it holds no name and no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from plugin.identity import sha256_hex

BEGINNING = "0" * 64
"""What stands for the hash before the first record."""


class Kind(StrEnum):
    """What happened."""

    READ = "read"
    CHANGE = "change"  # a decision, an order, a withdrawal
    LOGIN = "login"
    LOGOUT = "logout"
    REFUSED = "refused"
    EXPORT = "export"
    ERASE = "erase"
    TRAIL = "trail"  # about the trail itself: records that could not be kept


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that happened.

    Parameters
    ----------
    at : with a zone.
    what : route or command.
    ok : whether it succeeded.
    why : of a refusal or a failure, without patient data.
    who : identifier of the person or program; "" for nobody who has proven it.
    roles, patients : in order; patients as "Patient/<id>".
    address : of the client; "" for a command on this machine.
    """

    at: datetime
    kind: Kind
    what: str
    ok: bool = True
    why: str = ""
    who: str = ""
    roles: tuple[str, ...] = ()
    address: str = ""
    patients: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    report: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A record in its place in the chain."""

    number: int
    previous: str
    record: AuditRecord
    hash: str

    @property
    def line(self) -> str:
        """As it is kept, without the line's end."""
        return _canonical(_told(self.number, self.previous, self.record) | {"hash": self.hash})


def chained(records: Iterable[AuditRecord], *, after: tuple[int, str] = (0, BEGINNING)) -> Iterator[Link]:
    """*records* as links behind the one whose number and hash are *after*."""
    number, previous = after
    for record in records:
        number += 1
        own = sha256_hex(_canonical(_told(number, previous, record)).encode())
        yield Link(number, previous, record, own)
        previous = own


def link_of(line: str) -> Link:
    """The link of a line.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        told = json.loads(line)
        record = told["record"]
        lists = {name: tuple(record[name]) for name in ("roles", "patients", "studies")}
        moment, kind = datetime.fromisoformat(record["at"]), Kind(record["kind"])
        return Link(
            int(told["number"]),
            str(told["previous"]),
            AuditRecord(**(record | lists | {"at": moment, "kind": kind})),
            str(told["hash"]),
        )
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no record of the audit trail ({type(error).__name__})") from None


def problems(lines: Iterable[tuple[str, str]], *, head: str = "") -> Iterator[str]:
    """What is wrong with a trail: a record that was changed, taken out, put in, moved or cut off.

    Parameters
    ----------
    lines : (where it stands, line), from the first record on.
    head : hash of a record that is known to have been there; without it, an end that was cut off is not seen.
    """
    number, previous, met = 0, BEGINNING, False
    for where, line in lines:
        try:
            link = link_of(line)
        except ValueError as error:
            yield f"{where}: {error}"
            return
        if link.number != number + 1:
            yield f"{where}: record {link.number} stands where record {number + 1} is expected"
            return
        if link.previous != previous:
            yield f"{where}: record {link.number} does not follow the one before it"
            return
        if next(chained([link.record], after=(number, previous))).hash != link.hash or link.line != line:
            yield f"{where}: record {link.number} was changed"
            return
        number, previous = link.number, link.hash
        met = met or link.hash == head
    if head and not met:
        yield f"the known record {head[:16]}... is not there: the end was cut off after record {number}, or all is new"


def _told(number: int, previous: str, record: AuditRecord) -> dict[str, Any]:
    told = asdict(record) | {"at": record.at.astimezone(UTC).isoformat(timespec="microseconds")}
    return {"number": number, "previous": previous, "record": told}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))  # ASCII: requests bring halves of surrogates
