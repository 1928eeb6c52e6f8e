"""The book of radiologists' decisions, in a file and on PostgreSQL: kept once, in order, and never changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults import together

from model.values import Region, State
from plugin.durable import Database, DatabaseDecisionBook
from plugin.errors import TransientError
from plugin.ports import DecisionBook, KeptDecision
from plugin.values import Person, RegionDecision, Ruling, StudyRef

STUDY = StudyRef("1.2")
WORD = RegionDecision(
    tracking_uid="2.25.1",
    sop_instance_uid="1.2.3",
    number=1,
    ruling=Ruling.ACCEPTED,
    regions=(Region(((0.1, 0.2), (10.25, 0.2), (5.0, 1 / 3)), 0.7),),
    state=State.REGION_ONLY,
    reason="it's: {here}",
    who=Person("Dr. Ägidius", "https://issuer.example Practitioner/1"),
    made=datetime(2026, 3, 1, tzinfo=UTC),
    seen="tag",
    model="m 1",
    weights_sha256="ab",
)


@pytest.fixture
def book(database: Database) -> DecisionBook:
    return DatabaseDecisionBook(database)


def kept(number: int = 1, *, report: str = "r", study: StudyRef = STUDY, **changes: object) -> KeptDecision:
    later = WORD.made + timedelta(hours=number)
    return KeptDecision(study, report, replace(WORD, number=number, made=later, **changes))  # type: ignore[arg-type]


def test_a_decision_is_read_as_it_was_kept_also_by_another_process(book: DecisionBook, database: Database) -> None:
    assert book.about(STUDY, "r") == ()
    assert book.keep(kept(2))
    assert book.keep(kept(1))
    assert book.keep(kept(1, report="other"))

    assert DatabaseDecisionBook(database).about(STUDY, "r") == (kept(1), kept(2))


def test_of_two_who_decide_at_once_one_is_kept(book: DecisionBook) -> None:
    words = [kept(1, reason=str(number)) for number in range(8)]

    told = together(8, lambda number: book.keep(words[number]))

    assert sorted(told) == [False] * 7 + [True]
    assert book.about(STUDY, "r") == (words[told.index(True)],)


def test_decisions_without_a_job_are_told_until_one_was_put(book: DecisionBook) -> None:
    for number in (2, 1):
        book.keep(kept(number))

    assert book.without_job() == (kept(1), kept(2))
    book.note_job(kept(1), "job")
    assert book.without_job() == (kept(2),)
    assert book.about(STUDY, "r")[0].job == "job"


def test_every_decision_is_read_page_by_page(book: DecisionBook) -> None:
    told = [kept(number, study=StudyRef(f"1.{study}")) for study in (1, 2, 3) for number in (1, 2)]
    for each in reversed(told):
        book.keep(each)

    read: list[KeptDecision] = []
    while page := book.every(after=read[-1] if read else None, limit=4):
        read += page

    assert read == told


def test_a_database_that_is_away_is_said_without_its_values(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    database = Database(f"sqlite:///{tmp_path}/data/jobs.sqlite")
    book = DatabaseDecisionBook(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE region_decisions")

    with pytest.raises(TransientError, match="The book of decisions cannot be used now") as told:
        book.keep(kept(1))
    assert "here" not in str(told.value)
    database.close()
