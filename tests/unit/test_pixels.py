"""From stored values to grey values: the tables of the standard, and what is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from builders import chest, gradient, part10
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from model.geometry import UPRIGHT, Orientation
from plugin.dicom.pixels import field_of, radiograph_of
from plugin.errors import InputError


def windowed(dataset: Dataset) -> Any:
    """pydicom's answer, scaled to [0, 1] by the output range that it uses (PS3.3 C.11.2.1.2)."""
    lowest, highest = 0, 2**dataset.BitsStored - 1
    if dataset.PixelRepresentation:
        lowest, highest = -(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1
    slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
    ends = lowest * slope + intercept, highest * slope + intercept
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    return (shown - ends[0]) / (ends[1] - ends[0])


def lut(values: list[int], *, first: int = 0, bits: int = 16, explanation: str = "") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values), first, bits])
    item.add_new("LUTData", "US", values)
    item.LUTExplanation = explanation
    return item


# Grey scale


@settings(max_examples=40)
@given(
    center=st.floats(-500, 4500),
    width=st.floats(300, 6000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    signed=st.booleans(),
    slope=st.sampled_from([1, 0.5, 2.25]),
    intercept=st.sampled_from([0, -1000, 12.5]),
)
def test_a_window_gives_what_pydicom_gives(
    center: float, width: float, function: str, signed: bool, slope: float, intercept: float
) -> None:
    values = gradient(kind=np.int16) - 2048 if signed else gradient()
    dataset = chest(
        values,
        WindowCenter=f"{center:.4f}",
        WindowWidth=f"{width:.4f}",
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )

    radiograph = radiograph_of(part10(dataset))

    expected = np.clip(windowed(dataset), 0, 1)
    if not any("no usable window" in note for note in radiograph.notes):
        assert np.allclose(radiograph.pixels, expected, atol=1e-5)
    else:
        assert np.ptp(np.percentile(expected, (1, 99))) < 0.03


@settings(max_examples=40)
@given(first=st.integers(-100, 100), bits=st.integers(8, 16), entries=st.integers(2, 300))
def test_a_voi_lut_gives_what_pydicom_gives(first: int, bits: int, entries: int) -> None:
    table = np.linspace(0, 2**bits - 1, entries).astype(int).tolist()
    dataset = chest(gradient(top=255), VOILUTSequence=[lut(table, first=first, bits=bits)])

    radiograph = radiograph_of(dataset)

    if not any("no usable window" in note for note in radiograph.notes):
        expected = apply_voi_lut(dataset.pixel_array.astype(np.int16), dataset) / (2**bits - 1)
        assert np.allclose(radiograph.pixels, expected, atol=1e-6)


def test_a_modality_lut_comes_before_the_window() -> None:
    table = (np.arange(4096) // 2 + 100).tolist()
    item = lut(table)
    item.ModalityLUTType = "US"
    dataset = chest(ModalityLUTSequence=[item], WindowCenter=1124, WindowWidth=2048)

    pixels = radiograph_of(dataset).pixels

    stored = gradient()
    assert np.allclose(pixels, np.clip((stored // 2 + 100 - 1123.5) / 2047 + 0.5, 0, 1), atol=1e-6)


def test_of_several_windows_the_one_called_normal_is_taken() -> None:
    several = chest(WindowCenter=[100, 2000], WindowWidth=[50, 4000], WindowCenterWidthExplanation=["HARDER", "Normal"])

    assert (radiograph_of(several).pixels == radiograph_of(chest(WindowCenter=2000, WindowWidth=4000)).pixels).all()


def test_of_several_windows_without_names_the_first_is_taken() -> None:
    several = chest(WindowCenter=[1500, 100], WindowWidth=[3000, 50])

    assert (radiograph_of(several).pixels == radiograph_of(chest(WindowCenter=1500, WindowWidth=3000)).pixels).all()


def test_of_several_voi_luts_the_one_called_normal_is_taken() -> None:
    steep, plain = lut([0] * 4000 + [65535] * 96), lut(np.linspace(0, 65535, 4096).astype(int).tolist())
    plain.LUTExplanation = "NORMAL"

    pixels = radiograph_of(chest(VOILUTSequence=[steep, plain])).pixels

    assert np.allclose(pixels, gradient() / 4095, atol=1e-3)


def test_without_a_window_the_field_fills_the_range() -> None:
    radiograph = radiograph_of(chest())

    assert radiograph.pixels.min() == 0
    assert radiograph.pixels.max() == 1
    assert radiograph.pixels.mean() == pytest.approx(0.5, abs=0.01)
    assert any("percentiles" in note for note in radiograph.notes)


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 100000, "WindowWidth": 10},
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"WindowCenter": 2000, "WindowWidth": -100},
        {"WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": "WHO_KNOWS"},
        {"VOILUTSequence": [lut([0, 0, 0, 0])]},
        {"VOILUTSequence": [Dataset()]},
    ],
)
def test_a_window_that_shows_nothing_is_replaced(window: dict[str, Any]) -> None:
    radiograph = radiograph_of(chest(**window))

    assert (radiograph.pixels == radiograph_of(chest()).pixels).all()
    assert any("no usable window" in note for note in radiograph.notes)


def test_a_window_width_of_one_is_a_step() -> None:
    pixels = radiograph_of(chest(WindowCenter=2000, WindowWidth=1)).pixels

    assert (pixels == (gradient() >= 2000)).all()


@pytest.mark.parametrize(
    ("attributes", "inverted"),
    [
        ({"PhotometricInterpretation": "MONOCHROME2"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"}, True),
        ({"PixelIntensityRelationshipSign": 1}, False),
        ({"SOPClassUID": DigitalXRayImageStorageForProcessing, "PixelIntensityRelationshipSign": 1}, True),
        ({"SOPClassUID": DigitalXRayImageStorageForProcessing, "PixelIntensityRelationshipSign": -1}, False),
        (
            {
                "SOPClassUID": DigitalXRayImageStorageForProcessing,
                "PhotometricInterpretation": "MONOCHROME1",
                "PixelIntensityRelationshipSign": 1,
            },
            True,
        ),
    ],
)
def test_bright_is_dense_whatever_the_polarity(attributes: dict[str, Any], inverted: bool) -> None:
    pixels = radiograph_of(chest(WindowCenter=2048, WindowWidth=4096, **attributes)).pixels

    upright = gradient() / 4095
    assert np.allclose(pixels, 1 - upright if inverted else upright, atol=1e-3)


# Stored values


@pytest.mark.parametrize(("bits", "high", "signed"), [(12, 11, False), (12, 11, True), (12, 15, False), (10, 12, True)])
def test_overlay_bits_and_sign_are_taken_apart(bits: int, high: int, signed: bool) -> None:
    values = gradient(top=2**bits - 1).astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    shift = high + 1 - bits
    outside = 0xFFFF & ~(((1 << bits) - 1) << shift)
    raw = (((values & ((1 << bits) - 1)) << shift) | outside).astype(np.uint16)
    dataset = chest(raw, BitsStored=bits, HighBit=high, PixelRepresentation=int(signed), RescaleSlope=1)

    radiograph = radiograph_of(dataset)

    plain = chest(values.astype(np.int16 if signed else np.uint16), BitsStored=bits)
    assert radiograph.source_sha256 == radiograph_of(plain).source_sha256
    assert (radiograph.pixels == radiograph_of(plain).pixels).all()


def test_eight_bits_of_odd_length_are_read() -> None:
    values = gradient(41, 47, top=255, kind=np.uint8)

    assert radiograph_of(part10(chest(values))).pixels.shape == (41, 47)


def test_big_endian_and_implicit_files_hold_the_same_values() -> None:
    little = chest(BitsStored=16)
    big = chest(gradient().byteswap(), BitsStored=16)
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    implicit = chest(BitsStored=16)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    digests = {radiograph_of(part10(dataset)).source_sha256 for dataset in (little, big, implicit)}

    assert len(digests) == 1


def test_the_digest_is_of_values_and_shape_not_of_the_header() -> None:
    one = radiograph_of(chest()).source_sha256

    assert radiograph_of(chest(PatientID="other", WindowCenter=1, WindowWidth=2)).source_sha256 == one
    assert radiograph_of(chest(gradient(48, 40))).source_sha256 != one
    changed = gradient()
    changed[3, 4] += 1
    assert radiograph_of(chest(changed)).source_sha256 != one


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_without_meta_information_is_read_as_its_elements_look(syntax: str) -> None:
    dataset = chest()
    dataset.file_meta.TransferSyntaxUID = syntax
    content = part10(dataset)
    length = int.from_bytes(content[140:144], "little")

    bare = radiograph_of(content[144 + length :])

    assert bare.source_sha256 == radiograph_of(content).source_sha256
    assert dcmread(DicomBytesIO(bare.header)).file_meta.TransferSyntaxUID == syntax


# Padding, field


def test_padding_is_dark_and_takes_no_part_in_the_window() -> None:
    values = gradient(80, 80, top=1000) + 1000
    values[:, :20] = 4000
    padded = chest(values, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095)

    radiograph = radiograph_of(padded)

    assert (radiograph.pixels[:, :20] == 0).all()
    assert radiograph.pixels[:, 20:].max() == 1
    assert "padding pixels set to 0" in radiograph.notes or "plain border set to 0" in radiograph.notes


def test_signed_padding_written_as_unsigned_is_understood() -> None:
    values = gradient(80, 80, kind=np.int16)
    values[10:20, 10:20] = -2000
    dataset = chest(values, BitsStored=16)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)

    radiograph = radiograph_of(dataset)

    assert (radiograph.pixels[10:20, 10:20] == 0).all()
    assert "padding pixels set to 0" in radiograph.notes


@pytest.mark.parametrize("value", [0, 4095])
def test_a_plain_border_is_outside_the_field(value: int) -> None:
    values = np.full((120, 100), value, np.uint16)
    values[10:110, 15:90] = gradient(100, 75, top=2000) + 1000
    values[4:8, 50:52] = 1234  # a marker in the border

    field, notes = field_of(values, chest(values))

    assert field == (slice(10, 110), slice(15, 90))
    assert notes == ("plain border set to 0",)
    pixels = radiograph_of(chest(values)).pixels
    assert (pixels[:10] == 0).all()
    assert (pixels[:, 90:] == 0).all()


def test_a_field_that_would_be_tiny_is_not_believed() -> None:
    values = np.full((100, 100), 7, np.uint16)
    values[40:60, 40:60] = gradient(20, 20)

    field, notes = field_of(values, chest(values))

    assert field == (slice(0, 100), slice(0, 100))
    assert notes == ()


def test_what_the_shutter_hides_is_dark() -> None:
    shutter = {
        "ShutterShape": "RECTANGULAR",
        "ShutterUpperHorizontalEdge": 5,
        "ShutterLowerHorizontalEdge": 36,
        "ShutterLeftVerticalEdge": 3,
        "ShutterRightVerticalEdge": 46,
    }

    radiograph = radiograph_of(chest(PhotometricInterpretation="MONOCHROME1", **shutter))

    outside = np.ones((40, 48), bool)
    outside[4:36, 2:46] = False
    assert (radiograph.pixels[outside] == 0).all()
    assert radiograph.pixels[4:36, 2:46].max() == 1
    assert "pixels behind the display shutter set to 0" in radiograph.notes


def test_a_shutter_that_would_hide_almost_all_is_not_believed() -> None:
    shutter = {"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": 500, "ShutterRightVerticalEdge": 3}

    assert (radiograph_of(chest(**shutter)).pixels == radiograph_of(chest()).pixels).all()


# Geometry


@pytest.mark.parametrize(
    ("directions", "expected"),
    [
        (["L", "F"], UPRIGHT),
        (["L", "FP"], UPRIGHT),
        (["R", "F"], Orientation(reverse_columns=True)),
        (["L", "H"], Orientation(reverse_rows=True)),
        (["R", "H"], Orientation(reverse_rows=True, reverse_columns=True)),
        (["F", "L"], Orientation(transpose=True)),
        (["H", "L"], Orientation(transpose=True, reverse_rows=True)),
        (["F", "R"], Orientation(transpose=True, reverse_columns=True)),
        (["H", "R"], Orientation(transpose=True, reverse_rows=True, reverse_columns=True)),
    ],
)
def test_patient_orientation_turns_the_image_upright(directions: list[str], expected: Orientation) -> None:
    assert radiograph_of(chest(PatientOrientation=directions)).orientation == expected


@pytest.mark.parametrize("directions", [(a, b) for a in "LRHF" for b in "LRHF" if (a in "LR") != (b in "LR")])
def test_a_turned_plate_comes_back_upright(directions: tuple[str, str]) -> None:
    """Each stored pixel says how far to the patient's left and to the feet it lies: upright, both must grow."""
    y, x = np.mgrid[:40, :48].astype(np.float32)
    towards = dict(zip(directions, (x, y), strict=True))
    left = towards["L"] if "L" in towards else -towards["R"]
    foot = towards["F"] if "F" in towards else -towards["H"]

    turn = radiograph_of(chest(PatientOrientation=list(directions))).orientation

    assert (np.diff(turn.apply(left), axis=1) > 0).all()
    assert (np.diff(turn.apply(foot), axis=0) > 0).all()


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"PatientOrientation": None}, "is absent"),
        ({"PatientOrientation": ["A", "F"]}, "says nothing usable"),
        ({"PatientOrientation": ["L", "R"]}, "says nothing usable"),
        ({"PatientOrientation": None, "FieldOfViewHorizontalFlip": "YES"}, "turned or flipped"),
        ({"PatientOrientation": None, "FieldOfViewRotation": 90}, "turned or flipped"),
    ],
)
def test_nothing_is_mirrored_on_a_guess(attributes: dict[str, Any], told: str) -> None:
    radiograph = radiograph_of(chest(**attributes))

    assert radiograph.orientation == UPRIGHT
    assert any(told in note for note in radiograph.notes)


