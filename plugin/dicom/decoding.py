"""Compressed pixel data, decoded in a process of its own.

Codecs are C and C++ libraries, and a damaged image can bring them down with the process that runs them: GDCM aborted on
3 of 3000 mutated JPEG lossless images. One worker process, started when first needed and again when it died, takes a
minimal DICOM file and answers with the array. It has a limit on memory and on time.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, SecondaryCaptureImageStorage

from plugin.child import Child, serve_child
from plugin.errors import InputError

TIMEOUT_S: Final = 30.0
MEMORY_BYTES: Final = 4 * 1024**3

#: Stored values as they are: no colour conversion, unused bits left to the caller.
AS_STORED: Final[dict[str, Any]] = {"view_only": True, "correct_unused_bits": False, "raw": True, "index": 0}


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
    TransientError
        If the process that does it cannot be started now.
    """
    answer = _CHILD.ask(_request(frame, form), timeout_s)
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


_CHILD: Final = Child("plugin.dicom.decoding")


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


if __name__ == "__main__":
    serve_child(answer, memory_bytes=MEMORY_BYTES)
