"""Sessions of browsers, and logins that are under way: kept here, while the browser holds a random word alone.

Of each word its hash is kept, so that whoever reads the file comes in with nothing. No token of the issuer is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plugin.access.caller import Caller, Proof, Role
from plugin.errors import TransientError

LOGIN_S: Final = 600.0
"""A login that takes longer has to begin again."""
MOST: Final = 20_000
"""Of each kind; the oldest go first."""
_NOTED_S: Final = 30.0
_SESSION, _LOGIN = "session", "login"
_SCHEMA: Final = """
create table if not exists kept (
    kind text not null, word text not null, content text not null, used real not null, ends real not null,
    primary key (kind, word)
) without rowid;
"""


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions in the SQLite file *path*; threads and processes of this machine share them.

    Parameters
    ----------
    idle_s : one that is not used for so long ends.
    longest_s : and every one after that.
    now : seconds since 1970.
    """

    path: Path
    idle_s: float = 1800.0
    longest_s: float = 43_200.0
    now: Callable[[], float] = time.time

    def open(self, caller: Caller) -> str:
        """A new session, and the word for its cookie."""
        content = {
            "id": caller.id,
            "roles": sorted(caller.roles),
            "patient": caller.patient,
            "scopes": caller.scopes,
            "study": caller.study,
            "user": caller.user,
        }
        return self._put(_SESSION, content, self.longest_s)

    def caller(self, word: str) -> Caller | None:
        """Whose session that is; None when it has ended, or never was."""
        with self._database() as database:
            found = self._found(database, _SESSION, word)
            if found is None:
                return None
            content, used = found
            if self.now() - used > _NOTED_S:
                database.execute("update kept set used = ? where kind = ? and word = ?", self._key(_SESSION, word))
        told = json.loads(content)
        roles, scopes = frozenset(map(Role, told.pop("roles"))), tuple(told.pop("scopes"))
        return Caller(roles=roles, scopes=scopes, proof=Proof.SESSION, **told)

    def close(self, word: str) -> None:
        """End it; one that has ended stays so."""
        with self._database() as database:
            database.execute("delete from kept where kind = ? and word = ?", (_SESSION, _hash(word)))

    def end_all(self) -> None:
        """End every session, and every login that is under way: nothing is kept of anybody."""
        with self._database() as database:
            database.execute("delete from kept")

    def begin_login(self, content: Mapping[str, Any]) -> str:
        """Keep what a login needs when the browser comes back, and the word (``state``) that it comes back with."""
        return self._put(_LOGIN, content, LOGIN_S)

    def take_login(self, word: str) -> Mapping[str, Any] | None:
        """What was kept, once; None when it was taken, is too old, or never was."""
        with self._database() as database:
            found = self._found(database, _LOGIN, word)
            database.execute("delete from kept where kind = ? and word = ?", (_LOGIN, _hash(word)))
        return None if found is None else dict(json.loads(found[0]))

    def _key(self, kind: str, word: str) -> tuple[float, str, str]:
        return self.now(), kind, _hash(word)

    def _put(self, kind: str, content: Mapping[str, Any], life_s: float) -> str:
        word, now = secrets.token_urlsafe(32), self.now()
        with self._database() as database:
            database.execute("delete from kept where ends <= ? or (kind = ? and used <= ?)", self._ended(now))
            database.execute(
                "delete from kept where kind = ? and word in "
                "(select word from kept where kind = ? order by used desc limit -1 offset ?)",
                (kind, kind, MOST - 1),
            )
            row = (kind, _hash(word), json.dumps(content), now, now + life_s)
            database.execute("insert into kept values (?, ?, ?, ?, ?)", row)
        return word

    def _found(self, database: sqlite3.Connection, kind: str, word: str) -> tuple[str, float] | None:
        asked = "select content, used from kept where kind = ? and word = ? and ends > ? and (kind != ? or used > ?)"
        now, session, idle = self._ended(self.now())
        row = database.execute(asked, (kind, _hash(word), now, session, idle)).fetchone()
        return None if row is None else (row[0], row[1])

    def _ended(self, now: float) -> tuple[float, str, float]:
        return now, _SESSION, now - self.idle_s

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                self.path.touch(mode=0o600)
            with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                database.execute("begin immediate")
                database.execute(_SCHEMA)
                yield database
        except (sqlite3.OperationalError, OSError) as error:
            raise TransientError(f"The sessions cannot be used ({type(error).__name__}); is the disk full?") from error


def _hash(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()
