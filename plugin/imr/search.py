"""FHIR searches over what is in memory (R4 search.html): parameters as a table, and what a query asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from plugin.imr.dates import Interval, date_test
from plugin.imr.refusal import RefusalError, bad_request

T = TypeVar("T")
Kind = Literal["token", "date", "reference"]
MOST = 100
USUAL = 20
_SUMMARIES = ("true", "text", "data", "count", "false")
# Asked for by many clients; all answers are JSON as they are.
_IGNORED = ("_format", "_pretty")


@dataclass(frozen=True, slots=True)
class Token:
    """A code or an identifier of a resource."""

    code: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource refers to: under these *names* ("Patient/1", "http://host/Patient/1"), by these identifiers."""

    names: tuple[str, ...]
    identifiers: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """A search parameter.

    Parameters
    ----------
    name : as FHIR has it; *aliases* are other spellings that IMR uses.
    values : what a resource has there: Tokens, Intervals or Targets, by *kind*.
    types : of a reference, the resource types it may lead to.
    """

    name: str
    kind: Kind
    values: Callable[[T], Iterable[Token | Interval | Target]]
    aliases: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


Criterion = Callable[[T], bool]


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """What is asked for.

    Parameters
    ----------
    criteria : all of them hold for a hit.
    asked : the criteria as they were sent, for links to further pages.
    sort : (name, whether the greatest comes first).
    ignored : parameters that are not known, when the sender allows that.
    """

    criteria: tuple[Criterion[T], ...] = ()
    asked: tuple[tuple[str, str], ...] = ()
    sort: tuple[tuple[str, bool], ...] = ()
    count: int = USUAL
    offset: int = 0
    summary: str = "false"
    include: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=())


def query_of(
    pairs: Sequence[tuple[str, str]],
    parameters: Sequence[Parameter[T]],
    *,
    sorts: Sequence[str],
    includes: Sequence[str] = (),
    lenient: bool = False,
) -> Query[T]:
    """The query that *pairs* of names and values are.

    Parameters
    ----------
    lenient : pass over parameters that are not known (``Prefer: handling=lenient``).

    Raises
    ------
    RefusalError
        If a parameter is not known, or its value cannot be; names it only when it is one of ours.
    """
    known = {name: each for each in parameters for name in (each.name, *each.aliases)}
    given: dict[str, str] = {}
    criteria, asked, ignored, wanted = [], [], [], []
    for name, value in pairs:
        base, _, modifier = (name, "", "") if name in known else name.partition(":")
        if name in ("_count", "_offset", "_sort", "_summary"):
            given[name] = value
        elif name == "_include":
            wanted.append(_one_of(value, includes, "_include"))
        elif base in known:
            criteria.append(criterion(known[base], modifier, value))
            asked.append((name, value))
        elif name not in _IGNORED:
            ignored.append(name)
    if ignored and not lenient:
        raise RefusalError(
            400, "not-supported", "A search parameter is not known here; /fhir/metadata lists those that are."
        )
    return Query(
        criteria=tuple(criteria),
        asked=tuple(asked),
        sort=tuple(_sort(part, sorts) for part in given.get("_sort", "").split(",") if part),
        count=min(_number(given, "_count", USUAL), MOST),
        offset=_number(given, "_offset", 0),
        summary=_one_of(given.get("_summary", "false"), _SUMMARIES, "_summary"),
        include=tuple(dict.fromkeys(wanted)),
        ignored=tuple(ignored),
    )


def criterion(parameter: Parameter[T], modifier: str, value: str) -> Criterion[T]:
    """Whether a resource has one of the values, with commas between, that *parameter* is asked for.

    Raises
    ------
    RefusalError
        If the modifier does not fit, or a value cannot be.
    """
    if not value:
        raise bad_request(f"{parameter.name} has no value.")
    tests = [_test(parameter, modifier, each) for each in split(value, ",")]
    negated = modifier == "not"

    def holds(resource: T) -> bool:
        values = tuple(parameter.values(resource))
        return negated != any(test(each) for test in tests for each in values)

    return holds


def _test(parameter: Parameter[T], modifier: str, value: str) -> Callable[[Token | Interval | Target], bool]:
    if parameter.kind == "token" and modifier in ("", "not"):
        return _token_test(value)
    if parameter.kind == "date" and not modifier:
        test = date_test(value)
        if test is None:
            raise bad_request(f"{parameter.name} is not asked for a date.")
        return lambda has: isinstance(has, Interval) and test(has)
    if parameter.kind == "reference" and modifier == "identifier":
        same = _token_test(value)
        return lambda has: isinstance(has, Target) and any(map(same, has.identifiers))
    if parameter.kind == "reference" and modifier in ("", *parameter.types):
        return _reference_test(value, (modifier,) if modifier else parameter.types)
    raise RefusalError(400, "not-supported", f"{parameter.name} has no such modifier here.")


def _token_test(value: str) -> Callable[[Token | Interval | Target], bool]:
    """``code``, ``system|code``, ``|code`` (without a system) or ``system|``."""
    system, *rest = (unescaped(part) for part in split(value, "|"))
    if not rest:
        return lambda has: isinstance(has, Token) and has.code == system
    code = "|".join(rest)
    return lambda has: isinstance(has, Token) and has.system == system and code in ("", has.code)


def _reference_test(value: str, types: tuple[str, ...]) -> Callable[[Token | Interval | Target], bool]:
    wanted = unescaped(value)
    names = {wanted} if "/" in wanted else {f"{each}/{wanted}" for each in types}
    return lambda has: isinstance(has, Target) and bool(names & set(has.names))


def split(value: str, separator: str) -> list[str]:
    """*value* at its separators, but not at those after a backslash (R4 search.html#escaping)."""
    parts, current, escaped = [], "", False
    for character in value:
        if character == separator and not escaped:
            parts.append(current)
            current = ""
        else:
            current += character
        escaped = character == "\\" and not escaped
    return [*parts, current]


def unescaped(value: str) -> str:
    """*value* without the backslashes that protect ``\\ , | $``."""
    return re.sub(r"\\([\\,|$])", r"\1", value)


def _number(given: dict[str, str], name: str, usual: int) -> int:
    value = given.get(name, str(usual))
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise bad_request(f"{name} is not a number.")
    return int(value)


def _one_of(value: str, allowed: Sequence[str], name: str) -> str:
    if value not in allowed:
        raise RefusalError(400, "not-supported", f"{name} is not asked for what is known here: {', '.join(allowed)}.")
    return value


def _sort(part: str, allowed: Sequence[str]) -> tuple[str, bool]:
    return _one_of(part.removeprefix("-"), allowed, "_sort"), part.startswith("-")
