"""What is new in an archive, by Orthanc's change log and by QIDO-RS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from archives import Archive, run_archive
from builders import chest, part10

from plugin.endpoint import Endpoint
from plugin.errors import InputError, SightlineError, TransientError
from plugin.feeds import OrthancFeed, qido_feed
from plugin.identity import derived_uid
from plugin.ports import Look, Sighting
from plugin.settings import Settings
from plugin.values import StudyRef
from plugin.wiring import make_watch

TODAY = date(2026, 3, 1)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with run_archive(tmp_path / "archive") as archive:
        yield archive


@pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")  # by dicomweb-client's file client
def test_qido_shows_the_studies_with_radiographs_and_how_many_instances_they_have(archive: Archive) -> None:
    chests, scan = [derived_uid("feeds", name) for name in "ab"], derived_uid("feeds", "scan")
    feed = qido_feed(Endpoint(archive.url), days=7, today=lambda: TODAY)
    archive.habits.page = 1
    archive.add(*(part10(chest(name=uid, StudyInstanceUID=uid)) for uid in chests))
    archive.add(part10(chest(name="more", StudyInstanceUID=chests[0], Modality="DX")))
    archive.add(part10(chest(name="scan", StudyInstanceUID=scan, Modality="CT")))

    look = feed.first()

    assert look.cursor == "2026-03-01"
    assert set(look.sightings) == {Sighting(StudyRef(chests[0]), "2"), Sighting(StudyRef(chests[1]), "1")}
    assert feed.look(look.cursor) == look


class _Asked(BaseHTTPRequestHandler):
    """Answers every search with nothing, and keeps what was asked."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("cursor", "dates"),
    [("", "20260222-20260302"), ("2026-02-28", "20260221-20260302"), ("2025-12-31", "20251224-20260302")],
    ids=["first", "the day before", "down for two months"],
)
def test_a_look_goes_over_some_days_again_from_the_last_one_on(cursor: str, dates: str) -> None:
    _Asked.paths.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Asked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        look = qido_feed(Endpoint(url), days=7, today=lambda: TODAY).look(cursor)
        server.shutdown()

    assert look == Look((), "2026-03-01")
    assert len(_Asked.paths) == 3
    assert all(f"StudyDate={dates}" in path for path in _Asked.paths)


class _Orthanc(BaseHTTPRequestHandler):
    """Orthanc's answers about one change log; the acceptance tests ask the real one."""

    last: ClassVar[int] = 9
    page: ClassVar[dict[str, Any]] = {}
    body: ClassVar[bytes | None] = None

    def do_GET(self) -> None:
        self._told({"Changes": [], "Done": True, "Last": self.last} if "last" in self.path else self.page)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        series = {"i1": ("DX", "Any", "s1"), "i2": ("SR", "Sightline", "s2"), "i3": ("CT", "Any", "s3")}
        if asked["Level"] == "Study":
            self._told([{"MainDicomTags": {"StudyInstanceUID": f"1.2.{one[1:]}"}} for one in asked["Resources"]])
            return
        found = [series[one] for one in asked["Resources"] if one in series]
        self._told(
            [{"ParentStudy": study, "MainDicomTags": {"Modality": m, "Manufacturer": by}} for m, by, study in found]
        )

    def _told(self, content: Any) -> None:
        body = json.dumps(content).encode() if self.body is None else self.body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def orthanc_feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[OrthancFeed]:
    changes = [{"ChangeType": "NewInstance", "ID": f"i{number}", "Seq": number} for number in (1, 2, 3, 4)]
    changes.append({"ChangeType": "NewStudy", "ID": "s9", "Seq": 5})
    monkeypatch.setattr(_Orthanc, "page", {"Changes": changes, "Done": False, "Last": 5})
    with ThreadingHTTPServer(("127.0.0.1", 0), _Orthanc) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield OrthancFeed(Endpoint(f"http://127.0.0.1:{server.server_port}/", timeout_s=5))
        server.shutdown()


def test_the_change_log_shows_studies_with_new_images_but_not_our_results(orthanc_feed: OrthancFeed) -> None:
    assert orthanc_feed.first() == Look((), "9")
    assert orthanc_feed.look("0") == Look((Sighting(StudyRef("1.2.1"), "4"),), "5", more=True)


def test_a_change_log_that_begins_anew_is_read_from_its_beginning(
    orthanc_feed: OrthancFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Orthanc, "page", {"Changes": [], "Done": True, "Last": 700})

    assert orthanc_feed.look("700") == Look((), "", more=True)
    assert orthanc_feed.look("9") == Look((), "700")


def test_what_is_not_orthanc_is_waited_for(orthanc_feed: OrthancFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Orthanc, "body", b"<html>")

    with pytest.raises(TransientError, match="is it Orthanc"):
        orthanc_feed.first()


@pytest.mark.parametrize("feed", [OrthancFeed(Endpoint("http://127.0.0.1:9")), None])
def test_an_archive_that_does_not_answer_is_waited_for(feed: Any) -> None:
    feed = feed or qido_feed(Endpoint("http://127.0.0.1:9"), days=7, today=lambda: TODAY)

    with pytest.raises(SightlineError) as failed:
        feed.first()
    assert failed.value.retryable


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, None),
        ({"watch_s": 5, "archive_url": "http://a/dicom-web"}, "QidoFeed"),
        ({"watch_s": 5, "archive_url": "http://a/dicom-web", "orthanc_url": "http://a"}, "OrthancFeed"),
    ],
)
def test_the_settings_choose_how_the_archive_is_looked_at(settings: dict[str, Any], kind: str | None) -> None:
    watch = make_watch(Settings(**settings))

    assert (type(watch.feed).__name__ if watch else None) == kind


def test_looking_needs_a_server() -> None:
    with pytest.raises(InputError, match="SIGHTLINE_WATCH_S needs a server"):
        make_watch(Settings(watch_s=5))
