"""From stored pixel values to what the model sees: float32 in [0, 1], bright is dense.

Stored values have at most 16 bits, so that the whole grey-scale pipeline (modality LUT, VOI LUT or window, polarity,
padding; PS3.4 N.2) is computed once per possible value, and the image is one look-up.

Rules, where the standard leaves a choice:

- Of several VOI LUTs or windows the one explained as NORMAL is taken, else the first; a LUT goes before a window.
- A window that is not usable, or leaves the field flat, is replaced by the 1st and 99th percentile of the field.
- The image is inverted once if MONOCHROME1 or PresentationLUTShape INVERSE says so (PS3.3 C.8.11.3.1.2). Images for
  processing follow PixelIntensityRelationshipSign where it is given: +1 means bright is *more* X-ray, thus inverted.
- PatientOrientation alone turns an image. Nothing is mirrored on a guess.
- What a display shutter hides, and plain borders of one value, lie outside the field: they are set to 0, and noted.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import UID, RLELossless

from model.geometry import UPRIGHT, Orientation
from plugin.dicom.codestream import frame_shape, frames_of
from plugin.dicom.decoding import AS_STORED, PixelFormat, decoded
from plugin.dicom.header import (
    FOR_PROCESSING,
    UNREADABLE,
    description_of,
    header_bytes,
    integer,
    is_radiograph,
    items,
    numbers,
    read_part10,
    text,
    tolerant,
)
from plugin.errors import InputError
from plugin.values import Radiograph

#: The largest detectors have about 20 megapixels; beyond this the header is taken to be wrong.
MAX_PIXELS: Final = 100_000_000
#: Nothing can be grounded in less.
MIN_SIDE: Final = 16
#: A field that would be smaller than this part of the image is not believed.
MIN_FIELD: Final = 0.25

Stored = npt.NDArray[np.integer[Any]]  # uint16 or int16 (rows, columns)
Counts = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


def radiograph_of(source: Dataset | bytes) -> Radiograph:
    """One radiograph from its data set, or from the bytes of a DICOM file.

    Raises
    ------
    InputError
        If it is not DICOM, lacks identity or pixels, is colour or multi-frame, is too small, too large, truncated or
        flat, or is compressed in a way that cannot be decoded.
    """
    with tolerant():
        dataset = read_part10(source) if isinstance(source, bytes) else source
        description = description_of(dataset)
        if not is_radiograph(dataset):
            name = UID(description.image.sop_class_uid).name
            raise InputError(f"The instance is not a radiograph but {name}; expected CR or DX.")
        stored = _stored_values(dataset)
        field, notes = field_of(stored, dataset)
        spacing, kind, spacing_notes = spacing_of(dataset)
        orientation, orientation_notes = orientation_of(dataset)
        pixels, grey_notes = _grey(stored, dataset, field)
        return Radiograph(
            description=description,
            pixels=pixels,
            header=header_bytes(dataset),
            source_sha256=_digest(stored),
            orientation=orientation,
            spacing_mm=spacing,
            spacing_kind=kind,
            notes=(*notes, *grey_notes, *spacing_notes, *orientation_notes),
        )


def _digest(stored: Stored) -> str:
    rows, columns = stored.shape
    digest = hashlib.sha256(f"{rows}x{columns} {stored.dtype.name}\n".encode())
    digest.update(np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


# Stored values ---------------------------------------------------------------------------------------------------


def _format_of(dataset: Dataset) -> PixelFormat:
    """Refuse everything but one plausible greyscale frame, before anything is allocated."""
    if "PixelData" not in dataset:
        raise InputError("The instance has no Pixel Data of whole numbers; expected a radiograph with its image.")
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    if min(rows, columns) < MIN_SIDE or rows * columns > MAX_PIXELS:
        raise InputError(
            f"The image has {rows} rows and {columns} columns; expected at least {MIN_SIDE} of each"
            f" and at most {MAX_PIXELS // 10**6} megapixels."
        )
    photometric = text(dataset, "PhotometricInterpretation").upper()
    samples = integer(dataset, "SamplesPerPixel", 1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"The image has {samples} samples per pixel; expected one, MONOCHROME1 or MONOCHROME2: give the original"
            " greyscale image, not a colour capture."
        )
    frames = integer(dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise InputError(f"The image has {frames} frames; a radiograph has one.")
    allocated = integer(dataset, "BitsAllocated")
    stored = integer(dataset, "BitsStored", allocated)
    high = integer(dataset, "HighBit", stored - 1)
    if allocated not in (8, 16) or not 0 < stored <= high + 1 <= allocated:
        raise InputError(
            f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high} do not describe a radiograph."
        )
    return PixelFormat(
        rows, columns, allocated, stored, high, integer(dataset, "PixelRepresentation") == 1, _transfer_syntax(dataset)
    )


def _transfer_syntax(dataset: Dataset) -> UID:
    return UID(text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID"))


def _stored_values(dataset: Dataset) -> Stored:
    """Stored values as 16-bit integers (rows, columns), unused and overlay bits removed."""
    form = _format_of(dataset)
    try:
        get_decoder(form.transfer_syntax)
    except NotImplementedError as error:
        raise InputError(
            f"Transfer syntax {form.transfer_syntax.name!r} cannot be decoded; export it uncompressed or lossless."
        ) from error
    if not form.transfer_syntax.is_encapsulated:
        return _used_bits(_native(dataset, form), form)
    values = decoded(_frame(dataset, form), form)
    if values.shape != (form.rows, form.columns):
        raise InputError(f"The pixel data decode to {values.shape}, not to {(form.rows, form.columns)}.")
    # Codecs return whole values; native and RLE data may carry overlays in unused bits (PS3.5 8.1.1).
    return _used_bits(values, form) if form.transfer_syntax == RLELossless else _sixteen_bits(values)


def _native(dataset: Dataset, form: PixelFormat) -> Stored:
    actual = len(dataset.PixelData)
    expected = form.rows * form.columns * form.bits_allocated // 8
    if actual not in (expected, expected + 1):
        raise InputError(f"The pixel data hold {actual} bytes, expected {expected}; the file is truncated or damaged.")
    try:
        values, _ = get_decoder(form.transfer_syntax).as_array(dataset, **AS_STORED)
    except UNREADABLE as error:
        raise InputError("The pixel data cannot be read; is the file complete?") from error
    return np.asarray(values)


def _frame(dataset: Dataset, form: PixelFormat) -> bytes:
    """The compressed frame; it states its own size, which is compared before a decoder allocates by it."""
    frames = frames_of(dataset)
    if len(frames) != 1:
        raise InputError(f"The pixel data hold {len(frames)} compressed frames; expected one.")
    shape = frame_shape(frames[0], form.transfer_syntax)
    if shape not in (None, (form.rows, form.columns, 1)):
        raise InputError(
            f"The compressed image has rows, columns, samples {shape}; its header says {(form.rows, form.columns, 1)}."
        )
    return frames[0]


def _sixteen_bits(values: Stored) -> Stored:
    signed = np.issubdtype(values.dtype, np.signedinteger)
    return np.asarray(values, np.int16 if signed else np.uint16)


def _used_bits(values: Stored, form: PixelFormat) -> Stored:
    """Bits HighBit+1-BitsStored .. HighBit, the sign extended."""
    if form.bits_stored == form.bits_allocated == 16:
        return _sixteen_bits(values.astype(values.dtype.newbyteorder("="), copy=False))
    raw = values.astype(np.uint16)
    up, down = 15 - form.high_bit, 16 - form.bits_stored
    lifted = raw << np.uint16(up)
    return (lifted.view(np.int16) >> np.int16(down)) if form.signed else (lifted >> np.uint16(down))


# The field -------------------------------------------------------------------------------------------------------

Field = tuple[slice, slice]


def field_of(stored: Stored, dataset: Dataset) -> tuple[Field, tuple[str, ...]]:
    """The rows and columns that a display shutter leaves open and that are not plain border, and notes."""
    rows, columns = stored.shape
    field: Field = slice(0, rows), slice(0, columns)
    notes = []
    shutter = _shutter(dataset, rows, columns)
    if shutter is not None and _plausible(shutter, stored.shape):
        field = shutter
        notes.append("pixels behind the display shutter set to 0")
    inner = _without_border(stored, field)
    if inner != field and _plausible(inner, stored.shape):
        field = inner
        notes.append("plain border set to 0")
    return field, tuple(notes)


def _plausible(field: Field, shape: tuple[int, ...]) -> bool:
    height, width = field[0].stop - field[0].start, field[1].stop - field[1].start
    return bool(min(height, width) >= MIN_SIDE and height * width >= MIN_FIELD * shape[0] * shape[1])


def _shutter(dataset: Dataset, rows: int, columns: int) -> Field | None:
    """The rectangle of PS3.3 C.7.6.11; edges count from 1."""
    if "RECTANGULAR" not in text(dataset, "ShutterShape").upper().split("\\"):
        return None
    top, bottom = (
        integer(dataset, "ShutterUpperHorizontalEdge", 1),
        integer(dataset, "ShutterLowerHorizontalEdge", rows),
    )
    left, right = integer(dataset, "ShutterLeftVerticalEdge", 1), integer(dataset, "ShutterRightVerticalEdge", columns)
    return slice(max(0, top - 1), min(rows, bottom)), slice(max(0, left - 1), min(columns, right))


def _without_border(stored: Stored, field: Field) -> Field:
    """*field* less its outer lines of one value; up to 2 % of a line may differ (markers, dust)."""
    rows, columns = field
    inside = stored[rows, columns]
    step = max(1, min(inside.shape) // 256)
    sample = inside[::step, ::step].astype(np.int32)
    low, high = np.percentile(sample, (0.5, 99.5))
    tolerance = 0.005 * (high - low)
    top, bottom = _plain_ends(inside[:, ::step].astype(np.int32), tolerance)
    left, right = _plain_ends(inside[top : inside.shape[0] - bottom : step].T.astype(np.int32), tolerance)
    return (
        slice(rows.start + top, rows.stop - bottom),
        slice(columns.start + left, columns.stop - right),
    )


def _plain_ends(lines: npt.NDArray[np.int32], tolerance: float) -> tuple[int, int]:
    """How many first and how many last lines are plain; (0, 0) when all are, since then nothing can be told."""

    def run(towards: npt.NDArray[np.int32]) -> int:
        plain = (np.abs(towards - np.median(towards[0])) <= tolerance).mean(axis=1) >= 0.98
        return len(plain) if plain.all() else int(plain.argmin())

    if not lines.size:
        return 0, 0
    first, last = run(lines), run(lines[::-1])
    return (0, 0) if first + last >= len(lines) else (first, last)


# Grey scale ------------------------------------------------------------------------------------------------------


def _grey(stored: Stored, dataset: Dataset, field: Field) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Pixels as the model sees them, and notes."""
    domain = np.arange(65536, dtype=np.uint16).view(stored.dtype)  # every value, at the index that its bits make
    step = max(1, min(stored[field].shape) // 512)  # enough for percentiles
    counts = np.bincount(stored[field][::step, ::step].view(np.uint16).ravel(), minlength=65536)
    padding = _padding(dataset, domain)
    padded = bool(counts[padding].any())
    counts[padding] = 0
    if np.count_nonzero(counts) < 2:
        raise InputError("The image is flat: all pixels have one value; expected a radiograph.")
    table, notes = grey_table(dataset, domain, counts)
    table[padding] = 0
    pixels = np.zeros(stored.shape, np.float32)
    pixels[field] = table.astype(np.float32)[stored[field].view(np.uint16)]
    return pixels, (*notes, "padding pixels set to 0") if padded else notes


def grey_table(dataset: Dataset, domain: Stored, counts: Counts) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """The grey value in [0, 1] of each stored value of *domain*, bright is dense, and notes.

    Parameters
    ----------
    counts : how often each value occurs in the field; the percentiles come from it.

    Raises
    ------
    InputError
        If the modality LUT or rescale is not usable.
    """
    values = _modality(dataset, domain)
    windowed, notes = _voi(dataset, values)
    if windowed is not None and _spread(windowed, counts) >= 0.02:
        shown = windowed
    else:
        low, high = _percentiles(values, counts)
        if high <= low:
            low, high = float(values[counts > 0].min()), float(values[counts > 0].max())
        if high <= low:
            raise InputError("The image is flat after its modality transformation; expected a radiograph.")
        shown = np.clip((values - low) / (high - low), 0, 1)
        notes = (*notes, "no usable window in the header: windowed by the percentiles of the field")
    if _inverted(dataset):
        shown = 1 - shown
    return shown, notes


def _spread(shown: Floats, counts: Counts) -> float:
    low, high = _percentiles(shown, counts)
    return high - low


def _percentiles(values: Floats, counts: Counts) -> tuple[float, float]:
    """1st and 99th percentile of *values* that occur *counts* times."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(counts[order])
    low, high = np.searchsorted(total, (0.01 * total[-1], 0.99 * total[-1]), side="right")
    return float(values[order[min(low, order.size - 1)]]), float(values[order[min(high, order.size - 1)]])


def _modality(dataset: Dataset, domain: Stored) -> Floats:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    if not items(dataset, "ModalityLUTSequence"):
        slope, intercept = (numbers(dataset, name) for name in ("RescaleSlope", "RescaleIntercept"))
        given = text(dataset, "RescaleSlope"), text(dataset, "RescaleIntercept")
        if (given[0] and not slope) or (given[1] and not intercept) or slope[:1] == (0.0,):
            raise InputError("RescaleSlope or RescaleIntercept is not a finite number other than 0 for the slope.")
        return domain.astype(np.float64) * (slope or (1.0,))[0] + (intercept or (0.0,))[0]
    try:
        return np.asarray(apply_modality_lut(domain, dataset), np.float64)
    except UNREADABLE as error:
        raise InputError("The modality LUT is not usable (PS3.3 C.11.1).") from error


def _voi(dataset: Dataset, values: Floats) -> tuple[Floats | None, tuple[str, ...]]:
    """The chosen VOI LUT or window applied (PS3.3 C.11.2), or None when there is none to use."""
    luts = items(dataset, "VOILUTSequence")
    if luts:
        chosen = _normal(tuple(text(lut, "LUTExplanation") for lut in luts))
        try:
            bits = int(luts[chosen].LUTDescriptor[2])
            looked_up = np.asarray(apply_voi(np.rint(values).astype(np.int64), dataset, chosen), np.float64)
            return np.clip(looked_up / (2**bits - 1), 0, 1), ()
        except UNREADABLE:
            return None, ("the VOI LUT of the header is not usable",)
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centers or not widths:
        return None, ()
    chosen = _normal(tuple(text(dataset, "WindowCenterWidthExplanation").split("\\")))
    chosen = chosen if chosen < min(len(centers), len(widths)) else 0
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    shown = through_window(values, centers[chosen], widths[chosen], function=function)
    return shown, () if shown is not None else ("the window of the header is not usable",)


def _normal(explanations: tuple[str, ...]) -> int:
    return next((index for index, words in enumerate(explanations) if "NORMAL" in words.upper()), 0)


def through_window(values: Floats, center: float, width: float, *, function: str) -> Floats | None:
    """*values* through one window, in [0, 1]; None for a width or function that PS3.3 C.11.2.1 does not allow."""
    if function == "LINEAR" and width >= 1:
        # C.11.2.1.2.1: a width of 1 is a step.
        ramp = (values - (center - 0.5)) / (width - 1) + 0.5 if width > 1 else values > center - 0.5
        return np.asarray(np.clip(ramp, 0, 1), np.float64)
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function == "SIGMOID" and width > 0:
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    return None


def _inverted(dataset: Dataset) -> bool:
    sign = integer(dataset, "PixelIntensityRelationshipSign")
    if sign and text(dataset, "SOPClassUID") == FOR_PROCESSING:
        return sign > 0
    if text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1":
        return True
    return text(dataset, "PresentationLUTShape").upper() == "INVERSE"


def _padding(dataset: Dataset, domain: Stored) -> npt.NDArray[np.bool_]:
    """Which values of *domain* are padding (PS3.3 C.7.5.1.1.2)."""
    if not numbers(dataset, "PixelPaddingValue"):
        return np.zeros(domain.shape, np.bool_)
    value = integer(dataset, "PixelPaddingValue")
    limit = integer(dataset, "PixelPaddingRangeLimit", value)
    if domain.dtype == np.int16:  # some writers give the unsigned reading of a signed value
        value, limit = (number - 65536 if number > 32767 else number for number in (value, limit))
    return np.asarray((domain >= min(value, limit)) & (domain <= max(value, limit)))


# Geometry --------------------------------------------------------------------------------------------------------


def spacing_of(dataset: Dataset) -> tuple[tuple[float, float] | None, str, tuple[str, ...]]:
    """(row, column) spacing in mm, "patient", "detector" or "none", and notes (PS3.3 10.7.1.3).

    PixelSpacing is of the patient when it says that it is calibrated, or differs from ImagerPixelSpacing; spacing at
    the detector is divided by EstimatedRadiographicMagnificationFactor where that is given.
    """
    pixel, imager = _pair(dataset, "PixelSpacing"), _pair(dataset, "ImagerPixelSpacing")
    detector = imager or _pair(dataset, "NominalScannedPixelSpacing")
    calibrated = text(dataset, "PixelSpacingCalibrationType") or (imager and imager != pixel)
    if pixel and calibrated:
        return pixel, "patient", ()
    magnification = (numbers(dataset, "EstimatedRadiographicMagnificationFactor") or (0.0,))[0]
    if imager and 1 <= magnification < 3:
        corrected = imager[0] / magnification, imager[1] / magnification
        return corrected, "patient", ("spacing corrected by EstimatedRadiographicMagnificationFactor",)
    if detector or pixel:
        return detector or pixel, "detector", ()
    return None, "none", ()


def _pair(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    found = numbers(dataset, keyword)
    # Hundredths to tens of millimetres per pixel is what X-ray detectors and shrunken copies have.
    return (found[0], found[1]) if len(found) == 2 and all(0.01 <= size <= 20 for size in found) else None


def orientation_of(dataset: Dataset) -> tuple[Orientation, tuple[str, ...]]:
    """How the stored matrix is turned upright, from PatientOrientation (PS3.3 C.7.6.1.1.1), and notes.

    Its first value is where the rows point to (to the viewer's right), its second where the columns point to (down).
    """
    directions = text(dataset, "PatientOrientation").upper().split("\\")
    along_row, down = (direction[:1] for direction in (*directions, "", "")[:2])
    turn = _TURNS.get((along_row, down))
    if turn is not None:
        return turn, () if turn == UPRIGHT else (f"turned upright from PatientOrientation {along_row}\\{down}",)
    told = "says nothing usable" if any(directions) else "is absent"
    flipped = text(dataset, "FieldOfViewHorizontalFlip").upper() == "YES" or integer(dataset, "FieldOfViewRotation")
    hint = "; the detector's field of view was turned or flipped" if flipped else ""
    return UPRIGHT, (f"PatientOrientation {told}: the image is taken as stored upright{hint}",)


_TURNS: Final = {
    ("L", "F"): UPRIGHT,
    ("R", "F"): Orientation(reverse_columns=True),
    ("L", "H"): Orientation(reverse_rows=True),
    ("R", "H"): Orientation(reverse_rows=True, reverse_columns=True),
    ("F", "L"): Orientation(transpose=True),
    ("H", "L"): Orientation(transpose=True, reverse_rows=True),
    ("F", "R"): Orientation(transpose=True, reverse_columns=True),
    ("H", "R"): Orientation(transpose=True, reverse_rows=True, reverse_columns=True),
}