@pytest.mark.parametrize(
    ("attributes", "spacing", "kind"),
    [
        ({}, None, "none"),
        ({"PixelSpacing": [0.14, 0.15]}, (0.14, 0.15), "detector"),
        ({"ImagerPixelSpacing": [0.14, 0.15]}, (0.14, 0.15), "detector"),
        ({"PixelSpacing": [0.14, 0.14], "ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14), "detector"),
        ({"PixelSpacing": [0.12, 0.12], "ImagerPixelSpacing": [0.14, 0.14]}, (0.12, 0.12), "patient"),
        ({"PixelSpacing": [0.12, 0.12], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.12, 0.12), "patient"),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25},
            (0.16, 0.16),
            "patient",
        ),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 0},
            (0.2, 0.2),
            "detector",
        ),
        ({"NominalScannedPixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "detector"),
        ({"PixelSpacing": [0, 0]}, None, "none"),
        ({"PixelSpacing": [0.1, 0.1, 0.1]}, None, "none"),
        ({"ImagerPixelSpacing": [5000, 5000]}, None, "none"),
    ],
)
def test_spacing_says_where_it_was_measured(
    attributes: dict[str, Any], spacing: tuple[float, float] | None, kind: str
) -> None:
    radiograph = radiograph_of(chest(**attributes))

    assert radiograph.spacing_kind == kind
    assert radiograph.spacing_mm == (spacing if spacing is None else pytest.approx(spacing))


