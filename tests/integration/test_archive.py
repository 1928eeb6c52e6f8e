"""Folders as people give them, and servers as they fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from builders import STUDY, chest, part10
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, SegmentationStorage

from model.values import View
from plugin.archive import folder_archive, index_of, sole_study_in, studies_in, web_archive
from plugin.endpoint import Endpoint
from plugin.errors import ConformanceError, InputError, SightlineError, TransientError
from plugin.values import ImageRef, StudyRef

HERE = StudyRef(STUDY)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def dicomdir() -> bytes:
    directory = Dataset()
    directory.DirectoryRecordSequence = []
    directory.SOPClassUID, directory.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    directory.file_meta = chest().file_meta
    return part10(directory)


# Folders


def test_junk_beside_the_images_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "DICOM/IM00001", part10(chest()))
    write(tmp_path, "DICOMDIR", dicomdir())
    write(tmp_path, "report.json", b"{}")
    write(tmp_path, "empty.dcm", b"")
    write(tmp_path, ".hidden", part10(chest(name="hidden")))
    write(tmp_path, "cut.dcm", part10(chest(name="cut"))[:200])
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    assert studies_in((tmp_path,)) == (HERE,)
    assert sole_study_in((tmp_path,)) == HERE
    assert len(folder_archive((tmp_path,)).describe(HERE)) == 1
    assert len(index_of((tmp_path,)).unusable) == 4


def test_files_may_be_given_one_by_one(tmp_path: Path) -> None:
    paths = tuple(write(tmp_path / name, "x", part10(chest(name=name))) for name in "ab")

    assert len(folder_archive(paths).describe(sole_study_in(paths))) == 2


def test_the_same_instance_twice_is_one_image(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name, part10(chest()))

    assert len(folder_archive((tmp_path,)).describe(HERE)) == 1


def test_implicit_vr_files_are_read(tmp_path: Path) -> None:
    dataset = chest()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    write(tmp_path, "a", part10(dataset))
    archive = folder_archive((tmp_path,))

    assert archive.read(archive.describe(HERE)[0].image).pixels.shape == (40, 48)


def test_several_threads_may_read(tmp_path: Path) -> None:
    write(tmp_path, "a", part10(chest()))
    archive = folder_archive((tmp_path,))
    seen: list[View] = []

    threads = [threading.Thread(target=lambda: seen.append(archive.describe(HERE)[0].view)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [View.FRONTAL] * 4


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, r"among 0 DICOM instances and 0 other files\.$"),
        ({"a.txt": b"words" * 50}, r"0 DICOM instances and 1 other files\. 1 file\(s\): The file is not DICOM"),
        ({"a.dcm": b""}, "1 file(s): The file is empty".replace("(", r"\(").replace(")", r"\)")),
        ({"DICOMDIR": dicomdir()}, "This is a DICOMDIR"),
        ({"a": part10(chest(StudyInstanceUID=None))}, "lacks StudyInstanceUID"),
        ({"a": part10(chest(SOPClassUID=SegmentationStorage))}, "among 1 DICOM instances"),
        ({"a": part10(chest()), "b": part10(chest(name="b", StudyInstanceUID="1.2.3"))}, "belong to 2 studies"),
    ],
)
def test_a_folder_without_exactly_one_study_says_what_it_holds(
    tmp_path: Path, files: dict[str, bytes], told: str
) -> None:
    for name, content in files.items():
        write(tmp_path, name, content)

    with pytest.raises(InputError, match=told):
        sole_study_in((tmp_path,))


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        folder_archive((tmp_path / "nowhere",))


def test_a_file_that_grew_absurd_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a", part10(chest()))
    with path.open("r+b") as stream:
        stream.truncate(2 * 1024**3)  # sparse

    assert index_of((tmp_path,)).unusable == ("A file is larger than 1024 MiB; no radiograph is.",)


def test_an_archive_without_a_folder_for_results_is_read_only(tmp_path: Path) -> None:
    write(tmp_path, "a", part10(chest()))

    with pytest.raises(InputError, match="read-only"):
        folder_archive((tmp_path,)).store(HERE, (part10(chest()),))


def test_results_are_written_whole_and_named_after_what_they_are(tmp_path: Path) -> None:
    content = part10(chest(SOPClassUID=SegmentationStorage, Modality="SEG"))

    folder_archive((), store_in=tmp_path / "new" / "out").store(HERE, (content,))

    (path,) = (tmp_path / "new" / "out").iterdir()
    assert path.name.startswith("SEG-2.25.")
    assert path.suffix == ".dcm"
    assert path.read_bytes() == content


def test_results_stored_earlier_are_found_again(tmp_path: Path) -> None:
    folder_archive((), store_in=tmp_path).store(HERE, (part10(chest()),))

    assert len(folder_archive((), store_in=tmp_path).describe(HERE)) == 1


def test_files_that_appear_later_are_found(tmp_path: Path) -> None:
    archive = folder_archive((tmp_path,))
    with pytest.raises(InputError, match="no such study"):
        archive.describe(HERE)
    half = write(tmp_path, "a", part10(chest())[:200])
    with pytest.raises(InputError, match="no such study"):
        archive.describe(HERE)

    half.write_bytes(part10(chest()))

    (described,) = archive.describe(HERE)
    assert archive.read(described.image).pixels.shape == (40, 48)


def test_an_instance_that_lies_in_the_folder_is_not_stored_again(tmp_path: Path) -> None:
    write(tmp_path, "whatever", part10(chest()))

    folder_archive((tmp_path,), store_in=tmp_path).store(HERE, (part10(chest()),))

    assert [path.name for path in tmp_path.iterdir()] == ["whatever"]


def test_a_result_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(TransientError, match="cannot be written"):
        folder_archive((), store_in=tmp_path).store(HERE, (part10(chest()),))
    assert list(tmp_path.iterdir()) == []


# Servers


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Start a server that gives one answer to everything; the address comes back."""
    servers = []

    def start(
        status: int, body: bytes = b"", content_type: str = "application/dicom+json", retry_after: str = ""
    ) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the names of http.server

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/dicom-web/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


