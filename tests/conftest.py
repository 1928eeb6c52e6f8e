"""Fixtures for every test: the development data, a real Orthanc, a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec.config
import hypothesis
import pytest
import servers
import stores
from servers import NEEDS_PROGRAMS, NEEDS_SHARED, OrthancServer, PostgresServer
from stores import Bucket

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from plugin.durable import Database


# No deadline, since cores are shared; the same examples each time, so that red means that something changed.
hypothesis.settings.register_profile("sightline", deadline=None, derandomize=True)
hypothesis.settings.load_profile("sightline")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the checkout; nothing of it belongs to the project."""
    folder = servers.ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{NEEDS_SHARED}development data, which is not part of the project")
    return folder


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """``require("dciodvfy", "/usr/share/java/pixelmed.jar")``: skip with one reason, or fail in CI on Debian."""
    return servers.require


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    """One real Orthanc for the session, without the Sightline script; call ``orthanc.reset()`` first."""
    with servers.run_orthanc(tmp_path_factory.mktemp("orthanc") / "storage") as server:
        yield server


@pytest.fixture(scope="session")
def fhir_server() -> Iterator[str]:
    """The base URL of one real FHIR R4 server for the session; it keeps what tests put, so use ids of your own."""
    with servers.run_fhir_server() as base_url:
        yield base_url


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """One real PostgreSQL for the session; make databases of your own in it."""
    with servers.run_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The database of a site, as a file and on a server."""
    from plugin.durable import Database

    url = f"sqlite:///{tmp_path}/data/jobs.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").database()
    database = Database(url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Bucket]:
    """One real S3 server for the session; use the fixture ``bucket``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with stores.run_bucket() as bucket:
            yield bucket


@pytest.fixture
def bucket(s3_server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket that ``s3://`` addresses reach through fsspec, by settings alone; put keys of your own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": s3_server.endpoint})
    return s3_server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One headless Chromium for the tests of a file; open a new context in each test and close it.

    Playwright's synchronous interface keeps an event loop in this thread: run asyncio code of the same test in another.
    It ends with the file, since jobs, like much else, are not worked on inside somebody's event loop.
    """
    servers.require("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=servers.program("chromium"), args=list(servers.CHROMIUM_FLAGS)
        )
        yield browser
        browser.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that names what was skipped for want of a program, and the way to enable it."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NEEDS_PROGRAMS in str(report.longrepr)]
    if not skipped:
        return
    files = ", ".join(sorted({report.nodeid.partition("::")[0] for report in skipped}))
    terminalreporter.write_line(
        f"Skipped for want of programs: {files}. Run tests/install-debian-packages as root on Debian 12."
    )
