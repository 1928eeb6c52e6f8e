"""The matrix itself: it covers what it promises, and each of its sources is what its cell says."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations, product

import matrix
import numpy as np
import pytest
from evidence import make_pixels
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from plugin.dicom.pixels import radiograph_of


def test_every_pair_of_choices_occurs() -> None:
    names = [field.name for field in fields(matrix.Cell)]
    cells = [{name: getattr(cell, name) for name in names} for cell in matrix.CELLS]

    for one, other in combinations(names, 2):
        met = {(cell[one], cell[other]) for cell in cells}
        assert met == set(product(matrix.CHOICES[one], matrix.CHOICES[other]))
    assert len(cells) <= 30


@pytest.mark.parametrize("cell", matrix.CELLS, ids=str)
def test_a_source_is_what_its_cell_says(cell: matrix.Cell) -> None:
    source = dcmread(DicomBytesIO(matrix.source_of(cell)))
    radiograph = radiograph_of(matrix.source_of(cell))

    assert (source.Modality, source.PhotometricInterpretation, source.BitsStored) == (
        cell.modality,
        cell.photometric,
        cell.bits,
    )
    assert source.file_meta.TransferSyntaxUID.is_compressed == (cell.syntax != "plain")
    assert (radiograph.spacing_kind == "none") == (cell.spacing == "none")
    plain = radiograph_of(matrix.source_of(replace(cell, syntax="plain")))
    assert radiograph.source_sha256 == plain.source_sha256
    # Turned, inverted, coarse: upright it is the one picture.
    shown = radiograph.orientation.apply(radiograph.pixels)
    np.testing.assert_allclose(shown, make_pixels(*matrix.SIDES[cell.shape]), atol=0.01)
