"""The real programs that acceptance tests run: found, started on free loopback ports, ended by their own process id."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx
import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / ".test-output"
DEBIAN = Path("/etc/debian_version")
NEEDS_PROGRAMS = "needs Debian packages: "
NEEDS_SHARED = "needs ../shared beside the checkout: "
ORTHANC_PLUGINS = tuple(f"/usr/share/orthanc/plugins/libOrthanc{name}.so" for name in ("DicomWeb", "Gdcm", "Python"))
SIGHTLINE = (sys.executable, "-c", "import sys; from plugin.cli import main; sys.exit(main())")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)

_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def program(name: str) -> str | None:
    """The path of a program (also from sbin, which ordinary users do not have on PATH), or None."""
    return shutil.which(name, path=_SYSTEM_PATH)


def require(*names: str) -> None:
    """Skip the test unless every program (or absolute file) is there; in CI on Debian a missing one is a failure."""
    missing = [name for name in names if not (Path(name).exists() if name.startswith("/") else program(name))]
    if not missing:
        return
    reason = f"{NEEDS_PROGRAMS}{', '.join(missing)} not found; run tests/install-debian-packages as root on Debian"
    if os.environ.get("CI") and DEBIAN.exists():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class OrthancServer:
    """A running Orthanc: where it is, and who may use it."""

    base_url: str
    dicomweb_url: str
    username: str
    password: str
    log: Path
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header of its one user."""
        token = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {token}"}

    def http(self) -> httpx.Client:
        """A client of its REST interface, signed in; close it."""
        return httpx.Client(base_url=self.base_url, headers=self.headers, timeout=60)

    def reset(self) -> None:
        """Delete every study."""
        with self.http() as http:
            for study in http.get("/studies").raise_for_status().json():
                http.delete(f"/studies/{study}").raise_for_status()


