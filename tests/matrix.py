"""The sources that our results are held against: a small set of cells in which every pair of choices occurs.

``CELLS`` is all of them; ``sources_of(cell)`` gives the DICOM files as an archive would hold them, and
``evidence_of(cell)`` the evidence on the same images, read back from those files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from io import BytesIO
from itertools import combinations, product
from pathlib import Path

import gdcm
import numpy as np
import numpy.typing as npt
from evidence import (
    LUNG,
    NODULE,
    make_evidence,
    make_header,
    make_phrase,
    make_pixels,
    make_report,
    part10,
    rectangle,
)
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from model.values import State
from nlp.phrases import Laterality
from plugin.dicom.pixels import radiograph_of
from plugin.identity import derived_uid, sha256_hex
from plugin.values import Evidence, GroundedPhrase, Placement, Radiograph

#: What each choice may be; the first is the ordinary one.
CHOICES: dict[str, tuple[str | int, ...]] = {
    "bits": (12, 8, 10, 15, 16),
    "syntax": ("plain", "JPEG lossless", "JPEG 2000", "JPEG-LS", "RLE"),
    "phrases": ("every fate", "one", "forty", "none lit"),
    "modality": ("DX", "CR"),
    "photometric": ("MONOCHROME2", "MONOCHROME1"),
    "shape": ("portrait", "landscape"),
    "spacing": ("square", "non-square", "none"),
    "turned": ("upright", "quarter turn", "half turn"),
    "name": ("plain", "Japanese", "German"),
    "images": (1, 2),
}
SPACINGS = {"square": (0.2, 0.2), "non-square": (0.1, 0.3), "none": None}
SIDES = {"portrait": (240, 200), "landscape": (200, 260)}  # rows, columns of the upright picture
# Patient Orientation (along a row, down a column), and quarter turns that made the stored picture from the upright one.
TURNS = {"upright": (("L", "F"), 0), "quarter turn": (("F", "R"), 1), "half turn": (("R", "H"), 2)}
NAMES: dict[str, dict[str, str | list[str]]] = {
    "plain": {"patient_name": "Example^Anna", "character_set": "ISO_IR 192"},
    "Japanese": {"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう", "character_set": ["", "ISO 2022 IR 87"]},
    "German": {"patient_name": "Größler^Jörg^^Dr.", "character_set": "ISO_IR 100"},
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix; every field is one of its :data:`CHOICES`."""

    bits: int
    syntax: str
    phrases: str
    modality: str
    photometric: str
    shape: str
    spacing: str
    turned: str
    name: str
    images: int

    def __str__(self) -> str:
        return ", ".join(str(getattr(self, field.name)) for field in fields(self))


ORDINARY = Cell(**{name: values[0] for name, values in CHOICES.items()})  # type: ignore[arg-type]


Choice = tuple[str, str | int]


def _covering() -> Iterator[Cell]:
    """Greedy all-pairs: each cell begins with the first pair that no cell has yet, and takes what adds most others."""
    order = [*CHOICES]
    wanted = {
        ((one, this), (other, that)): None
        for one, other in combinations(order, 2)
        for this, that in product(CHOICES[one], CHOICES[other])
    }

    def gain(taken: dict[str, str | int], choice: Choice) -> int:
        pairs = (sorted((given, choice), key=lambda each: order.index(each[0])) for given in taken.items())
        return sum(tuple(pair) in wanted for pair in pairs)

    while wanted:
        taken = dict(next(iter(wanted)))
        for name in (name for name in order if name not in taken):
            taken[name] = max(CHOICES[name], key=lambda value: gain(taken, (name, value)))
        for pair in combinations(((name, taken[name]) for name in order), 2):
            wanted.pop(pair, None)
        yield Cell(**taken)  # type: ignore[arg-type]


CELLS = tuple(_covering())


# The source


def sources_of(cell: Cell) -> tuple[bytes, ...]:
    """The DICOM files of *cell*, one for each image; the second is as the first in the other shape."""
    return tuple(source_of(cell, number=number) for number in range(1, cell.images + 1))


def source_of(cell: Cell, *, number: int = 1) -> bytes:
    """One DICOM file of *cell*, with pixels, in its transfer syntax."""
    upright = make_pixels(*(SIDES[cell.shape] if number == 1 else reversed(SIDES[cell.shape])))
    directions, quarters = TURNS[cell.turned]
    shown = np.rot90(upright, quarters)
    header = make_header(
        rows=shown.shape[0],
        columns=shown.shape[1],
        modality=cell.modality,
        photometric=cell.photometric,
        spacing=SPACINGS[cell.spacing],
        patient_orientation=directions,
        frame_of_reference=cell.modality == "DX",  # the CR Image IOD has none
        number=number,
        **NAMES[cell.name],  # type: ignore[arg-type]
    )
    header.ViewPosition = "PA" if number == 1 else "AP"  # a second PA would count as a repeat of the first
    _add_pixels(header, shown, bits=cell.bits)
    return _ENCODERS[cell.syntax](header)


