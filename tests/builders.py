"""Small DICOM radiographs for tests."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from plugin.identity import derived_uid

STUDY = derived_uid("test", "study")


def gradient(rows: int = 40, columns: int = 48, *, top: int = 4095, kind: type[np.integer[Any]] = np.uint16) -> Any:
    """Values 0 to *top* that rise from the top-left to the bottom-right corner, each line different."""
    steps = np.add.outer(np.arange(rows) * columns, np.arange(columns)) / (rows * columns - 1)
    return np.round(steps * top).astype(kind)


def chest(values: npt.NDArray[Any] | None = None, *, name: str = "a", **attributes: Any) -> Dataset:
    """A PA chest radiograph (CR, 12 of 16 bits, no window) of *values*; *attributes* replace or, as None, remove."""
    values = gradient() if values is None else values
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    settings: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": derived_uid("test", "instance", name),
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": derived_uid("test", "series", name),
        "Modality": "CR",
        "PatientID": "P1",
        "PatientName": "Test^Person",
        "AccessionNumber": "A1",
        "StudyDate": "20240102",
        "InstanceNumber": 1,
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * values.dtype.itemsize,
        "BitsStored": 12 if values.dtype.itemsize == 2 else 8,
        "PixelRepresentation": int(np.issubdtype(values.dtype, np.signedinteger)),
        "PixelData": values.tobytes() + b"\0" * (values.nbytes % 2),
        **attributes,
    }
    settings.setdefault("HighBit", settings["BitsStored"] - 1)
    for keyword, value in settings.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    return dataset


def part10(dataset: Dataset) -> bytes:
    """The bytes of the DICOM file."""
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()