IMAGE = ImageRef(HERE, "1.2.3", "1.2.4", "1.2.840.10008.5.1.4.1.1.1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, TransientError),
        (502, TransientError),
        (503, TransientError),
        (408, TransientError),
        (429, TransientError),
        (400, InputError),
        (401, InputError),
        (403, InputError),
        (404, InputError),
    ],
)
def test_a_server_that_refuses_to_answer(serving: Callable[..., str], status: int, kind: type[SightlineError]) -> None:
    archive = web_archive(Endpoint(serving(status)))

    with pytest.raises(kind, match=str(status)):
        archive.describe(HERE)
    with pytest.raises(kind, match=str(status)):
        archive.read(IMAGE)


@pytest.mark.parametrize("asked", ["90", "Fri, 31 Dec 9999 23:59:59 GMT", ""])
def test_a_busy_server_says_how_long_it_wants_to_be_left_alone(serving: Callable[..., str], asked: str) -> None:
    archive = web_archive(Endpoint(serving(503, retry_after=asked)))

    with pytest.raises(TransientError) as told:
        archive.describe(HERE)

    waits = told.value.retry_after_s
    assert waits == {"90": 90, "": None}.get(asked, waits)
    assert asked != "Fri, 31 Dec 9999 23:59:59 GMT" or (waits or 0) > 1e9


@pytest.mark.parametrize(
    ("status", "kind"), [(503, TransientError), (400, ConformanceError), (409, ConformanceError), (401, InputError)]
)
def test_a_server_that_refuses_to_store(serving: Callable[..., str], status: int, kind: type[SightlineError]) -> None:
    with pytest.raises(kind, match=str(status)):
        web_archive(Endpoint(serving(status))).store(HERE, (part10(chest()),))


def failure(reason: int, uid: str = "1.2.9") -> dict[str, Any]:
    """An item of FailedSOPSequence in DICOM JSON."""
    return {
        "00081150": {"vr": "UI", "Value": [SegmentationStorage]},
        "00081155": {"vr": "UI", "Value": [uid]},
        "00081197": {"vr": "US", "Value": [reason]},
    }