def _add_pixels(header: Dataset, shown: npt.NDArray[np.float32], *, bits: int) -> None:
    top, kind = (1 << bits) - 1, "<u1" if bits == 8 else "<u2"
    stored = np.round(shown * top).astype(kind)
    header.BitsAllocated, header.BitsStored, header.HighBit = 8 * stored.itemsize, bits, bits - 1
    header.WindowCenter, header.WindowWidth = str(1 << (bits - 1)), str(1 << bits)
    header.PixelData = (top - stored if header.PhotometricInterpretation == "MONOCHROME1" else stored).tobytes()
    header["PixelData"].VR = "OB" if bits == 8 else "OW"


def _by_pydicom(header: Dataset, syntax: str) -> bytes:
    dataset = dcmread(BytesIO(part10(header)))
    dataset.compress(syntax, generate_instance_uid=False)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _by_gdcm(header: Dataset, syntax: int) -> bytes:
    """GDCM is told a file and writes a file; only its frame is taken, since it makes up a spacing where none is."""
    with tempfile.TemporaryDirectory() as folder:
        plain, compressed = Path(folder, "plain"), Path(folder, "compressed")
        plain.write_bytes(part10(header))
        reader = gdcm.ImageReader()
        reader.SetFileName(os.fspath(plain))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        read = reader.Read()
        change.SetInput(reader.GetImage())
        changed = change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(os.fspath(compressed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not (read and changed and writer.Write()):
            raise RuntimeError("GDCM cannot compress the source")
        written = dcmread(compressed)
    header.PixelData, header["PixelData"].VR = written.PixelData, "OB"
    header["PixelData"].is_undefined_length = True
    return part10(header, syntax=written.file_meta.TransferSyntaxUID)


_ENCODERS: dict[str, Callable[[Dataset], bytes]] = {
    "plain": part10,
    "JPEG lossless": partial(_by_gdcm, syntax=gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    "JPEG 2000": partial(_by_pydicom, syntax=JPEG2000Lossless),
    "JPEG-LS": partial(_by_gdcm, syntax=gdcm.TransferSyntax.JPEGLSLossless),
    "RLE": partial(_by_pydicom, syntax=RLELossless),
}


# The evidence


def evidence_of(cell: Cell) -> Evidence:
    """Evidence on the images of *cell* as :func:`plugin.dicom.pixels.radiograph_of` reads them."""
    images = tuple(radiograph_of(source) for source in sources_of(cell))
    return _PHRASES[cell.phrases](make_evidence(*images))


def _only_one(evidence: Evidence) -> Evidence:
    return replace(evidence, phrases=next((phrase,) for phrase in evidence.phrases if phrase.lit))


def _none_lit(evidence: Evidence) -> Evidence:
    return replace(evidence, phrases=tuple(phrase for phrase in evidence.phrases if not phrase.lit))


def _forty(evidence: Evidence) -> Evidence:
    """Forty lit phrases in a grid of eight rows, each overlapping its right neighbour."""
    texts = tuple(f"nodule number {number} of the left lung" for number in range(1, 41))
    report = make_report(". ".join(texts) + ".")
    phrases = tuple(
        GroundedPhrase(
            phrase=make_phrase(text, NODULE, source=report.text, laterality=Laterality.LEFT, sites=(LUNG,)),
            tracking_id=f"{at + 1} nodule",
            tracking_uid=derived_uid("test", "forty", str(at)),
            placements=tuple(_grid_placement(image, at) for image in evidence.images),
        )
        for at, text in enumerate(texts)
    )
    provenance = replace(evidence.provenance, report_sha256=sha256_hex(report.text.encode()))
    return replace(evidence, report=report, phrases=phrases, provenance=provenance)


def _grid_placement(image: Radiograph, at: int) -> Placement:
    rows, columns = image.pixels.shape
    left, top = columns * (at % 5) / 5, rows * (at // 5) / 8
    right, bottom = min(left + columns / 4, columns), top + rows / 10
    return Placement(image.ref, State.FOUND, 0.5 + at / 100, regions=(rectangle(left, top, right, bottom),))


_PHRASES: dict[str, Callable[[Evidence], Evidence]] = {
    "every fate": lambda evidence: evidence,
    "one": _only_one,
    "forty": _forty,
    "none lit": _none_lit,
}