def orthanc_settings(storage: Path, port: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The project's own Orthanc configuration with *overrides* for a test on *port*; no script unless they name one."""
    settings = json.loads((ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
    settings |= {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "HttpPort": port,
        "RegisteredUsers": {"sightline": "sightline-test"},
        "StableAge": 1,
        "DicomWeb": settings["DicomWeb"] | {"Host": f"127.0.0.1:{port}"},
    }
    if "PythonScript" not in overrides:
        del settings["PythonScript"]
        settings["Plugins"] = [plugin for plugin in settings["Plugins"] if "Python" not in plugin]
    return settings | dict(overrides)


def _wait_until_ready(http: httpx.Client, path: str, *, process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if http.get(path).status_code == httpx.codes.OK:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    return False


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _not_ready(log: Path) -> NoReturn:
    tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    pytest.fail(f"It did not start; the end of {log}:\n{tail}", pytrace=False)


@contextmanager
def run_orthanc(
    storage: Path, *, overrides: Mapping[str, Any] | None = None, port: int | None = None, name: str = "orthanc"
) -> Iterator[OrthancServer]:
    """Debian's Orthanc on the project's configuration, until the block ends; the same *storage* may be used again.

    The Sightline script is loaded only when *overrides* name it as "PythonScript". The log stays in .test-output/.
    """
    require("Orthanc", *ORTHANC_PLUGINS)
    storage.mkdir(parents=True, exist_ok=True)
    OUTPUT.mkdir(exist_ok=True)
    log = OUTPUT / f"{name}.log"
    for attempt in range(3):
        used = port or free_port()
        settings = orthanc_settings(storage, used, overrides or {})
        base_url = f"http://127.0.0.1:{used}"
        (username, password), *_ = settings["RegisteredUsers"].items()
        configuration = storage.with_name(f"{storage.name}.json")
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        with log.open("ab" if attempt else "wb") as output:
            command = [str(program("Orthanc")), str(configuration)]
            process = subprocess.Popen(command, cwd=storage.parent, stdout=output, stderr=output)
        server = OrthancServer(base_url, f"{base_url}/dicom-web", username, password, log, process.pid)
        try:
            # Another process may take the free port in between: one more try on another port.
            with server.http() as http:
                ready = _wait_until_ready(http, "/system", process=process, timeout_s=120)
            if ready:
                yield server
                return
        finally:
            _end(process)
    _not_ready(log)


def sightline(*arguments: str) -> str:
    """Run a command of this checkout's ``sightline`` to its end; what it printed. The test fails when it fails."""
    answer = subprocess.run([*SIGHTLINE, *arguments], env=_environment(), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _environment() -> dict[str, str]:
    """The environment without settings of Sightline, and with this checkout before anything installed."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SIGHTLINE_")}
    return inherited | {"PYTHONPATH": str(ROOT)}


@dataclass
class Part:
    """A program of a site; :meth:`up` starts it, and starts it again when it died. What it says is added to *log*."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        self.log.parent.mkdir(exist_ok=True)
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        environment = _environment() | {"PYTHONPATH": path} | dict(self.environment)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=environment, stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self, timeout_s: float = 120) -> int:
        """As an operator ends it; its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=timeout_s)

    def __enter__(self) -> Part:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def run_sightline(
    folder: Path, *, port: int, settings: Mapping[str, str] | None = None, name: str = "sightline"
) -> Iterator[httpx.Client]:
    """``sightline serve`` on *port* until the block ends, with *settings* as SIGHTLINE_ variables; a client of it.

    It works in *folder*, which may be used again for a restart. The log stays in .test-output/.
    """
    folder.mkdir(parents=True, exist_ok=True)
    OUTPUT.mkdir(exist_ok=True)
    log = OUTPUT / f"{name}.log"
    environment = _environment() | {
        "SIGHTLINE_DATA_DIR": str(folder / "data"),
        "SIGHTLINE_PORT": str(port),
        **{f"SIGHTLINE_{key.upper()}": value for key, value in (settings or {}).items()},
    }
    with log.open("ab") as output:
        process = subprocess.Popen([*SIGHTLINE, "serve"], cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            if not _wait_until_ready(http, "/health/live", process=process, timeout_s=120):
                _not_ready(log)
            yield http
    finally:
        _end(process)


@dataclass(slots=True)
class PostgresServer:
    """A PostgreSQL of this test run; *url* is of a database that nobody uses."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    databases: int = 0

    @property
    def url(self) -> str:
        return self.address("postgres")

    def address(self, database: str) -> str:
        return f"postgresql://sightline@127.0.0.1:{self.port}/{database}"

    def database(self, template: str = "template1") -> str:
        """The address of a new database, made after *template*."""
        self.databases += 1
        name = f"test_{self.databases}"
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]
        return self.address(name)

    def restart(self) -> None:
        """As an operator does it who waits for nobody; every session ends."""
        self.end()
        self.process = _postgres(self.folder, self.port)

    def end(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=60)


def postgresql_program(name: str) -> str:
    """Debian keeps PostgreSQL's programs beside their version; the test is skipped where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else program(name)
    if path is None:
        require(name)
    return str(path)


@contextmanager
def run_postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL server of Debian's on a free loopback port with a new cluster, until the block ends."""
    owner = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="sightline-postgresql-"))
    if owner:
        shutil.chown(folder, "postgres")
    try:
        command = [postgresql_program("initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "sightline", "-N"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **owner)
        port = free_port()
        server = PostgresServer(port, folder, _postgres(folder, port))
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Started and answering. Nothing is forced to disk: the tests end processes, not machines."""
    OUTPUT.mkdir(exist_ok=True)
    command = [postgresql_program("postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    command += ["-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=300"]
    with (OUTPUT / "postgresql.log").open("ab") as log:
        owner = {"user": "postgres"} if os.geteuid() == 0 else {}
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **owner)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(f"postgresql://sightline@127.0.0.1:{port}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return process
    _not_ready(OUTPUT / "postgresql.log")


NPM = ROOT / "plugin" / "stack" / "npm"


@contextmanager
def run_fhir_server(name: str = "fhir-server") -> Iterator[str]:
    """Medplum's FHIR R4 engine in memory, until the block ends; yields its base URL. The log stays in .test-output/."""
    require("node", str(NPM / "node_modules"))
    OUTPUT.mkdir(exist_ok=True)
    log = OUTPUT / f"{name}.log"
    with log.open("wb") as errors:
        command = [str(program("node")), str(NPM / "fhir-server.cjs")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        # It prints one line, with the port it was given, when it is ready; nothing when it cannot start.
        said = process.stdout.readline() if process.stdout else ""
        if not said.startswith("listening "):
            _not_ready(log)
        yield f"http://127.0.0.1:{int(said.split()[1])}/fhir"
    finally:
        _end(process)
        if process.stdout:
            process.stdout.close()
