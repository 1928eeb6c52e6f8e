"""DICOMweb as servers really speak it, and every way to prove there who we are."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from archives import Archive, run_archive
from builders import STUDY, chest, gradient, part10

from plugin.archive import web_archive
from plugin.dicomweb import media_type_of, parts_of, plain_answer, search_studies, web_client
from plugin.endpoint import Endpoint, OAuthClient, Proof
from plugin.errors import InputError, TransientError
from plugin.identity import derived_uid
from plugin.settings import Settings, archive_endpoint
from plugin.values import StudyRef

# By dicomweb-client's file client.
pytestmark = pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")

HERE = StudyRef(STUDY)
SECRET = "a secret of the tests"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with pytest.MonkeyPatch.context() as patch, run_archive(tmp_path_factory.mktemp("archive")) as archive:
        patch.setattr("pydicom.config.settings.reading_validation_mode", 0)
        archive.add(part10(chest(WindowCenter=2048, WindowWidth=4096)))
        yield archive


@pytest.fixture
def archive(running: Archive) -> Iterator[Archive]:
    """The archive with the habits of a well-behaved one."""
    before = dict(vars(running.habits))
    running.requests.clear(), running.tokens.clear()
    yield running
    vars(running.habits).update(before)


def read(endpoint: Endpoint) -> Any:
    """The one image of the archive, all the way to its pixels."""
    archive = web_archive(endpoint)
    (described,) = archive.describe(HERE)
    return archive.read(described.image).pixels


# How servers speak


@pytest.mark.parametrize(
    "habits",
    [
        {},
        {"content_type": "multipart/related; boundary={boundary}; type=application/dicom"},
        {"content_type": "Multipart/Related;TYPE=application/dicom;BOUNDARY={boundary}"},
        {"content_type": "application/octet-stream"},
        {"part_header": b""},
        {"part_header": b"Content-Length: 1\r\nMIME-Version: 1.0\r\ncontent-type: application/dicom"},
        {"part_header": b"Content-Type: application/dicom;\r\n transfer-syntax=1.2.840.10008.1.2.1"},
        {"line_end": b"\n"},
        {"line_end": b"\n", "part_header": b""},
        {"preamble": b"This is a message with several parts.\r\n\r\n", "epilogue": b"\r\nThe end."},
        {"bare": True},
        {"json_type": "application/json"},
        {"json_type": "application/dicom+json; charset=utf-8"},
        {"json_type": "text/plain"},
    ],
    ids=lambda habits: ", ".join(f"{name}={value!r}" for name, value in habits.items())[:60] or "as written",
)
def test_an_image_is_read_however_the_server_speaks(archive: Archive, habits: dict[str, Any]) -> None:
    vars(archive.habits).update(habits)

    assert read(Endpoint(archive.url)) == pytest.approx(gradient() / 4095, abs=1e-3)


def test_the_host_that_is_asked_for_has_its_port(archive: Archive) -> None:
    read(Endpoint(archive.url))

    assert {request.split()[2] for request in archive.requests} == {f"127.0.0.1:{archive.port}"}


def test_a_refused_instance_is_seen_whatever_the_media_type_of_the_answer_is(archive: Archive) -> None:
    archive.habits.json_type = "application/dicom+json; charset=utf-8"
    answer = requests.Response()
    answer.status_code, answer._content = 200, b'{"00081198": {"vr": "SQ", "Value": [{}]}}'
    answer.headers["Content-Type"] = "application/dicom+json; charset=utf-8"

    assert plain_answer(answer).headers["Content-Type"] == "application/dicom+json"


@pytest.mark.parametrize("body", [b"<html>Please sign in</html>", b"OK"])
def test_a_page_for_people_is_no_archive(body: bytes) -> None:
    answer = requests.Response()
    answer.status_code, answer._content = 200, body

    with pytest.raises(TransientError, match="not DICOMweb"):
        plain_answer(answer)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"--b\r\n\r\none\r\n--b\r\nA: b\r\n\r\ntwo\r\n--b--", [b"one", b"two"]),
        (b"\r\n--b\r\n\r\none\r\n--b--\r\n", [b"one"]),
        (b"--b\r\nA: b\r\n\r\n\r\n--b\r\n\r\n\r\n--b--", [b"", b""]),
        (b"--b\n\none\r\n--b--", [b"one\r"]),
        (b"--b\r\n\r\nx\n--b\r\n--b--", [b"x\n--b"]),
        (b"--b\r\n\r\ncut off", [b"cut off"]),
        (b"--bb\r\n\r\nother\r\n--bb--", []),
        (b"no message at all", []),
        (b"", []),
    ],
)
def test_a_message_is_taken_apart(content: bytes, parts: list[bytes]) -> None:
    assert list(parts_of(content, "b")) == parts


def test_a_media_type_is_read_as_written_by_anyone() -> None:
    assert media_type_of('Multipart/Related; TYPE="application/dicom" ; Boundary="a;b=c"') == (
        "multipart/related",
        {"type": "application/dicom", "boundary": "a;b=c"},
    )
    assert media_type_of("") == ("", {})


# Searches


@pytest.fixture(scope="module")
def many(running: Archive) -> tuple[str, ...]:
    uids = tuple(derived_uid("test", "many", str(number)) for number in range(23))
    running.add(*(part10(chest(name=f"many-{uid}", StudyInstanceUID=uid)) for uid in uids))
    return uids


@pytest.mark.parametrize("habits", [{}, {"page": 1}, {"page": 7}, {"page": 24}])
def test_a_search_is_read_to_its_end_whatever_the_page(
    archive: Archive, many: tuple[str, ...], habits: dict[str, Any]
) -> None:
    vars(archive.habits).update(habits)

    found = search_studies(web_client(Endpoint(archive.url)), {"ModalitiesInStudy": "CR"}, ())

    assert {study["0020000D"]["Value"][0] for study in found} == {STUDY, *many}


def test_a_search_whose_every_page_is_the_first_ends(archive: Archive, many: tuple[str, ...]) -> None:
    archive.habits.ignores_offset, archive.habits.page = True, 5

    assert len(search_studies(web_client(Endpoint(archive.url)), {}, ())) == 5
    assert len(archive.requests) == 2


def test_a_search_without_results_is_empty(archive: Archive) -> None:
    assert search_studies(web_client(Endpoint(archive.url)), {"ModalitiesInStudy": "MG"}, ()) == []


# Who we are


def oauth(archive: Archive, *, secret: str = "client sécret") -> Endpoint:
    return Endpoint(archive.url, oauth=OAuthClient(archive.token_url, "sightline", secret, scope="dicom"))


@pytest.mark.parametrize(
    ("shown", "settings"),
    [
        (("X-API-Key", SECRET), {"archive_header": f"X-API-Key: {SECRET}"}),
        (("Authorization", f"Bearer {SECRET}"), {"archive_token": SECRET}),
        (("Authorization", "Basic dXNlcjpw5A=="), {"archive_user": "user", "archive_password": "p\xe4"}),
        (("Authorization", "Basic dXNlcjpww6Q="), {"archive_user": "user", "archive_password": "pä"}),
    ],
    ids=["header", "token", "latin-1 is not sent", "user and password"],
)
def test_the_archive_is_shown_what_the_settings_say(
    archive: Archive, shown: tuple[str, str], settings: dict[str, Any]
) -> None:
    archive.habits.shown = shown
    endpoint = archive_endpoint(Settings(**settings), archive.url)

    if "5A==" in shown[1]:
        with pytest.raises(InputError, match="credentials"):
            read(endpoint)
    else:
        assert read(endpoint).shape == (40, 48)
    assert SECRET not in repr(endpoint)


def test_a_token_is_fetched_once_and_used_while_it_lives(archive: Archive) -> None:
    archive.revoke()

    read(oauth(archive))

    assert archive.tokens == ["token-0"]


@pytest.mark.parametrize("life", [3600, "3600", None, "soon"])
def test_whatever_life_is_told_the_token_is_used(archive: Archive, life: Any) -> None:
    archive.revoke()
    archive.habits.token_life_s = life

    read(oauth(archive))

    assert len(archive.tokens) == 1


def test_a_token_that_ends_soon_is_renewed_before_each_request(archive: Archive) -> None:
    archive.revoke()
    archive.habits.token_life_s = 1

    read(oauth(archive))

    assert len(archive.tokens) == 2


def test_a_token_that_was_revoked_is_replaced_in_the_middle(archive: Archive) -> None:
    archive.revoke()
    client = web_archive(oauth(archive))
    (described,) = client.describe(HERE)
    archive.revoke()

    assert client.read(described.image).pixels.shape == (40, 48)
    assert archive.tokens == ["token-0", "token-1"]


def test_several_threads_fetch_one_token(archive: Archive) -> None:
    archive.revoke()
    proof = Proof(oauth(archive))

    def ask() -> None:
        proof(requests.Request("GET", archive.url).prepare())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(archive.tokens) == 1


def test_a_client_that_the_token_endpoint_refuses_is_told_apart_from_one_that_is_away(archive: Archive) -> None:
    archive.revoke()
    away = OAuthClient("http://127.0.0.1:9/token", "sightline", SECRET)

    with pytest.raises(InputError, match=r"token endpoint refused the client \(400\)") as refused:
        read(oauth(archive, secret=SECRET))
    with pytest.raises(TransientError, match="token endpoint does not answer"):
        read(Endpoint(archive.url, oauth=away, timeout_s=1))
    assert SECRET not in str(refused.value)


def test_no_secret_is_logged_whatever_happens(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    archive.habits.shown = ("Authorization", "Bearer of nobody")
    endpoint = Endpoint(archive.url, {"Authorization": f"Bearer {SECRET}", "X-API-Key": SECRET})

    with pytest.raises(InputError):
        read(endpoint)
    archive.revoke()
    read(oauth(archive))

    assert caplog.text
    for secret in (SECRET, "client sécret", "token-0"):
        assert secret not in caplog.text


class _Elsewhere(BaseHTTPRequestHandler):
    seen: list[str] = []  # noqa: RUF012 - one server, one test

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(302)
        self.send_header("Location", f"http://{self.headers['Host']}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_secrets_do_not_follow_a_redirect() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="sends us elsewhere"):
            web_archive(Endpoint(f"http://127.0.0.1:{server.server_port}/dicom-web")).describe(HERE)
        server.shutdown()

    assert len(_Elsewhere.seen) == 1


def test_a_certificate_of_the_sites_own_authority_is_accepted_when_named(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/dicom-web"
        with pytest.raises(TransientError, match="SSLError"):
            web_archive(Endpoint(url)).describe(HERE)
        with pytest.raises(InputError, match="elsewhere"):  # an answer, so it is trusted
            web_archive(Endpoint(url, ca_file=tmp_path / "ca.pem")).describe(HERE)
        server.shutdown()


def test_a_certificate_of_ours_opens_an_archive_that_wants_one(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ours = authority.issue_cert("sightline@hospital.example")
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    known = {"archive_ca_file": tmp_path / "ca.pem"}
    proof = {"archive_certificate_file": tmp_path / "cert.pem", "archive_certificate_key_file": tmp_path / "key.pem"}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/dicom-web"
        with pytest.raises(TransientError):
            web_archive(archive_endpoint(Settings(**known), url)).describe(HERE)
        with pytest.raises(InputError, match="elsewhere"):  # an answer, so we are let in
            web_archive(archive_endpoint(Settings(**known, **proof), url)).describe(HERE)
        server.shutdown()


def test_an_authority_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Endpoint("https://archive", ca_file=tmp_path / "nowhere.pem")
