"""Signing in at FHIR servers, over real connections: SMART backend services, own authorities, mutual TLS, basic."""

from __future__ import annotations

import base64
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import faults as ways
import httpx
import pytest
from faults import Faults, run_faults, together
from smart import Smart

from plugin.doctor import fhir_keys, fhir_scopes, reports
from plugin.errors import InputError, TransientError
from plugin.fhir.client import FhirClient
from plugin.fhir.keys import KeyFiles, make_key
from plugin.fhir.sending import Sender
from plugin.fhir.signing_in import BackendService, Bearer, SmartTokens
from plugin.settings import Settings, load_settings
from plugin.wiring import make_fhir_client

SCOPES = ("system/DiagnosticReport.rs", "system/Observation.crus")


@dataclass
class Site:
    """A server that wants SMART, and our keys."""

    smart: Smart
    faults: Faults
    folder: Path
    http: httpx.Client
    now: float = 0.0

    @property
    def keys(self) -> KeyFiles:
        previous = self.folder / "previous.pem"
        return KeyFiles(self.folder / "key.pem", previous if previous.exists() else None)

    def client(self, **service: Any) -> FhirClient:
        known = {"client_id": "sightline", "keys": self.keys, "scopes": SCOPES} | service
        sender = Sender(self.http, timeout_s=5, sleep=lambda _: None)
        clock = lambda: self.now  # noqa: E731 - one line for one number
        source = SmartTokens(self.faults.base, BackendService(**known), sender, clock=clock)
        auth = Bearer(self.faults.base, source, clock=clock)
        return FhirClient(self.faults.base, client=self.http, auth=auth, sleep=lambda _: None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    make_key(tmp_path / "key.pem", "ec")
    with run_faults("http://127.0.0.1:9/fhir") as faults, httpx.Client() as http:
        smart = faults.always(Smart(faults.base.removesuffix("/fhir"), dict))
        site = Site(smart, faults, tmp_path, http)
        smart.key_set = lambda: KeyFiles.public(site.keys)
        yield site


# SMART backend services


@pytest.mark.parametrize(("kind", "algorithm"), [("ec", "ES384"), ("rsa", "RS384")])
def test_sightline_signs_in_by_its_key(site: Site, kind: Any, algorithm: str) -> None:
    (site.folder / "key.pem").unlink()
    key = make_key(site.folder / "key.pem", kind)

    assert site.client().read("Patient/p") is not None
    ((header, claims),) = site.smart.assertions
    assert (header["alg"], header["kid"], claims["aud"]) == (algorithm, key.key_id, site.smart.token_url)
    assert site.smart.requested == [" ".join(SCOPES)]


def test_a_token_is_kept_until_shortly_before_its_end(site: Site) -> None:
    client = site.client()
    for now in (0, 100, 269, 271):
        site.now = now
        client.read("Patient/p")

    assert site.smart.tokens == ["token-0", "token-1"]


@pytest.mark.parametrize("life", [None, "soon", -1])
def test_a_life_that_is_not_told_is_five_minutes(site: Site, life: Any) -> None:
    site.smart.life_s = life
    client = site.client()
    for now in (0, 269, 271):
        site.now = now
        client.read("Patient/p")

    assert len(site.smart.tokens) == 2


def test_an_expired_or_revoked_token_is_renewed_once(site: Site) -> None:
    client = site.client()
    client.read("Patient/p")
    site.smart.valid.clear()

    assert client.read("Patient/p") is not None
    assert site.smart.tokens == ["token-0", "token-1"]


def test_a_server_that_takes_no_token_is_asked_twice_and_no_more(site: Site) -> None:
    site.faults.always(ways.refused(401), when=lambda asked: asked.path == "Patient/p")

    with pytest.raises(TransientError, match="check the credentials"):
        site.client().read("Patient/p")
    assert [asked.path for asked in site.faults.asked].count("Patient/p") == 2


def test_threads_share_one_token(site: Site) -> None:
    client = site.client()

    assert all(together(8, lambda _: client.read("Patient/p")))
    assert len(site.smart.tokens) == 1


def test_every_assertion_is_used_once(site: Site) -> None:
    client = site.client()
    for _ in range(3):
        site.smart.valid.clear()
        client.read("Patient/p")

    assert len({claims["jti"] for _, claims in site.smart.assertions}) == 3


def test_a_busy_token_endpoint_is_asked_again(site: Site) -> None:
    site.faults.next(ways.refused(503), ways.reset(), ways.refused(429), when=lambda asked: asked.path == "token")

    assert site.client().read("Patient/p") is not None


# Keys that change


def test_the_newest_key_signs_when_the_server_knows_both(site: Site) -> None:
    (site.folder / "key.pem").rename(site.folder / "previous.pem")
    newest = make_key(site.folder / "key.pem", "rsa")

    site.client().read("Patient/p")
    assert [header["kid"] for header, _ in site.smart.assertions] == [newest.key_id]


def test_the_previous_key_signs_while_the_server_does_not_know_the_newest(site: Site) -> None:
    known = site.keys.public()
    site.smart.key_set = lambda: known
    (site.folder / "key.pem").rename(site.folder / "previous.pem")
    make_key(site.folder / "key.pem", "ec")

    assert site.client().read("Patient/p") is not None
    assert [header["kid"] for header, _ in site.smart.assertions] == [known["keys"][0]["kid"]]


def test_a_change_of_keys_needs_no_restart_and_loses_no_request(site: Site) -> None:
    known: list[Any] = [site.keys.public()]
    site.smart.key_set = lambda: known[-1]
    first = site.keys.keys()[0].key_id
    (site.folder / "previous.pem").write_bytes((site.folder / "key.pem").read_bytes())
    assert len(site.keys.public()["keys"]) == 1
    client = site.client()
    (site.folder / "key.pem").unlink()
    second = make_key(site.folder / "key.pem", "ec").key_id

    assert client.read("Patient/p") is not None  # the server has not looked again yet
    known.append(site.keys.public())
    site.smart.valid.clear()
    assert client.read("Patient/p") is not None

    assert [header["kid"] for header, _ in site.smart.assertions] == [first, second]


def test_the_key_is_of_the_kind_that_the_server_takes(site: Site) -> None:
    (site.folder / "key.pem").rename(site.folder / "previous.pem")
    make_key(site.folder / "key.pem", "rsa")
    site.smart.algorithms = ["ES384"]

    assert site.client().read("Patient/p") is not None
    assert [header["alg"] for header, _ in site.smart.assertions] == ["ES384"]

    (site.folder / "previous.pem").unlink()
    with pytest.raises(InputError, match="neither RS384 nor ES384"):
        site.client().read("Patient/p")


def test_a_client_that_the_server_does_not_know_is_told_what_to_check_and_no_more(site: Site) -> None:
    site.smart.client_id = "another"

    with pytest.raises(
        TransientError, match=r"answered 400 \(invalid_client\); check .*SIGHTLINE_FHIR_CLIENT_ID"
    ) as refused:
        site.client().read("Patient/p")
    assert "Geheim" not in str(refused.value)


# Where, and what for


def test_the_capability_statement_names_the_endpoint_where_there_is_no_smart_configuration(site: Site) -> None:
    site.smart.configured = False

    assert site.client().read("Patient/p") is not None


def test_the_settings_name_the_endpoint_where_the_server_does_not(site: Site) -> None:
    site.smart.configured = False
    site.faults.always(ways.no_metadata)

    with pytest.raises(InputError, match="SIGHTLINE_FHIR_TOKEN_URL"):
        site.client().read("Patient/p")
    assert site.client(token_url=site.smart.token_url).read("Patient/p") is not None


def test_a_server_of_version_1_is_asked_in_its_words(site: Site) -> None:
    site.smart.capabilities = ["permission-v1"]
    client = site.client()

    assert client.lacking_scopes() == ()
    assert site.smart.requested == ["system/DiagnosticReport.read system/Observation.read system/Observation.write"]


def test_what_the_server_does_not_support_is_left_out_and_told(site: Site) -> None:
    site.smart.knows = {"system/DiagnosticReport.rs"}
    site.smart.scopes = ["system/DiagnosticReport.rs", "system/Patient.rs"]
    client = site.client()

    assert client.lacking_scopes() == ("system/Observation.crus",)
    assert site.smart.requested == [" ".join(SCOPES), "system/DiagnosticReport.rs"]


def test_what_was_not_granted_is_told(site: Site) -> None:
    site.smart.grants = "system/DiagnosticReport.rs system/Observation.rs"

    assert site.client().lacking_scopes() == ("system/Observation.crus",)


def test_scopes_that_nobody_knows_are_an_error(site: Site) -> None:
    site.smart.knows = set()

    with pytest.raises(TransientError, match="invalid_scope"):
        site.client().read("Patient/p")


def test_the_token_goes_to_no_other_origin(site: Site) -> None:
    client = site.client()
    client.read("Patient/p")
    seen: list[httpx.Request] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(401)

    with httpx.Client(transport=httpx.MockTransport(elsewhere), auth=client._auth) as http:
        for url in ("http://elsewhere.example/fhir/Patient/p", site.faults.base.replace("http:", "https:")):
            http.get(url)

    assert len(seen) == 2
    assert not any("authorization" in request.headers for request in seen)


def test_no_token_endpoint_without_tls_for_a_server_with_it(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem", "ec")

    def plain(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"token_endpoint": "http://fhir.example/token"})

    with httpx.Client(transport=httpx.MockTransport(plain)) as http:
        service = BackendService("sightline", KeyFiles(tmp_path / "key.pem"), SCOPES)
        with pytest.raises(InputError, match="not under https"):
            SmartTokens("https://fhir.example/fhir", service, Sender(http)).fetch()


def test_no_secret_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = site.client()
    client.read("Patient/p")
    site.smart.valid.clear()
    client.read("Patient/p")

    assert caplog.text
    assert "token-0" not in caplog.text
    assert "client_assertion" not in caplog.text


# By the settings


@pytest.fixture
def settings(site: Site) -> Callable[..., Settings]:
    known = {"fhir_url": site.faults.base, "fhir_client_id": "sightline", "fhir_key_file": site.folder / "key.pem"}
    return lambda **changes: Settings(**(known | {"timeout_s": 5} | changes))


def test_the_settings_make_a_client_that_signs_in_once_for_all_its_users(site: Site, settings: Any) -> None:
    first, second = (make_fhir_client(settings(), site.faults.base) for _ in range(2))

    assert first is second
    assert first.read("Patient/p") is not None
    assert "system/Observation.crus" in site.smart.requested[0]


def test_the_doctor_tells_release_keys_and_scopes(site: Site, settings: Any) -> None:
    site.faults.always(
        lambda asked, forward: ways.told(200, {"resourceType": "Bundle"}),
        when=lambda asked: asked.path == "DiagnosticReport",
    )
    site.smart.grants = "system/DiagnosticReport.rs"
    given = settings(public_url="https://sightline.example", fhir_scope="system/DiagnosticReport.rs system/Patient.rs")

    assert reports(given).detail == "answers, FHIR R4"
    assert site.keys.keys()[0].key_id in fhir_keys(given).detail
    assert "https://sightline.example/.well-known/jwks.json" in fhir_keys(given).detail
    assert (fhir_scopes(given).detail, fhir_scopes(given).ok) == ("lacks system/Patient.rs", False)


def test_the_doctor_tells_what_is_wrong_with_signing_in(site: Site, settings: Any) -> None:
    stranger = settings(fhir_client_id="stranger")
    keyless = settings(fhir_key_file=site.folder / "nowhere.pem")
    away = Settings(fhir_url="http://127.0.0.1:9/fhir", timeout_s=1)

    assert "invalid_client" in reports(stranger).detail
    assert "invalid_client" in fhir_scopes(stranger).detail
    for found in (reports(keyless), fhir_keys(keyless), fhir_scopes(keyless)):
        assert (found.ok, "nowhere.pem cannot be read" in found.detail) == (False, True)
    assert reports(away).detail == "the FHIR server does not answer (ConnectError)"
    assert not any(found.ok for found in map(reports, (stranger, keyless, away)))


def test_the_doctor_tells_of_a_server_without_capability_statement(site: Site) -> None:
    nothing = ways.told(404, {"resourceType": "OperationOutcome"})
    site.faults.clear()
    site.faults.always(
        lambda asked, _: nothing if asked.path == "metadata" else ways.told(200, {"resourceType": "Bundle"})
    )

    found = reports(Settings(fhir_url=site.faults.base))
    assert found.ok
    assert "cannot be read (HTTP 404), so it is taken for one of R4" in found.detail


def test_basic_and_bearer_are_sent_with_every_request(site: Site) -> None:
    site.smart.valid.add("given")
    bearer = Settings(fhir_url=site.faults.base, fhir_token="given")
    assert make_fhir_client(bearer, site.faults.base).read("Patient/p") is not None

    basic = Settings(fhir_url=site.faults.base, fhir_user="sightline", fhir_password="pässwort")
    with pytest.raises(TransientError, match="401"):
        make_fhir_client(basic, site.faults.base).read("Patient/p")
    pair = base64.b64encode("sightline:pässwort".encode()).decode()
    assert site.faults.asked[-1].headers["authorization"] == f"Basic {pair}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"FHIR_USER": "a", "FHIR_TOKEN": "secret-value"}, "set one of"),
        ({"FHIR_CLIENT_ID": "a"}, "needs SIGHTLINE_FHIR_KEY_FILE"),
        ({"FHIR_SCOPE": "system/*.rs"}, "one by one"),
    ],
)
def test_ways_in_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"SIGHTLINE_{name}", value)

    with pytest.raises(InputError, match=words) as refused:
        load_settings()
    assert "secret-value" not in str(refused.value)


