"""evidence.json says everything, the same way every time, and can be read back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from evidence import make_evidence, make_header, make_lateral, make_radiograph

from model.geometry import Orientation
from model.values import Region
from plugin.identity import sha256_hex
from plugin.page.document import EvidenceDocument, evidence_json, read_evidence

DOCS = Path(__file__).resolve().parents[2] / "docs" / "evidence.md"


def test_the_same_evidence_gives_the_same_text() -> None:
    assert evidence_json(make_evidence()) == evidence_json(make_evidence())


def test_what_was_written_is_read_back_unchanged() -> None:
    text = evidence_json(make_evidence(references=(make_lateral(),)))

    document = read_evidence(text)

    assert json.loads(text) == document.model_dump(mode="json")
    assert document.format == "sightline-evidence"


@pytest.mark.parametrize("text", [" FINDINGS:\t\r\n\r\nleft  effusion \u2028 ﬁ\u0301 𝔛 ", "a\rb\n", "Größe\u00a05 mm"])
def test_the_exact_text_that_was_used_is_kept_with_its_hash(text: str) -> None:
    made = make_evidence()
    report = dataclasses.replace(made.report, text=text)
    provenance = dataclasses.replace(made.provenance, report_sha256=sha256_hex(text.encode()))
    written = evidence_json(dataclasses.replace(made, report=report, provenance=provenance, phrases=()))

    read = json.loads(written.encode())

    assert read["report"]["text"] == text
    assert read["report"]["text_source"] == report.text_source
    assert sha256_hex(read["report"]["text"].encode()) == read["provenance"]["report_sha256"]


def test_phrases_point_into_the_text_in_code_points_and_in_utf16() -> None:
    document = read_evidence(evidence_json(make_evidence()))

    for phrase in document.phrases:
        units = document.report.text.encode("utf-16-le")[2 * phrase.start_utf16 : 2 * phrase.end_utf16]
        assert document.report.text[phrase.start : phrase.end] == phrase.text == units.decode("utf-16-le")


def test_the_mask_of_an_outline_read_back_is_the_same_to_the_pixel() -> None:
    evidence = make_evidence()
    rows, columns = evidence.images[0].pixels.shape

    document = read_evidence(evidence_json(evidence))

    for grounded, phrase in zip(evidence.phrases, document.phrases, strict=True):
        for placement, told in zip(grounded.placements, phrase.placements, strict=True):
            for region, part in zip(placement.regions, told.regions, strict=True):
                mask = region.mask(rows, columns)
                assert np.array_equal(Region(part.outline, part.probability).mask(rows, columns), mask)
                assert part.area_px == np.count_nonzero(mask)
                assert part.area_mm2 == pytest.approx(part.area_px * 0.2 * 0.15, abs=0.01)
                assert part.box == region.box


def test_without_spacing_there_is_no_area_in_millimetres() -> None:
    document = read_evidence(evidence_json(make_evidence(make_radiograph(make_header(spacing=None)))))

    regions = [region for phrase in document.phrases for place in phrase.placements for region in place.regions]
    assert regions
    assert {region.area_mm2 for region in regions} == {None}
    assert document.images[0].spacing_mm is None


def test_the_orientation_of_an_image_is_told() -> None:
    turned = make_radiograph(orientation=Orientation(transpose=True, reverse_columns=True))

    (image,) = read_evidence(evidence_json(make_evidence(turned))).images

    assert image.orientation.model_dump() == {"transpose": True, "reverse_rows": False, "reverse_columns": True}


def test_a_version_of_the_future_is_refused() -> None:
    future = json.loads(evidence_json(make_evidence())) | {"format_version": 2}

    with pytest.raises(ValueError, match="format_version"):
        read_evidence(json.dumps(future))


def test_an_infinite_number_is_never_written() -> None:
    evidence = make_evidence()
    broken = dataclasses.replace(evidence.images[0], spacing_mm=(float("inf"), 1.0))

    with pytest.raises(ValueError, match="finite"):
        evidence_json(dataclasses.replace(evidence, images=(broken,)))


def test_the_documentation_tells_every_field() -> None:
    schema = EvidenceDocument.model_json_schema()
    fields = {name for part in (schema, *schema["$defs"].values()) for name in part.get("properties", {})}

    told = DOCS.read_text(encoding="utf-8")

    assert not sorted(name for name in fields if f"`{name}`" not in told)
