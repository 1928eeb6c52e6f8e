"""Places that files are fetched from, on free loopback ports: an S3 server, and one that speaks a model hub's form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a running S3 server."""

    endpoint: str
    client: Any
    name: str = "films"

    def put(self, key: str, content: bytes) -> str:
        """Store *content*; returns its ``s3://`` address."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return f"s3://{self.name}/{key}"


@contextmanager
def run_bucket() -> Iterator[Bucket]:
    """A real S3 server (moto) with one empty bucket, until the block ends; set the user and password first."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        bucket = Bucket(f"http://{host}:{port}", client)
        client.create_bucket(Bucket=bucket.name)
        yield bucket
        client.close()
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class Hub:
    """A server of one model repository, ``owner/name``.

    Parameters
    ----------
    files : name in the repository to content.
    asked : paths of the requests so far.
    """

    endpoint: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def run_hub() -> Iterator[Hub]:
    """Until the block ends. Knows what huggingface_hub's file system asks: revision, tree, and the files themselves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _HubRequest)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _HubRequest(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = urlsplit(self.path).path
        hub.asked.append(path)
        match path.split("/")[1:]:
            case ["api", "models", "owner", "name", *rest] if rest in ([], ["revision", "main"], ["revision", "v1"]):
                self._send(200, json.dumps({"id": "owner/name", "sha": REVISION, "siblings": []}).encode(), body=body)
            case ["api", "models", "owner", "name", "tree", "main" | "v1", *_]:
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in hub.files.items()
                ]
                self._send(200, json.dumps(tree).encode(), body=body)
            case ["owner", "name", "resolve", "main" | "v1", name] if name in hub.files:
                self._send(200, hub.files[name], body=body)
            case _:
                self._send(404, b"{}", body=body)

    def _send(self, status: int, content: bytes, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{len(content)}"')
        self.send_header("X-Repo-Commit", REVISION)
        if status == 404:
            known = self.path.startswith(("/api/models/owner/name", "/owner/name"))
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)


@dataclass(slots=True)
class Line:
    """A bad line to a server: of the next answers to GET, as many are spoilt as each number says.

    Parameters
    ----------
    cut : half of the body is sent, and the connection ends.
    short : half of the body is sent as if it were all.
    asked : paths of the requests so far.
    """

    endpoint: str
    server: str
    cut: int = 0
    short: int = 0
    asked: list[str] = field(default_factory=list)


@contextmanager
def run_bad_line(server: str) -> Iterator[Line]:
    """A proxy on a port of its own before the HTTP server at *server*, until the block ends."""
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _Forwarded)
    line = Line(f"http://127.0.0.1:{proxy.server_address[1]}", server)
    proxy.line = line  # type: ignore[attr-defined]
    thread = Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class _Forwarded(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._forward()

    def do_GET(self) -> None:
        self._forward()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""

    def _forward(self) -> None:
        line: Line = self.server.line  # type: ignore[attr-defined]
        line.asked.append(self.path)
        answer = httpx.request(self.command, line.server + self.path, headers=dict(self.headers))
        content, length = answer.content, answer.headers.get("content-length", "0")
        if self.command == "GET" and answer.is_success and line.cut > 0:
            line.cut -= 1
            content = content[: len(content) // 2]
        elif self.command == "GET" and answer.is_success and line.short > 0:
            line.short -= 1
            content = content[: len(content) // 2]
            length = str(len(content))
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "content-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)
