"""Whatever bytes come in, reading ends in a report or in one InputError."""

import contextlib
import json

from fhir_input import IDENTITY, as_bytes, bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.errors import InputError
from plugin.fhir.reading import report_from_text, reports_from
from plugin.fhir.text import visible_text
from plugin.matching import match

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["final", "Patient/pat", "#c", "urn:uuid:1", "ImagingStudy/study", "urn:dicom:uid", "urn:oid:1.2", "ACSN", "MR"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
NAMES = st.sampled_from(
    "resourceType id meta versionId status issued subject identifier type coding code "  # noqa: SIM905  read as words
    "system value reference imagingStudy basedOn result presentedForm contentType data url text div contained "
    "display".split()
)
VALUES = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(NAMES, part, max_size=4), max_leaves=6
)
MARKUP = st.lists(
    st.sampled_from(
        ["<p>", "</p>", "<pre>", "<td>", "<!--", "-->", "<script>", "</script>", "<b hidden>", "&lt;", "<", "]"]
    )
    | st.text(max_size=5),
    max_size=12,
).map("".join)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_report_or_refused(content):
    with contextlib.suppress(InputError):
        assert report_from_text(content).text.strip()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3), NAMES, VALUES)
def test_any_value_in_any_field_of_any_resource_is_read_or_refused(index, name, value):
    document = json.loads(as_bytes(bundle()))
    document["entry"][index]["resource"][name] = value

    with contextlib.suppress(InputError):
        for report in reports_from(json.dumps(document).encode()):
            match(report, IDENTITY)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=5), st.sampled_from(["DiagnosticReport", "Bundle", ""]))
def test_any_json_is_read_or_refused(document, kind):
    with contextlib.suppress(InputError):
        reports_from(json.dumps(document | {"resourceType": kind, "conclusion": "x"}).encode())


@settings(max_examples=100, deadline=None)
@given(MARKUP)
def test_any_markup_has_some_visible_text_or_none(markup):
    text = visible_text(markup)

    assert text == text.strip()
    text.encode()
