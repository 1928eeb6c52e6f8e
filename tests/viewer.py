"""OHIF for tests: its built files and a DICOMweb proxy to a real Orthanc, on one origin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
from servers import ROOT, OrthancServer, require

OHIF = ROOT / "tests" / "acceptance" / "ohif"
DIST = OHIF / "node_modules" / "@ohif" / "app" / "dist"
_NOT_PASSED_ON = ("connection", "content-encoding", "content-length", "transfer-encoding", "keep-alive")


class _Handler(SimpleHTTPRequestHandler):
    """Files of the distribution, our configuration, ``/dicom-web`` from Orthanc with its credentials."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, archive: httpx.Client, **keywords: object) -> None:
        self.archive = archive
        super().__init__(*arguments, directory=str(DIST), **keywords)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web/"):
            self._proxy()
            return
        if not (DIST / self.path.partition("?")[0].lstrip("/")).is_file():
            self.path = "/index.html"  # every other address is one of the application's routes
        super().do_GET()

    def translate_path(self, path: str) -> str:
        if path.partition("?")[0] == "/app-config.js":
            return str(OHIF / "app-config.js")
        return super().translate_path(path)

    def _proxy(self) -> None:
        answer = self.archive.get(self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the browser's own errors tell enough."""


def require_ohif() -> None:
    """Skip the test unless OHIF is installed; in CI on Debian a missing one is a failure, as for other programs."""
    require("chromium", "Orthanc", *([] if (DIST / "index.html").is_file() else ["OHIF (tests/install-npm-packages)"]))


@contextmanager
def run_ohif(orthanc: OrthancServer) -> Iterator[str]:
    """OHIF's address, until the block ends."""
    with orthanc.http() as archive:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, archive=archive))
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