# Certificates


class _Patient(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"resourceType": "Patient", "id": "p"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_servers_own_authority_and_our_certificate_open_the_way(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ours = authority.issue_cert("sightline@hospital.example")
    ours.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "ours.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Patient) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/fhir"

        def read(**files: Path) -> object:
            return make_fhir_client(Settings(fhir_url=url, timeout_s=2, **files), url).impatient().read("Patient/p")

        trusted = {"fhir_ca_file": tmp_path / "ca.pem"}
        both = {"fhir_certificate_file": tmp_path / "cert.pem", "fhir_certificate_key_file": tmp_path / "key.pem"}
        assert read(**trusted, fhir_certificate_file=tmp_path / "ours.pem") is not None
        assert read(**trusted, **both) is not None
        with pytest.raises(TransientError, match="does not answer"):
            read(fhir_certificate_file=tmp_path / "ours.pem")
        with pytest.raises(TransientError, match="does not answer"):
            read(**trusted)
        server.shutdown()


def test_files_of_certificates_that_hold_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    url = "https://fhir.example/fhir"

    with pytest.raises(InputError, match="cannot be used"):
        make_fhir_client(Settings(fhir_url=url, fhir_certificate_file=tmp_path / "empty.pem"), url)
    with pytest.raises(InputError, match="does not exist"):
        make_fhir_client(Settings(fhir_url=url, fhir_certificate_file=tmp_path / "nowhere.pem"), url)
