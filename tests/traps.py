"""Servers of an attacker: one that counts who comes, and one that answers whatever a test gives it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, Mapping[str, str], bytes]
NOTHING: Reply = (404, {}, b"")


@dataclass
class Trap:
    """A server on loopback; *answers* gives the reply for a path, which may be changed while it runs."""

    base: str
    answers: Callable[[str], Reply]
    visits: list[str] = field(default_factory=list)


@contextmanager
def run_trap(answers: Callable[[str], Reply] = lambda _: NOTHING) -> Iterator[Trap]:
    """A server that notes every request that comes, and answers it by *answers*."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            trap.visits.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = trap.answers(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - of the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
            """Quiet."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # whoever asked does not want the rest
                return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        trap = Trap(f"http://127.0.0.1:{server.server_port}", answers)
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        running.start()
        try:
            yield trap
        finally:
            server.shutdown()
            running.join()