def told(*, failed: list[dict[str, Any]], stored: tuple[str, ...] = (), other: list[Any] | None = None) -> bytes:
    """A STOW-RS response (PS3.18 10.5.3)."""
    answer: dict[str, Any] = {"00081198": {"vr": "SQ", "Value": failed}} if failed else {}
    if stored:
        items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in stored]
        answer["00081199"] = {"vr": "SQ", "Value": items}
    if other:
        answer["0008119A"] = {"vr": "SQ", "Value": other}
    return json.dumps(answer).encode()


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        (0xA700, TransientError, "reason A700"),
        (0x0110, TransientError, "processing failure"),
        (0x0122, ConformanceError, "SOP class not supported"),
        (0xA900, ConformanceError, "reason A900"),
        (0x0124, InputError, "not permitted"),
    ],
)
def test_an_instance_that_failed_is_seen_whatever_the_status(
    serving: Callable[..., str], status: int, reason: int, kind: type[SightlineError], words: str
) -> None:
    answer = told(failed=[failure(reason)], stored=(chest().SOPInstanceUID,))

    with pytest.raises(kind, match=words) as failed:
        web_archive(Endpoint(serving(status, answer))).store(HERE, (part10(chest()),))
    assert SegmentationStorage in str(failed.value)


@pytest.mark.parametrize("status", [200, 202, 409])
def test_an_instance_that_is_there_already_is_stored(serving: Callable[..., str], status: int) -> None:
    answer = told(failed=[failure(0x0111, chest().SOPInstanceUID)])

    web_archive(Endpoint(serving(status, answer))).store(HERE, (part10(chest()),))


def test_an_instance_of_which_nothing_is_said_is_not_taken_as_stored(serving: Callable[..., str]) -> None:
    archive = web_archive(Endpoint(serving(200, told(failed=[], stored=(chest().SOPInstanceUID,)))))

    with pytest.raises(TransientError, match="1 of 2 instances"):
        archive.store(HERE, (part10(chest()), part10(chest(name="b"))))


def test_a_failure_without_an_instance_is_seen(serving: Callable[..., str]) -> None:
    archive = web_archive(
        Endpoint(serving(202, told(failed=[], other=[{"00081197": {"vr": "US", "Value": [0xC000]}}])))
    )

    with pytest.raises(ConformanceError, match="C000"):
        archive.store(HERE, (part10(chest()),))


class HalfFull(BaseHTTPRequestHandler):
    """A DICOMweb archive that has room for one instance at a time, and says so (202 with FailedSOPSequence)."""

    kept: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = body.split(b"Content-Type: application/dicom\r\n\r\n")[1:]
        sent = [str(dcmread(BytesIO(part)).SOPInstanceUID) for part in parts]
        new = [uid for uid in sent if uid not in self.kept]
        self.kept.update(new[:1])
        failed = [failure(0xA700, uid) for uid in new[1:]] + [failure(0x0111, u) for u in sent if u not in new]
        answer = told(failed=failed, stored=tuple(new[:1]))
        self.send_response(202 if failed else 200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


def test_what_failed_is_stored_by_the_next_try() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HalfFull)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    archive = web_archive(Endpoint(f"http://127.0.0.1:{server.server_port}/dicom-web"))
    instances = tuple(part10(chest(name=name)) for name in "ab")

    try:
        with pytest.raises(TransientError, match="A700"):
            archive.store(HERE, instances)
        archive.store(HERE, instances)
    finally:
        server.shutdown()
        server.server_close()

    assert HalfFull.kept == {chest(name=name).SOPInstanceUID for name in "ab"}


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[1, 2]", b'{"a": 1}', b"\xff\xfe"])
def test_an_answer_that_is_not_dicom(serving: Callable[..., str], body: bytes) -> None:
    with pytest.raises(SightlineError):
        web_archive(Endpoint(serving(200, body))).describe(HERE)


def test_metadata_with_one_broken_element_costs_only_that_element(serving: Callable[..., str]) -> None:
    dataset = chest(PixelData=None)
    metadata = dataset.to_json_dict() | {"00200013": {"vr": "IS", "Value": [{"not": "a number"}]}}
    metadata["7FE00010"] = {"vr": "OW", "BulkDataURI": "http://127.0.0.1/bulk"}

    (described,) = web_archive(Endpoint(serving(200, json.dumps([metadata]).encode()))).describe(HERE)

    assert described.view is View.FRONTAL
    assert described.instance_number == 0


def test_an_empty_study_is_no_study(serving: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="no such study"):
        web_archive(Endpoint(serving(200, b"[]"))).describe(HERE)


@pytest.mark.parametrize("url", ["ftp://archive/x", "nonsense", ""])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(InputError, match="not an HTTP address"):
        web_archive(Endpoint(url))


def test_a_server_that_hangs_is_given_up(serving: Callable[..., str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        archive = web_archive(Endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2))

        with pytest.raises(TransientError, match="does not answer"):
            archive.describe(HERE)
