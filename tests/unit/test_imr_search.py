"""Searches as FHIR describes them: dates of limited precision, tokens, references, escapes, result parameters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from plugin.imr.dates import Interval, date_test, interval
from plugin.imr.refusal import RefusalError
from plugin.imr.search import Parameter, Query, Target, Token, query_of

NOON = "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("2026-12", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("2026-02-28", "2026-02-28T00:00", "2026-03-01T00:00"),
        ("2026-03-01T12:30", "2026-03-01T12:30", "2026-03-01T12:31"),
        ("2026-03-01T12:30:15+01:00", "2026-03-01T11:30:15", "2026-03-01T11:30:16"),
        ("2026-03-01T12:30:15.250Z", "2026-03-01T12:30:15.250", "2026-03-01T12:30:15.251"),
    ],
)
def test_a_date_means_an_interval_as_long_as_its_precision(text: str, start: str, end: str) -> None:
    ends = (datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (start, end))

    assert interval(text) == Interval(*ends)


@pytest.mark.parametrize("text", ["", "today", "2026-13", "2026-02-30", "26-01-01", "2026-03-01T25:00", "9999", "0000"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert interval(text) is None
    assert date_test(f"ge{text}") is None


@pytest.mark.parametrize(  # R4 search.html#prefix
    ("wanted", "found"),
    [
        ("2026-03-01", True),
        ("eq2026-03", True),
        ("2026-03-02", False),
        ("ne2026-03-01", False),
        ("ne2026-03-02", True),
        ("gt2026-02-28", True),
        ("gt2026-03-01", False),
        ("ge2026-03-01", True),
        ("lt2026-03-02", True),
        ("lt2026-03-01T12:00:00Z", False),
        ("le2026-03-01T12:00:00Z", True),
        ("sa2026-02-28", True),
        ("sa2026-03-01", False),
        ("eb2026-03-02", True),
        ("eb2026-03-01", False),
        ("ap2026-03", True),
        ("ge2026-03-01T13:00:00 01:00", True),
    ],
)
def test_dates_are_compared_by_prefix(wanted: str, found: bool) -> None:
    test, has = date_test(wanted), interval(NOON)

    assert test is not None
    assert has is not None
    assert test(has) is found


Thing = dict[str, list[Token | Interval | Target]]
PARAMETERS: tuple[Parameter[Thing], ...] = (
    Parameter("code", "token", lambda thing: thing.get("code", ()), ("Code",)),
    Parameter("when", "date", lambda thing: thing.get("when", ())),
    Parameter("who", "reference", lambda thing: thing.get("who", ()), (), ("Patient", "Group")),
)
THING: Thing = {
    "code": [Token("a,b", "http://x"), Token("c")],
    "who": [Target(("Patient/1", "http://host/fhir/Patient/1"), (Token("MRN|1", "urn:y"),))],
}


def asked(*pairs: tuple[str, str], lenient: bool = False) -> Query[Thing]:
    return query_of(pairs, PARAMETERS, sorts=("when",), includes=("Thing:who",), lenient=lenient)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("code", "c", True),
        ("Code", "c", True),
        ("code", "d", False),
        ("code", "d,c", True),
        ("code", "a,b", False),
        ("code", "a\\,b", True),
        ("code", "http://x|a\\,b", True),
        ("code", "http://y|a\\,b", False),
        ("code", "|c", True),
        ("code", "|a\\,b", False),
        ("code", "http://x|", True),
        ("code:not", "c", False),
        ("code:not", "d", True),
        ("who", "1", True),
        ("who", "Patient/1", True),
        ("who", "http://host/fhir/Patient/1", True),
        ("who", "http://other/fhir/Patient/1", False),
        ("who:Patient", "1", True),
        ("who:Group", "1", False),
        ("who:identifier", "urn:y|MRN\\|1", True),
        ("who:identifier", "MRN", False),
        ("when", "2026", False),
    ],
)
def test_a_criterion_holds_for_one_of_its_values(name: str, value: str, found: bool) -> None:
    (holds,) = asked((name, value)).criteria

    assert holds(THING) is found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code", ""),
        ("when", "soon"),
        ("when:missing", "true"),
        ("code:text", "c"),
        ("who:Device", "1"),
        ("secret", "1"),
        ("_count", "many"),
        ("_count", "-1"),
        ("_offset", "1.5"),
        ("_sort", "code"),
        ("_summary", "all"),
        ("_include", "Thing:code"),
        ("_revinclude", "Thing:who"),
    ],
)
def test_what_cannot_be_understood_is_refused_without_being_repeated(name: str, value: str) -> None:
    with pytest.raises(RefusalError) as refused:
        asked((name, value))

    assert refused.value.status == 400
    assert not {"secret", "soon", "Device", "many"} & set(refused.value.text.split())


def test_unknown_parameters_are_passed_over_when_the_sender_allows_it() -> None:
    query = asked(("secret", "1"), ("code", "c"), lenient=True)

    assert (query.ignored, query.asked) == (("secret",), (("code", "c"),))


def test_result_parameters_are_read_and_limited() -> None:
    query = asked(("_count", "5000"), ("_offset", "3"), ("_sort", "-when"), ("_include", "Thing:who"), ("_format", "x"))

    assert (query.count, query.offset, query.sort, query.include) == (100, 3, (("when", True),), ("Thing:who",))
    assert asked().count == 20