# Header


def test_the_header_keeps_everything_but_the_pixels() -> None:
    dataset = chest(PatientName="Ångström^Åsa", SpecificCharacterSet="ISO_IR 100")
    private = dataset.private_block(0x0099, "SOMEBODY", create=True)
    private.add_new(1, "LO", "kept")

    header = radiograph_of(part10(dataset)).header

    read = dcmread(DicomBytesIO(header))
    assert "PixelData" not in read
    assert str(read.PatientName) == "Ångström^Åsa"
    assert read[0x00991001].value == "kept"
    assert len(read) == len(dataset) - 1
    assert read.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID


def test_the_header_is_the_same_each_time() -> None:
    content = part10(chest())

    assert radiograph_of(content).header == radiograph_of(content).header


# Bad input


def truncated() -> bytes:
    return part10(chest())[:-500]


def with_rows(rows: int, columns: int) -> Dataset:
    dataset = chest()
    dataset.Rows, dataset.Columns = rows, columns
    return dataset


def flipped_syntax(uid: str) -> Dataset:
    dataset = chest()
    dataset.file_meta.TransferSyntaxUID = uid
    return dataset


def of_floats() -> Dataset:
    dataset = chest(PixelData=None)
    dataset.FloatPixelData = struct.pack("<f", float("nan")) * (40 * 48)
    return dataset


