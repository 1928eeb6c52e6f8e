"""The way to PostgreSQL under TLS, as libpq's parameters in the address tell it: who is on the other side is proven."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
import trustme
from servers import PostgresServer, run_postgresql

from plugin.durable import Database, DatabaseReportBook, DurableQueue
from plugin.errors import TransientError
from plugin.values import StudyRef


@dataclass(frozen=True)
class Site:
    """A server with a certificate of the site's authority, which lets in who shows one of the same."""

    server: PostgresServer
    folder: Path

    def address(self, **parameters: str) -> str:
        """Of a new database, with libpq's *parameters*; names of files are of the folder."""
        told = {name: str(self.folder / value) if name != "sslmode" else value for name, value in parameters.items()}
        name = self.server.address("postgres").rpartition("/")[2]
        return f"postgresql://sightline@localhost:{self.server.port}/{name}?{urlencode(told)}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("certificates")
    ours, another = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(folder / "ca.pem"))
    another.cert_pem.write_to_path(str(folder / "another.pem"))
    client = ours.issue_cert("sightline@hospital.example", common_name="sightline")
    client.private_key_pem.write_to_path(str(folder / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    (folder / "client.key").chmod(0o600)
    with run_postgresql() as server:
        own = ours.issue_cert("localhost")
        files = {"key.pem": own.private_key_pem, "certificate.pem": own.cert_chain_pems[0], "ca.pem": ours.cert_pem}
        for name, blob in files.items():
            path = server.folder / name
            blob.write_to_path(str(path))
            path.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(path, "postgres")
        with psycopg.connect(server.url, autocommit=True) as session:
            for name, file in {
                "ssl_key_file": "key.pem",
                "ssl_cert_file": "certificate.pem",
                "ssl_ca_file": "ca.pem",
            }.items():
                session.execute(f"ALTER SYSTEM SET {name} = '{server.folder / file}'")  # type: ignore[arg-type]
            session.execute("ALTER SYSTEM SET ssl = on")
        rules = server.folder / "data" / "pg_hba.conf"
        server.restart()
        rules.write_text("hostssl all all 0.0.0.0/0 cert\nhostssl all all ::0/0 cert\n")
        with psycopg.connect(server.url, autocommit=True) as session:
            session.execute("SELECT pg_reload_conf()")
        while still_open(server):
            time.sleep(0.05)
        yield Site(server, folder)


def still_open(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.url).close()
    except psycopg.OperationalError:
        return False
    return True


PROVEN = {"sslcert": "client.pem", "sslkey": "client.key"}


def test_jobs_and_reports_are_kept_under_tls_by_who_proves_who_they_are(site: Site) -> None:
    database = Database(site.address(sslmode="verify-full", sslrootcert="ca.pem", **PROVEN))
    queue, book = DurableQueue(database), DatabaseReportBook(database)

    queue.put("a", StudyRef("1.2.3"))
    with database.engine.connect() as connection:
        told = connection.exec_driver_sql("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()").one()
    queue_has, known = queue.get("a"), book.known()
    queue.close()

    assert (told.ssl, bool(told.client_dn)) == (True, True)
    assert queue_has is not None
    assert known == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"sslmode": "verify-full", "sslrootcert": "another.pem", **PROVEN},  # not the site's authority
        {"sslmode": "verify-full", "sslrootcert": "ca.pem"},  # no certificate of ours
        {"sslmode": "disable"},
    ],
)
def test_who_proves_nothing_is_not_spoken_to(site: Site, wrong: dict[str, str]) -> None:
    with pytest.raises(TransientError, match="job queue cannot be used now"):
        DurableQueue(Database(site.address(**wrong)))
