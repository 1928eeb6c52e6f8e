"""Nothing that a server, a file or a report says makes Sightline ask another server; and no answer fills the memory."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from builders import STUDY, chest
from fhir_input import as_bytes, bundle
from traps import Trap, run_trap

import plugin
from plugin.archive import orthanc_remover, web_archive
from plugin.dicomweb import web_client
from plugin.endpoint import Endpoint, OAuthClient, fetched_token, session_of
from plugin.errors import InputError, SightlineError, TransientError
from plugin.feeds import OrthancFeed
from plugin.fhir.client import FhirClient
from plugin.fhir.keys import KeyFiles, make_key
from plugin.fhir.reading import reports_from
from plugin.fhir.sending import Sender
from plugin.fhir.signing_in import BackendService, SmartTokens, pool_of
from plugin.outbound import allowed, guarded_client, guarded_session
from plugin.settings import Settings
from plugin.values import ImageRef, StudyRef
from plugin.wiring import login_pool

FHIR = {"Content-Type": "application/fhir+json"}
DICOM_JSON = {"Content-Type": "application/dicom+json"}
HERE = StudyRef(STUDY)


@pytest.fixture
def elsewhere() -> Iterator[Trap]:
    """A server inside the network that only the attacker wants to reach."""
    with run_trap(lambda _: (200, FHIR, b'{"access_token": "x", "resourceType": "Bundle"}')) as trap:
        yield trap


@pytest.fixture
def server() -> Iterator[Trap]:
    """The server of the settings, which the attacker has taken over."""
    with run_trap() as trap:
        yield trap


SPELLINGS = [
    "http://other.example/fhir",
    "https://pacs.example:8042/x",  # another scheme
    "http://pacs.example:8043/x",  # another port
    "http://pacs.example/x",
    "http://pacs.example.evil.example:8042/x",
    "http://pacs.example.:8042/x",  # the same name to a resolver
    "http://pacs.example:8042@evil.example/x",
    "http://evil.example\\@pacs.example:8042/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://2130706433:8042/x",  # 127.0.0.1
    "http://0x7f.1:8042/x",
    "http://[::ffff:127.0.0.1]:8042/x",
    "http://localhost:8042/x",
    "http://0:8042/x",
    "file:///etc/passwd",
    "gopher://pacs.example:8042/x",
    "//pacs.example:8042/x",
    "http://[pacs.example:8042/x",
    "http://pacs.example:http/x",
    "",
]


@pytest.mark.parametrize("url", SPELLINGS)
def test_only_the_origin_of_the_settings_is_asked_however_another_is_spelled(url: str) -> None:
    there = allowed(("http://pacs.example:8042/dicom-web",), named="archive")

    there.check("HTTP://PACS.example:8042/else/where?x#y")
    with pytest.raises(InputError, match="address of another server"):
        there.check(url)


def test_a_default_port_may_be_written_or_not() -> None:
    there = allowed(("https://pacs.example", "http://fhir.example:80"), named="archive")

    assert "https://pacs.example:443/x" in there
    assert "http://fhir.example/x" in there


def test_a_name_that_changes_what_it_points_to_opens_no_way_to_another_server(server: Trap, elsewhere: Trap) -> None:
    """DNS rebinding: what counts is the name, so no answer of a resolver adds a server, or a name for one."""
    there = allowed((server.base,), named="archive")
    other_name = elsewhere.base.replace("127.0.0.1", "localhost")

    for url in (other_name, elsewhere.base, server.base.replace("127.0.0.1", "localhost")):
        with guarded_session(there) as session, pytest.raises(InputError, match="another server"):
            session.get(url)
        with guarded_client(there) as pool, pytest.raises(InputError, match="another server"):
            pool.get(url)

    assert not server.visits
    assert not elsewhere.visits


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_not_followed(
    server: Trap, elsewhere: Trap, status: int, tmp_path: Path
) -> None:
    server.answers = lambda _: (status, {"Location": f"{elsewhere.base}/secrets", "Refresh": "0"}, b"")
    endpoint = Endpoint(server.base, {"Authorization": "Bearer s3cret"}, timeout_s=5)
    image = ImageRef(HERE, "1.2.3", "1.2.4", "1.2.5")
    client = OAuthClient(f"{server.base}/token", "sightline", "s3cret")

    for ask in (
        lambda: web_archive(endpoint).describe(HERE),
        lambda: OrthancFeed(endpoint).first(),
        lambda: session_of(endpoint).get(server.base),
        lambda: orthanc_remover(endpoint)(image),
        lambda: fetched_token(client, endpoint),
        lambda: FhirClient(server.base, timeout_s=5, sleep=lambda _: None).read("Patient/p"),
    ):
        with pytest.raises((SightlineError, OSError)):  # OSError: of requests, where the caller makes ours of it
            ask()

    assert server.visits
    assert not elsewhere.visits


PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def test_a_proxy_of_the_environment_sees_nothing(
    server: Trap, elsewhere: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, elsewhere.base)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password s3cret", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen: list[str] = []
    server.answers = lambda path: seen.append(path) or (200, FHIR, b"{}")  # type: ignore[func-returns-value]
    there = allowed((server.base,), named="archive")

    with requests.Session() as usual:
        usual.get(f"{server.base}/usual", timeout=5)
    with guarded_session(there) as session, guarded_client(there) as pool:
        session.get(f"{server.base}/session", timeout=5)
        pool.get(f"{server.base}/pool")
        sent = session.get(server.base, timeout=5).request.headers

    assert [visit.rpartition("/")[2] for visit in elsewhere.visits] == ["usual"], "what others send goes there"
    assert seen == ["/session", "/pool", "/"]
    assert "Authorization" not in sent


def test_authorities_of_the_environment_are_not_trusted(server: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/somebody/else.pem")
    with guarded_session(allowed((server.base,), named="archive")) as session:
        assert session.merge_environment_settings(server.base, {}, None, None, None)["verify"] is True


def test_the_login_goes_through_the_proxy_of_the_settings_and_to_its_issuer_alone(elsewhere: Trap) -> None:
    settings = Settings(login_proxy=elsewhere.base)

    with login_pool(settings, "http://login.example") as pool:
        pool.get("http://login.example/keys")
        with pytest.raises(InputError, match="another server"):
            pool.get("http://other.example/keys")

    assert elsewhere.visits == ["GET http://login.example/keys"]


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "http://user:secret@proxy.example", "socks5://proxy.example"])
def test_a_proxy_is_an_address_without_a_password(proxy: str) -> None:
    with pytest.raises(ValueError, match="login_proxy") as refused:
        Settings(login_proxy=proxy)
    assert "expected http://host:port" in str(refused.value)


def test_a_next_link_to_another_server_is_followed_at_ours(server: Trap, elsewhere: Trap) -> None:
    link = {"relation": "next", "url": f"{elsewhere.base}/Patient?page=2"}
    first = json.dumps({"resourceType": "Bundle", "type": "searchset", "link": [link]}).encode()
    last = json.dumps({"resourceType": "Bundle", "type": "searchset"}).encode()
    server.answers = lambda path: (200, FHIR, last if "page=2" in path else first)

    assert list(FhirClient(server.base, timeout_s=5).search("Patient", {})) == []

    assert [visit.partition("?")[2] for visit in server.visits] == ["", "page=2"]
    assert not elsewhere.visits


def test_an_attachment_behind_a_link_is_not_fetched(elsewhere: Trap) -> None:
    document = json.loads(as_bytes(bundle()))
    report = next(r for e in document["entry"] if (r := e["resource"])["resourceType"] == "DiagnosticReport")
    for name in ("conclusion", "text", "result"):
        report.pop(name, None)
    for url in (f"{elsewhere.base}/report.txt", "file:///etc/passwd", f"{elsewhere.base}/Binary/1"):
        report["presentedForm"] = [{"contentType": "text/plain", "url": url}]
        with pytest.raises(InputError, match="behind a link"):
            reports_from(json.dumps(document).encode())

    assert not elsewhere.visits


def test_bulk_data_of_another_server_is_not_fetched(server: Trap, elsewhere: Trap) -> None:
    """PS3.18 F.2.6: every element may be an address in place of its value."""
    instance = {
        tag: element for tag, element in chest().to_json_dict().items() if tag not in ("7FE00010", "00080008")
    } | {
        "00080008": {"vr": "CS", "BulkDataURI": f"{elsewhere.base}/type"},
        "00281052": {"vr": "DS", "BulkDataURI": "file:///etc/passwd"},
        "7FE00010": {"vr": "OW", "BulkDataURI": f"{elsewhere.base}/pixels"},
    }
    server.answers = lambda _: (200, DICOM_JSON, json.dumps([instance]).encode())

    (described,) = web_archive(Endpoint(server.base, timeout_s=5)).describe(HERE)

    assert described.image.study == HERE
    assert not elsewhere.visits


@pytest.mark.parametrize("told", ["configuration", "statement"])
def test_a_token_endpoint_at_another_server_is_asked_only_when_the_settings_name_it(
    server: Trap, elsewhere: Trap, tmp_path: Path, told: str
) -> None:
    make_key(tmp_path / "key.pem", "ec")
    uris = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
    named: dict[str, Any] = {"url": uris, "extension": [{"url": "token", "valueUri": f"{elsewhere.base}/token"}]}
    statement = {
        "resourceType": "CapabilityStatement",
        "rest": [{"mode": "server", "security": {"extension": [named]}}],
    }
    configuration = {"token_endpoint": f"{elsewhere.base}/token"} if told == "configuration" else {}
    server.answers = lambda path: (
        200,
        FHIR,
        json.dumps(configuration if path.endswith("smart-configuration") else statement).encode(),
    )

    def fetched(token_url: str) -> tuple[str, float]:
        service = BackendService("sightline", KeyFiles(tmp_path / "key.pem"), ("system/Patient.r",), token_url)
        with pool_of(Endpoint(server.base, named="FHIR server"), further=(token_url,)) as pool:
            return SmartTokens(server.base, service, Sender(pool, timeout_s=5, sleep=lambda _: None)).fetch()

    with pytest.raises(InputError, match="SIGHTLINE_FHIR_TOKEN_URL"):
        fetched("")
    assert not elsewhere.visits
    assert fetched(f"{elsewhere.base}/token")[0] == "x"


def test_every_request_of_the_package_is_made_through_the_guard() -> None:
    """Sessions and pools are made in one module; `sightline stack` and fsspec's own addresses are the site's."""
    makers = {"Session", "Client", "AsyncClient", "get", "post", "put", "request", "stream", "urlopen"}
    libraries = ("httpx", "requests", "urllib.request")
    package = Path(plugin.__file__).parent
    made = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if "node_modules" not in file.parts and any(name in file.read_text("utf-8") for name in libraries)
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in makers
        if ast.unparse(node.func.value) in libraries
    }

    assert made == {"outbound.py", "commands/stack.py"}


# Answers that fill the memory


BOMB = gzip.compress(bytes(64 * 2**20))


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", BOMB), ("deflate", zlib.compress(bytes(64 * 2**20))), ("identity", bytes(3 * 2**20))],
)
def test_an_answer_of_the_archive_that_grows_beyond_the_limit_is_refused(
    server: Trap, coding: str, body: bytes
) -> None:
    server.answers = lambda _: (200, DICOM_JSON | {"Content-Encoding": coding}, body)
    there = allowed((server.base,), named="archive")

    with guarded_session(there, max_bytes=2**20) as session, pytest.raises(InputError, match="larger than 1 MiB"):
        session.get(server.base, timeout=5)


def test_an_answer_of_a_fhir_server_that_grows_beyond_the_limit_is_refused(server: Trap) -> None:
    server.answers = lambda _: (200, FHIR | {"Content-Encoding": "gzip"}, BOMB)

    with pytest.raises(TransientError, match="DecodingError"):
        FhirClient(server.base, timeout_s=5, sleep=lambda _: None).read("Patient/p")


@pytest.mark.parametrize("coding", ["gzip, gzip", "deflate, gzip, gzip"])
def test_an_answer_that_is_compressed_twice_is_not_inflated(server: Trap, coding: str) -> None:
    """A part of 64 KiB would become 64 GiB before its size could be looked at."""
    server.answers = lambda _: (200, FHIR | {"Content-Encoding": coding}, gzip.compress(BOMB))

    with pytest.raises(TransientError, match="DecodingError"):
        FhirClient(server.base, timeout_s=5, sleep=lambda _: None).read("Patient/p")
    there = allowed((server.base,), named="archive")
    with guarded_session(there, max_bytes=2**20) as session, pytest.raises((InputError, OSError)):
        session.get(server.base, timeout=5)


def test_what_the_archive_answers_reaches_its_reader_as_before(server: Trap) -> None:
    server.answers = lambda _: (200, DICOM_JSON | {"Content-Encoding": "gzip"}, gzip.compress(b'[{"0020000D": {}}]'))

    assert web_client(Endpoint(server.base, timeout_s=5)).retrieve_study_metadata(STUDY) == [{"0020000D": {}}]


def test_answers_of_countless_values_are_not_parsed(server: Trap) -> None:
    values = b"[" + b"{}," * 1_000_000 + b"{}]"
    server.answers = lambda path: (200, FHIR if "Patient" in path else DICOM_JSON, values)

    with pytest.raises(InputError, match="1,000,000 values"):
        web_archive(Endpoint(server.base, timeout_s=5)).describe(HERE)
    with pytest.raises(TransientError, match="not complete FHIR JSON"):
        FhirClient(server.base, timeout_s=5, sleep=lambda _: None).read("Patient/p")
