"""Compressed radiographs, through the real codecs, and what happens when a codec fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pytest
from builders import chest, part10
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, RLELossless
from servers import ROOT

from plugin import child
from plugin.child import Child
from plugin.dicom import decoding
from plugin.dicom.codestream import frame_shape, frames_of
from plugin.dicom.decoding import PixelFormat, answer, decoded
from plugin.dicom.pixels import radiograph_of
from plugin.errors import InputError, TransientError


def lungs(*, signed: bool = False) -> np.ndarray:
    """A smooth image of 96 x 80, 12 bits, -2048 to 2047 when *signed*."""
    y, x = np.mgrid[-1:1:96j, -1:1:80j]
    dark = np.exp(-(((x - 0.45) / 0.3) ** 2) - (y / 0.6) ** 2) + np.exp(-(((x + 0.45) / 0.3) ** 2) - (y / 0.6) ** 2)
    values = np.round(4095 * (1 - 0.8 * dark) * (0.8 + 0.2 * y))
    return (values - 2048).astype(np.int16) if signed else np.clip(values, 0, 4095).astype(np.uint16)


def by_pydicom(dataset: Dataset, uid: str) -> bytes:
    dataset.compress(uid)
    return part10(dataset)


def by_gdcm(folder: Path, dataset: Dataset, syntax: int) -> bytes:
    """GDCM is told a file and writes a file."""
    (folder / "plain").write_bytes(part10(dataset))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(folder / "plain"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(folder / "compressed"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return (folder / "compressed").read_bytes()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", ["j2k", "rle", "jpeg lossless", "jpeg-ls"])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: str, signed: bool) -> None:
    plain = chest(lungs(signed=signed), WindowCenter=0 if signed else 2048, WindowWidth=4096)
    expected = radiograph_of(part10(plain))

    if syntax in ("j2k", "rle"):
        content = by_pydicom(plain, JPEG2000Lossless if syntax == "j2k" else RLELossless)
    else:
        names = {
            "jpeg lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
            "jpeg-ls": gdcm.TransferSyntax.JPEGLSLossless,
        }
        content = by_gdcm(tmp_path, plain, names[syntax])

    radiograph = radiograph_of(content)
    assert radiograph.source_sha256 == expected.source_sha256
    assert (radiograph.pixels == expected.pixels).all()
    assert "PixelData" not in dcmread(DicomBytesIO(radiograph.header))


def jpeg(values: np.ndarray, uid: str = JPEGBaseline8Bit) -> Dataset:
    frame = cv2.imencode(".jpg", (values >> 4).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    dataset = chest((values >> 4).astype(np.uint8), PixelData=encapsulate([frame]))
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = uid
    return dataset


def test_jpeg_baseline_is_read() -> None:
    pixels = radiograph_of(part10(jpeg(lungs()))).pixels

    expected = radiograph_of(chest((lungs() >> 4).astype(np.uint8))).pixels
    assert np.abs(pixels - expected).mean() < 0.02


def test_a_frame_in_several_fragments_is_read() -> None:
    dataset = jpeg(lungs())
    (frame,) = frames_of(dataset)
    split = [frame[:500], frame[500:]]
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + b"".join(
        b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in split
    )

    assert radiograph_of(part10(dataset)).source_sha256 == radiograph_of(part10(jpeg(lungs()))).source_sha256


# A decoder never allocates by a size that the header does not state.


def lying(dataset: Dataset, *, rows: int) -> Dataset:
    dataset.Rows = rows
    return dataset


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        (lying(jpeg(lungs()), rows=960), "its header says"),
        (jpeg(lungs(), JPEGExtended12Bit), None),
        (chest(lungs(), PixelData=encapsulate([b"not a codestream at all"])), "not what its transfer syntax"),
        (chest(lungs(), PixelData=encapsulate([b"\xff\xd8\xff\xd9"])), "not what its transfer syntax"),
        (chest(lungs(), PixelData=encapsulate([b"\xff\x4f\xff\x51short"])), "not what its transfer syntax"),
        (
            chest(lungs(), PixelData=b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\xff\xff\xff\x7f12"),
            "not what its transfer syntax",
        ),
        (chest(lungs(), PixelData=b"\1\2\3\4" * 10), "encapsulated"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_before_decoding(
    dataset: Dataset, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told is None:
        assert radiograph_of(dataset).pixels.shape == (96, 80)  # extended JPEG with 8 bits is what GDCM can read
        return
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    monkeypatch.setattr(decoding._CHILD, "ask", lambda *_: pytest.fail("the codec was asked"))

    with pytest.raises(InputError, match=told):
        radiograph_of(dataset)


def test_the_size_in_a_jpeg_2000_frame_is_found() -> None:
    dataset = dcmread(DicomBytesIO(by_pydicom(chest(lungs()), JPEG2000Lossless)))

    assert frame_shape(frames_of(dataset)[0], JPEG2000Lossless) == (96, 80, 1)


def test_the_size_in_a_jpeg_frame_is_found_behind_fill_bytes() -> None:
    (frame,) = frames_of(jpeg(lungs()))

    assert frame_shape(frame[:2] + b"\xff\xff" + frame[2:], JPEGBaseline8Bit) == (96, 80, 1)


# The worker process


def form() -> PixelFormat:
    return PixelFormat(96, 80, 8, 8, 7, signed=False, transfer_syntax=JPEGBaseline8Bit)


@pytest.fixture
def frame() -> bytes:
    return frames_of(jpeg(lungs()))[0]


def test_a_damaged_frame_is_refused_and_the_next_is_read(frame: bytes) -> None:
    with pytest.raises(InputError, match="cannot be decoded"):
        decoded(frame[:200], form())

    assert decoded(frame, form()).shape == (96, 80)


def test_a_dead_worker_is_replaced(frame: bytes) -> None:
    decoded(frame, form())
    process = decoding._CHILD._process
    assert process is not None
    process.kill()
    process.wait()

    assert decoded(frame, form()).shape == (96, 80)


def test_no_secret_of_the_settings_is_handed_to_the_worker(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_FHIR_TOKEN", "a-secret-of-the-settings")
    decoding._CHILD.close()

    decoded(frame, form())

    process = Path(f"/proc/{decoding._CHILD._running().pid}")
    for name in ("environ", "cmdline"):
        told = (process / name).read_bytes()
        assert told
        assert b"a-secret-of-the-settings" not in told


def test_a_worker_that_dies_or_hangs_costs_one_image(frame: bytes) -> None:
    decoded(frame, form())
    os.kill(decoding._CHILD._running().pid, signal.SIGSTOP)

    with pytest.raises(InputError, match="cannot be decoded"):
        decoded(frame, form(), timeout_s=0.2)

    assert decoded(frame, form()).shape == (96, 80)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Child]:
    """A child of a module with that text."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")

    def made(text: str) -> Child:
        (tmp_path / "hired.py").write_text(text, encoding="utf-8")
        return Child("hired")

    return made