def rescaled(**numbers: str) -> Dataset:
    dataset = chest()
    for keyword, number in numbers.items():
        dataset[keyword] = dataset.data_element("PixelRepresentation").__class__(
            keyword, "DS", "1", already_converted=True
        )
        dataset[keyword]._value = number
    return dataset


BAD = {
    "an_empty_file": (b"", "empty"),
    "a_file_that_is_not_dicom": (b"%PDF-1.4 not an image at all" * 20, "not DICOM"),
    "bytes_that_only_start_like_dicom": (b"\x08\x00\x05\x00CS" + b"\xff" * 300, "not DICOM|cannot be read|lacks"),
    "no_pixels": (chest(PixelData=None), "no Pixel Data"),
    "truncated_pixels": (truncated(), "truncated|complete"),
    "too_many_pixels": (chest(PixelData=b"\0" * 5000), "expected 3840"),
    "an_unknown_transfer_syntax": (flipped_syntax("1.2.3.4.5"), "cannot be decoded"),
    "no_transfer_syntax": (flipped_syntax(""), "cannot be decoded"),
    "a_video_transfer_syntax": (flipped_syntax("1.2.840.10008.1.2.4.102"), "cannot be decoded"),
    "no_transfer_syntax_that_fits": (flipped_syntax("1.2.840.10008.1.2.4.90"), "encapsulated"),
    "colour": (chest(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "3 samples"),
    "palette_colour": (chest(PhotometricInterpretation="PALETTE COLOR"), "MONOCHROME"),
    "multi_frame": (chest(NumberOfFrames=2), "2 frames"),
    "one_pixel": (chest(np.array([[7]], np.uint16)), "1 rows and 1 columns"),
    "absurd_rows_and_columns": (with_rows(65535, 65535), "at most 100 megapixels"),
    "rows_that_do_not_fit_the_pixels": (with_rows(4000, 4000), "expected 32000000"),
    "a_flat_image": (chest(np.full((40, 48), 99, np.uint16)), "flat"),
    "only_padding": (chest(np.full((40, 48), 99, np.uint16), PixelPaddingValue=99), "flat"),
    "floating_point_pixels_with_nan": (of_floats(), "no Pixel Data of whole numbers"),
    "nan_in_the_rescale_slope": (rescaled(RescaleSlope="NaN"), "not a finite number"),
    "infinity_in_the_rescale_intercept": (rescaled(RescaleSlope="1", RescaleIntercept="inf"), "not a finite number"),
    "a_rescale_slope_of_zero": (chest(RescaleSlope=0, RescaleIntercept=0), "other than 0"),
    "a_modality_lut_without_data": (chest(ModalityLUTSequence=[Dataset()]), "modality LUT"),
    "a_modality_lut_that_flattens": (chest(ModalityLUTSequence=[lut([5, 5])]), "flat"),
    "thirty_two_bits": (chest(gradient().astype(np.uint32)), "BitsAllocated 32"),
    "bits_that_do_not_fit": (chest(BitsStored=20), "do not describe"),
    "no_study_uid": (chest(StudyInstanceUID=None), "lacks StudyInstanceUID"),
    "no_uids_at_all": (chest(StudyInstanceUID=None, SeriesInstanceUID=None), "StudyInstanceUID, SeriesInstanceUID"),
    "a_ct_slice": (chest(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "not a radiograph but CT"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, while the bad data sets are made
@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_clear_error(name: str) -> None:
    source, told = BAD[name]

    with pytest.raises(InputError, match=told) as refused:
        radiograph_of(source)

    assert not refused.value.retryable
    assert "Test^Person" not in str(refused.value)
