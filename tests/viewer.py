"""OHIF for tests: served by the service itself, on one origin with DICOMweb from a real Orthanc, without a model."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from evidence import kept_of
from queues import MemoryQueue
from servers import NPM, OrthancServer, require

from plugin.dicom.instance import series_of
from plugin.endpoint import Endpoint
from plugin.flow import outputs_of
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.viewer import Viewer
from plugin.values import Evidence

DIST = NPM / "node_modules" / "@ohif" / "app" / "dist"


def require_ohif() -> None:
    """Skip the test unless OHIF is installed; in CI on Debian a missing one is a failure, as for other programs."""
    require("chromium", "Orthanc", *([] if (DIST / "index.html").is_file() else ["OHIF (tests/install-npm-packages)"]))


def _unused(*_: Any) -> Any:
    raise AssertionError("the viewer asks for no grounding")


@contextmanager
def run_viewer(orthanc: OrthancServer, folder: Path, *evidence: Evidence) -> Iterator[str]:
    """The service with OHIF over *orthanc*, with the results of *evidence* kept in *folder*; yields its address."""
    results = ResultFolder(folder)
    for each in evidence:
        results.write(each.study, kept_of(each), outputs_of(each).files)
    viewer = Viewer(DIST, Endpoint(orthanc.dicomweb_url, orthanc.headers, timeout_s=60), series_of)
    grounder: Any = None
    services = Services(MemoryQueue(), results, _unused, _unused, grounder, _unused, _unused)
    app = create_app(services, work=False, viewer=viewer)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
