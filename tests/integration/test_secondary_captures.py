"""The pictures and graded maps that are written by option."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from evidence import make_evidence, make_header, make_radiograph
from pydicom import Dataset, dcmread

from model.geometry import UPRIGHT, Orientation
from model.values import Heatmap
from plugin.dicom.header import radiographs_among
from plugin.dicom.secondary import heatmaps, pictures
from plugin.dicom.seg import colour
from plugin.values import Evidence


def _with_a_map(orientation: Orientation = UPRIGHT) -> Evidence:
    """The effusion's map is 1 in the upper left quarter of the upright image."""
    evidence = make_evidence(make_radiograph(make_header(rows=96, columns=80), orientation=orientation))
    values = np.zeros((64, 64), np.float32)
    values[:32, :32] = 1
    heatmap = Heatmap(values, evidence.images[0].letterbox)
    phrases = list(evidence.phrases)
    placement = replace(phrases[1].placements[0], heatmap=heatmap)
    phrases[1] = replace(phrases[1], placements=(placement,))
    return replace(evidence, phrases=tuple(phrases))


def _parsed(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def test_a_picture_shows_regions_in_their_colours_and_says_that_it_bears_words() -> None:
    evidence = make_evidence()

    (written,) = pictures(evidence)
    picture = _parsed(written.content)

    assert written == pictures(evidence)[0]
    assert picture.BurnedInAnnotation == "YES"
    assert (picture.PatientName, picture.Modality) == ("Müller^Jörg", "OT")
    source = picture.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert source == evidence.images[0].ref.sop_instance_uid
    for number in range(1, 6):  # the five lit phrases
        assert (picture.pixel_array == np.array(colour(number), np.uint8)).all(axis=-1).sum() > 200


def test_the_words_of_a_long_report_fit_or_are_counted() -> None:
    evidence = make_evidence()

    (few,) = pictures(evidence)
    (many,) = pictures(replace(evidence, phrases=evidence.phrases * 20))

    assert _parsed(few.content).pixel_array.shape == _parsed(many.content).pixel_array.shape


@pytest.mark.parametrize("turned", [UPRIGHT, Orientation(reverse_rows=True, reverse_columns=True)])
def test_a_map_is_a_probability_in_the_places_of_the_source(turned: Orientation) -> None:
    (written,) = heatmaps(_with_a_map(turned))
    stored = _parsed(written.content)

    upright = turned.apply(stored.pixel_array)
    assert upright[10, 10] == 255
    assert upright[-10, -10] == upright[10, -10] == 0
    assert float(stored.RescaleSlope) * 255 == pytest.approx(100)
    assert stored.DerivationCodeSequence[0].CodeValue == "130401"
    assert stored.ImageComments == "2 pleural effusion: Moderate left pleural effusion, increased"
    assert stored.BurnedInAnnotation == "NO"


def test_without_maps_none_is_written() -> None:
    assert heatmaps(make_evidence()) == ()


def test_our_own_captures_are_never_taken_for_radiographs() -> None:
    own = tuple(_parsed(written.content) for written in (*pictures(_with_a_map()), *heatmaps(_with_a_map())))

    assert radiographs_among(own) == ()
