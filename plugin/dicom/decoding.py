"""Compressed pixel data, decoded in a process of its own.

Codecs are C and C++ libraries, and a damaged image can bring them down with the process that runs them: GDCM aborted on
3 of 3000 mutated JPEG lossless images. One worker process, started when first needed and again when it died, takes a
minimal DICOM file and answers with the array. It has a limit on memory and on time.
"""

from __future__ import annotations

import atexit
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from io import BytesIO
from threading import Lock, Timer
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, SecondaryCaptureImageStorage

from plugin.errors import InputError

TIMEOUT_S: Final = 30.0
MEMORY_BYTES: Final = 4 * 1024**3

#: Stored values as they are: no colour conversion, unused bits left to the caller.
AS_STORED: Final[dict[str, Any]] = {"view_only": True, "correct_unused_bits": False, "raw": True, "index": 0}

_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The image pixel module (PS3.3 C.7.6.3) of one greyscale frame."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    transfer_syntax: UID


def decoded(frame: bytes, form: PixelFormat, *, timeout_s: float = TIMEOUT_S) -> npt.NDArray[np.integer[Any]]:
    """The stored values (rows, columns) of a compressed *frame*.

    Raises
    ------
    InputError
        If the codec refuses, crashes on, or is not done with the image in time.
    """
    answer = _WORKER.ask(_request(frame, form), timeout_s)
    if not answer:
        raise InputError(f"The pixel data ({form.transfer_syntax.name}) cannot be decoded; is the file complete?")
    return np.asarray(np.load(BytesIO(answer), allow_pickle=False))


def _request(frame: bytes, form: PixelFormat) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2"
    dataset.Rows, dataset.Columns = form.rows, form.columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = form.bits_allocated, form.bits_stored, form.high_bit
    dataset.PixelRepresentation = int(form.signed)
    dataset.PixelData = encapsulate([frame])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = form.transfer_syntax
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


class _Worker:
    """The process, asked one image at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = Lock()
        atexit.register(self.close)

    def ask(self, request: bytes, timeout_s: float) -> bytes:
        """The answer, empty when the process failed, died or was too slow."""
        with self._lock:
            process = self._running()
            watchdog = Timer(timeout_s, process.kill)
            watchdog.start()
            try:
                _send(_pipe(process.stdin), request)
                return _receive(_pipe(process.stdout))
            except (OSError, EOFError):
                self._end()
                return b""
            finally:
                watchdog.cancel()

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        # A forked child must not share the pipes of its parent.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._end()
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "plugin.dicom.decoding"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # what was not sent cannot be flushed to a dead process
                continue


def _pipe(stream: Any) -> BinaryIO:
    return stream  # type: ignore[no-any-return]  # both are pipes, by construction


def _send(stream: BinaryIO, content: bytes) -> None:
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    content = stream.read(_LENGTH.unpack(head)[0])
    if len(content) < _LENGTH.unpack(head)[0]:
        raise EOFError
    return content


_WORKER: Final = _Worker()


def answer(request: bytes) -> bytes:
    """The decoded array in NumPy's format, or nothing when the codec refuses."""
    try:
        dataset = dcmread(BytesIO(request))
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        values, _ = decoder.as_array(dataset, **AS_STORED)
        stream = BytesIO()
        np.save(stream, values, allow_pickle=False)
        return stream.getvalue()
    except Exception:  # noqa: BLE001 - whatever a codec raises means that it refuses
        return b""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer *requests* on *answers* until they end."""
    while True:
        try:
            request = _receive(requests)
        except EOFError:
            return
        _send(answers, answer(request))


def main() -> None:
    """Serve standard input and output, with limits that a damaged image cannot pass."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # codecs print to standard output
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
