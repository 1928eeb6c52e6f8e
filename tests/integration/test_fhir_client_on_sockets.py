"""The FHIR client on real connections that break: what a played transport cannot show."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from plugin.errors import TransientError
from plugin.fhir.client import FhirClient

PATIENT = json.dumps({"resourceType": "Patient", "id": "p"}).encode()


def whole(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PATIENT)))
    handler.end_headers()
    handler.wfile.write(PATIENT)


def truncated(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PATIENT)))
    handler.end_headers()
    handler.wfile.write(PATIENT[:20])
    handler.close_connection = True


def not_gzip(handler):
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", "5")
    handler.end_headers()
    handler.wfile.write(b"plain")


def hung_up(handler):
    handler.connection.close()
    handler.close_connection = True


def slow(handler):
    handler.server.released.wait(timeout=10)
    handler.close_connection = True


def endless(handler):
    """A byte now and then: no wait is long, and the whole never comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PATIENT)))
    handler.end_headers()
    for byte in PATIENT:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if handler.server.released.wait(timeout=0.05):
            break
    handler.close_connection = True


@contextmanager
def server(*behaviours):
    """Each request is met by the next behaviour, the last one again and again."""
    left = list(behaviours)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            (left.pop(0) if len(left) > 1 else left[0])(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.released = threading.Event()
        http.handle_error = lambda *_: None
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/fhir"
        finally:
            http.released.set()
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("fault", [truncated, not_gzip, hung_up, slow])
def test_one_broken_answer_is_followed_by_another_try(fault):
    waits = []

    with server(fault, whole) as base, httpx.Client() as pool:
        found = FhirClient(base, client=pool, timeout_s=1, sleep=waits.append, jitter=lambda: 0.0).read("Patient/p")

    assert found.id == "p"
    assert waits == [0.5]


@pytest.mark.parametrize("fault", [truncated, not_gzip, hung_up])
def test_a_server_that_keeps_breaking_is_a_transient_error(fault):
    with server(fault) as base, httpx.Client() as pool, pytest.raises(TransientError, match="does not answer"):
        FhirClient(base, client=pool, timeout_s=1, sleep=lambda _: None).read("Patient/p")


def test_a_body_that_comes_byte_by_byte_is_given_up():
    waits = []

    with server(endless, whole) as base, httpx.Client() as pool:
        found = FhirClient(base, client=pool, timeout_s=0.1, sleep=waits.append).read("Patient/p")

    assert found.id == "p"
    assert len(waits) == 1
