"""The book of radiologists' decisions, in the database of the jobs: rows are added, and never changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from model.values import Region, State
from plugin.durable.database import Database
from plugin.durable.tables import Tables
from plugin.ports import KeptDecision
from plugin.values import Person, RegionDecision, Ruling, StudyRef

# No words of reports, no names of patients: UIDs, outlines, who decided and why.
_CHANGES = (
    (
        """
CREATE TABLE {at}region_decisions (
    study TEXT NOT NULL,
    report_id TEXT NOT NULL,
    tracking_uid TEXT NOT NULL,
    image TEXT NOT NULL,
    number INTEGER NOT NULL,
    ruling TEXT NOT NULL,
    regions TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    who_id TEXT NOT NULL,
    made TEXT NOT NULL,
    seen TEXT NOT NULL,
    model TEXT NOT NULL,
    weights_sha256 TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (study, report_id, tracking_uid, image, number)
) {rowid}""",
        "CREATE INDEX region_decisions_without_job ON {at}region_decisions (made) WHERE job = ''",
    ),
)
_NAMES = (
    *("study", "report_id", "tracking_uid", "image", "number", "ruling", "regions", "state", "reason", "who"),
    *("who_id", "made", "seen", "model", "weights_sha256", "job"),
)
_KEY = _NAMES[:5]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM {{at}}region_decisions"  # noqa: S608 - constants of this module
_INSERT = (
    f"INSERT INTO {{at}}region_decisions ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)}) "  # noqa: S608
    f"ON CONFLICT ({', '.join(_KEY)}) DO NOTHING"
)
_THIS = " AND ".join(f"{name} = :{name}" for name in _KEY)


@dataclass(frozen=True, slots=True)
class DatabaseDecisionBook:
    """:class:`plugin.ports.DecisionBook` in *database*, shared by threads, processes and, on PostgreSQL, machines.

    Raises
    ------
    InputError
        If a later release made its table.
    TransientError
        From every method, if the database cannot be used now.
    """

    database: Database
    _tables: Tables = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tables = Tables(self.database, "region decisions", _CHANGES, "The book of decisions")
        object.__setattr__(self, "_tables", tables)

    def keep(self, kept: KeptDecision) -> bool:
        """Keep a decision, unless one of its number is there; whether it was kept."""
        with self._tables.transaction(durable=True) as transaction:
            return transaction.do(_INSERT, **_values(kept)).rowcount == 1

    def about(self, study: StudyRef, report_id: str) -> tuple[KeptDecision, ...]:
        """Every decision about that report and study, in the order they were made."""
        chosen = f"{_SELECT} WHERE study = :study AND report_id = :report_id ORDER BY made, number"
        with self._tables.transaction() as transaction:
            rows = transaction.do(chosen, study=study.study_instance_uid, report_id=report_id)
            return tuple(map(_kept, rows))

    def note_job(self, kept: KeptDecision, job_id: str) -> None:
        """That this job writes it back."""
        change = f"UPDATE {{at}}region_decisions SET job = :job WHERE {_THIS}"  # noqa: S608 - constants
        with self._tables.transaction(durable=True) as transaction:
            transaction.do(change, **dict(zip(_KEY, kept.key, strict=True)), job=job_id)

    def without_job(self, *, limit: int = 100) -> tuple[KeptDecision, ...]:
        """Decisions that no job was put for yet, the oldest first."""
        with self._tables.transaction() as transaction:
            return tuple(map(_kept, transaction.do(f"{_SELECT} WHERE job = '' ORDER BY made LIMIT :most", most=limit)))

    def every(self, *, after: KeptDecision | None = None, limit: int = 500) -> tuple[KeptDecision, ...]:
        """Decisions in the order of their keys, beyond *after*."""
        beyond = f"WHERE ({', '.join(_KEY)}) > ({', '.join(f':{name}' for name in _KEY)})" if after else ""
        key = dict(zip(_KEY, after.key, strict=True)) if after else {}
        with self._tables.transaction() as transaction:
            chosen = f"{_SELECT} {beyond} ORDER BY {', '.join(_KEY)} LIMIT :most"
            return tuple(map(_kept, transaction.do(chosen, **key, most=limit)))


def _values(kept: KeptDecision) -> dict[str, Any]:
    word = kept.decision
    regions = [{"outline": region.outline, "probability": region.probability} for region in word.regions]
    return dict(zip(_KEY, kept.key, strict=True)) | {
        "ruling": word.ruling.value,
        "regions": json.dumps(regions),
        "state": word.state.value,
        "reason": word.reason,
        "who": word.who.name,
        "who_id": word.who.identifier,
        # Fixed width, so that text order is time order.
        "made": word.made.astimezone(UTC).isoformat(timespec="microseconds"),
        "seen": word.seen,
        "model": word.model,
        "weights_sha256": word.weights_sha256,
        "job": kept.job,
    }


def _kept(row: sa.Row[Any]) -> KeptDecision:
    regions = tuple(
        Region(tuple((float(x), float(y)) for x, y in each["outline"]), float(each["probability"]))
        for each in json.loads(row.regions)
    )
    word = RegionDecision(
        tracking_uid=row.tracking_uid,
        sop_instance_uid=row.image,
        number=row.number,
        ruling=Ruling(row.ruling),
        regions=regions,
        state=State(row.state),
        reason=row.reason,
        who=Person(row.who, row.who_id),
        made=datetime.fromisoformat(row.made),
        seen=row.seen,
        model=row.model,
        weights_sha256=row.weights_sha256,
    )
    return KeptDecision(StudyRef(row.study), row.report_id, word, row.job)
