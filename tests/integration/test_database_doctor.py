"""What the doctor finds at the database of jobs, on PostgreSQL and in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import PostgresServer, free_port, run_postgresql

from plugin import wiring
from plugin.doctor import Finding
from plugin.doctor import database as check
from plugin.durable import Database, DatabaseState
from plugin.settings import Settings


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresServer]:
    with run_postgresql() as server:
        yield server


def found_at(url: str) -> Finding:
    return check(Settings(database_url=url))  # type: ignore[arg-type]


def test_a_server_is_named_with_the_state_of_its_tables(postgresql: PostgresServer) -> None:
    url = postgresql.database()
    before = found_at(url)
    database = Database(url)
    database.prepare()
    after = found_at(url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sightline.dbos_migrations SET version = 9999")
    later = found_at(url)
    database.close()

    assert before.ok
    assert before.detail.startswith("PostgreSQL 1")
    assert before.detail.endswith("the tables will be those of this release")
    assert after.ok
    assert after.detail.endswith("the tables are those of this release")
    assert not later.ok
    assert "a later release made its tables (9999" in later.detail


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    found = found_at(f"postgresql://sightline:open-sesame@127.0.0.1:{free_port()}/jobs")

    assert not found.ok
    assert "cannot be used now" in found.detail
    assert "SIGHTLINE_DATABASE_URL" in found.mend
    assert "open-sesame" not in str(found)


def test_a_file_is_looked_at_without_being_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    before = check(settings)
    made = settings.data_dir.exists()
    wiring.make_database(settings).prepare()
    after = check(settings)

    assert not made
    assert before.ok
    assert "SQLite" in before.detail
    assert before.detail.endswith("will be those of this release")
    assert after.detail.endswith("are those of this release")


@pytest.mark.parametrize("ahead_s", [90.0, -90.0])
def test_a_clock_that_is_not_ours_is_told(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    monkeypatch.setattr(wiring, "look_at_database", lambda _: DatabaseState("PostgreSQL 15.1", 3, 3, ahead_s))

    found = check(Settings())

    assert not found.ok
    assert f"{ahead_s:+.0f} s" in found.detail
    assert "NTP" in found.mend


def test_the_clock_of_a_server_is_compared_with_ours(
    monkeypatch: pytest.MonkeyPatch, postgresql: PostgresServer
) -> None:
    url = postgresql.database()
    right = found_at(url)
    ours = time.time
    monkeypatch.setattr(time, "time", lambda: ours() - 3600)

    found = found_at(url)

    assert right.ok
    assert "its clock is +3600 s" in found.detail