def test_a_worker_that_is_slow_to_start_costs_no_image(module: Callable[[str], Child]) -> None:
    worker = module(
        "import time\nfrom plugin.child import serve_child\n"
        "time.sleep(4)\nserve_child(bytes.upper, memory_bytes=1 << 32)\n"
    )

    assert worker.ask(b"a", 3.5) == b"A"
    worker.close()


def test_a_worker_that_does_not_start_is_no_fault_of_the_image(module: Callable[[str], Child]) -> None:
    with pytest.raises(TransientError, match="cannot be started"):
        module("raise MemoryError").ask(b"a", 5)


def test_the_worker_answers_with_the_array_or_with_nothing(frame: bytes) -> None:
    request = decoding._request(frame, form())

    assert answer(request).startswith(b"\x93NUMPY")
    assert answer(request[:-400]) == b""
    assert answer(b"nonsense") == b""


def test_the_worker_serves_one_request_after_the_other(frame: bytes) -> None:
    request = decoding._request(frame, form())
    requests, answers = BytesIO(), BytesIO()
    for content in (request, b"nonsense", request):
        child.send(requests, content)
    requests.seek(0)

    child.serve(answer, requests, answers)

    answers.seek(0)
    first, second, third = (child.receive(answers) for _ in range(3))
    assert first == third == answer(request)
    assert second == b""
    with pytest.raises(EOFError):
        child.receive(answers)


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(EOFError):
        child.receive(BytesIO(b"\x10\0\0\0\0\0\0\0half"))


def test_the_worker_ends_with_its_input(frame: bytes) -> None:
    decoded(frame, form())

    decoding._CHILD.close()

    assert decoding._CHILD._process is None
