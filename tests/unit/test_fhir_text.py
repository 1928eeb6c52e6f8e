"""Where a report's text comes from, and how bytes become the exact characters that offsets count."""

import codecs
import time

import pytest
from fhir_input import TEXT, attachment, report

from plugin.errors import InputError
from plugin.fhir.resource import Element, Resources
from plugin.fhir.text import MAX_CHARACTERS, text_of_file, text_of_report, visible_text

HTML = "<html><body><h1>FINDINGS</h1><p>Left <b>effusion</b></p></body></html>"
VISIBLE = "FINDINGS\n\nLeft effusion"
RESULTS = (
    {"resourceType": "Observation", "id": "f", "code": {"text": "Findings"}, "valueString": "Left effusion."},
    {"resourceType": "Observation", "id": "n", "code": {"text": "Count"}, "valueInteger": 2},
    {
        "resourceType": "Observation",
        "id": "i",
        "code": {"coding": [{"display": "Impression"}]},
        "valueCodeableConcept": {"text": "Effusion"},
    },
)


def text_of(changed, *others):
    return text_of_report(Element(changed), Resources(("", Element(each)) for each in (changed, *others)))


def narrative(status, text="Left effusion"):
    return {"status": status, "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{text}</p></div>'}


@pytest.mark.parametrize(
    ("changes", "text", "source"),
    [
        ({"presentedForm": [attachment(HTML, "text/html"), attachment(TEXT)]}, TEXT, "presentedForm text/plain"),
        ({"presentedForm": [attachment(HTML, "text/html")]}, VISIBLE, "presentedForm text/html"),
        ({"presentedForm": [attachment(HTML, "application/xhtml+xml")]}, VISIBLE, "presentedForm text/html"),
        ({"presentedForm": None, "text": narrative("additional")}, "Left effusion", "text.div"),
        ({"presentedForm": None, "text": narrative("generated"), "conclusion": "Effusion"}, "Effusion", "conclusion"),
        ({"presentedForm": [attachment(" \n")], "conclusion": "Effusion"}, "Effusion", "conclusion"),
        ({"presentedForm": [attachment("%PDF-1.7", "application/pdf")], "conclusion": "E"}, "E", "conclusion"),
    ],
)
def test_text_is_taken_from_the_first_place_that_has_any(changes, text, source):
    found = text_of(report(**changes))

    assert (found.text, found.source) == (text, source)


def test_result_observations_become_headed_paragraphs():
    links = [{"reference": f"Observation/{each['id']}"} for each in RESULTS]

    found = text_of(report(presentedForm=None, result=links, conclusion="later"), *RESULTS)

    assert found.text == "FINDINGS: Left effusion.\n\nIMPRESSION: Effusion"
    assert found.source == "result Observations"


def test_a_contained_observation_is_found():
    contained = RESULTS[0] | {"id": "c"}

    found = text_of(report(presentedForm=None, result=[{"reference": "#c"}], contained=[contained]))

    assert found.text == "FINDINGS: Left effusion."


def test_a_binary_of_the_same_bundle_is_read():
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": attachment(TEXT)["data"]}

    found = text_of(report(presentedForm=[{"contentType": "text/plain", "url": "Binary/b"}]), binary)

    assert found.text == TEXT


def test_plain_text_is_kept_to_the_character():
    text = "  FINDINGS:\t\r\n\r\n left  effusion \u2028 ﬁ\u0301 𝔛 "

    assert text_of(report(presentedForm=[attachment(text)])).text == text


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        ("Größe".encode("latin-1"), "text/plain; charset=ISO-8859-1"),
        ("Größe".encode("latin-1"), 'text/plain; charset="iso-8859-1"'),
        (codecs.BOM_UTF8 + "Größe".encode(), "text/plain"),
        (codecs.BOM_UTF16_LE + "Größe".encode("utf-16-le"), "text/plain"),
        (codecs.BOM_UTF16_BE + "Größe".encode("utf-16-be"), "text/plain; charset=utf-8"),
        ("Größe".encode(), "text/plain"),
        ("Größe".encode(), ""),
    ],
)
def test_byte_order_mark_then_charset_then_utf8_decides_the_encoding(content, content_type):
    assert text_of(report(presentedForm=[attachment(content, content_type)])).text == "Größe"


@pytest.mark.parametrize(
    ("content", "content_type", "says"),
    [
        ("Größe".encode("latin-1"), "text/plain", "not valid utf-8"),
        (b"text", "text/plain; charset=klingon", "character set that is not known"),
        (b"text", "text/plain; charset=hex", "character set that is not known"),
        (b"text", "text/plain; charset=undefined", "not valid undefined"),
        (b"+2AA-", "text/plain; charset=utf-7", "not valid utf-7"),
        (b"a\0b", "text/plain", "binary"),
        ("a\0b".encode("utf-16-le"), "text/plain; charset=utf-16-le", "binary"),
        (codecs.BOM_UTF16_LE + "a\0b".encode("utf-16-le"), "text/plain", "binary"),
        (b"%PDF-1.7 ...", "text/plain", "PDF"),
        (rb"{\rtf1 text}", "text/plain", "RTF"),
        (b"PK\x03\x04...", "application/vnd.openxmlformats", "Word"),
        (b"text", "image/png", "not text"),
    ],
)
def test_what_cannot_be_read_as_text_is_refused_by_name(content, content_type, says):
    with pytest.raises(InputError, match=says):
        text_of(report(presentedForm=[attachment(content, content_type)]))


def test_a_link_is_not_fetched_and_the_error_says_so():
    with pytest.raises(InputError, match=r"only behind a link \(presentedForm.url\), which is not fetched"):
        text_of(report(presentedForm=[{"contentType": "text/plain", "url": "http://127.0.0.1:1/report"}]))


def test_invalid_base64_is_refused():
    with pytest.raises(InputError, match="not valid base64"):
        text_of(report(presentedForm=[{"contentType": "text/plain", "data": "*not base64*"}]))


def test_an_absurdly_large_attachment_is_refused_before_it_is_decoded():
    with pytest.raises(InputError, match="larger than 30 MB"):
        text_of(report(presentedForm=[{"contentType": "text/plain", "data": "A" * 40_000_001}]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"presentedForm": None}, "report is empty"),
        ({"presentedForm": [attachment(" \r\n\t")]}, "report is empty"),
        ({"presentedForm": [{"contentType": "text/plain"}]}, "report is empty"),
        ({"presentedForm": [attachment("<p> </p><!-- x -->", "text/html")]}, "report is empty"),
        ({"presentedForm": None, "text": narrative("generated")}, "machine generated"),
        ({"presentedForm": None, "text": narrative("empty")}, "report is empty"),
        ({"presentedForm": [attachment("x" * (MAX_CHARACTERS + 1))]}, "200,001 characters"),
    ],
)
def test_a_report_without_usable_text_is_refused(changes, says):
    with pytest.raises(InputError, match=says):
        text_of(report(**changes))


# HTML: hostile until proven otherwise


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>SECRET</script>",
        "<style>.SECRET{}</style>",
        "<!-- SECRET -->",
        "<?php SECRET ?>",
        "<p hidden>SECRET</p>",
        '<p style="color:red; DISPLAY : none">SECRET</p>',
        '<p style="visibility:hidden">SECRET <b>SECRET</b></p>',
        '<p style="font-size:0px">SECRET</p>',
        '<p style="opacity: 0.0;">SECRET</p>',
        "<template>SECRET</template>",
        "<noscript>SECRET</noscript>",
        "<textarea>SECRET</textarea>",
        '<input value="SECRET">',
        '<img alt="SECRET" src="file:///etc/passwd">',
        "<iframe>SECRET</iframe>",
        '<a title="SECRET" onclick="SECRET"></a>',
        "<svg><text>SECRET</text></svg>",
        "<title>SECRET</title>",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(hidden):
    text = visible_text(f"<html><body><p>Left{hidden} effusion</p><p>No fracture</p></body></html>")

    assert "SECRET" not in text
    assert "effusion" in text
    assert "No fracture" in text


def test_entities_declared_in_the_document_are_not_expanded():
    bomb = '<!DOCTYPE x [<!ENTITY a "SECRET"><!ENTITY b SYSTEM "file:///etc/passwd">]><p>Left &a; &b; &lt;5&nbsp;mm</p>'

    assert visible_text(bomb) == "Left &a; &b; <5\u00a0mm"


def test_blocks_stand_on_lines_of_their_own_and_cells_are_tabbed():
    text = visible_text(
        "<ul><li>a\n  b</li><li>c</li></ul>x<br>y<table><tr><td>1</td><th>2</th></tr></table><pre>p\nq</pre>"
    )

    assert text == "a b\n\nc\n\nx\n\ny\n\n1\t2\n\np\nq"


@pytest.mark.parametrize("style", ["white-space:pre-wrap", "WHITE-SPACE : pre", "white-space: pre-line"])
def test_lines_are_kept_where_a_style_keeps_them(style):
    text = visible_text(f'<div style="{style}">FINDINGS:\nLeft effusion</div><div>a\nb</div>')

    assert text == "FINDINGS:\nLeft effusion\n\na b"


def test_a_visible_style_stays():
    assert visible_text('<p style="opacity:0.5;font-size:0.9em">Left effusion</p>') == "Left effusion"


def test_markup_nested_too_deeply_is_refused_and_not_cut_short():
    with pytest.raises(InputError, match="nested too deeply"):
        visible_text("<div>" * 5000 + "Left effusion")


def test_markup_that_could_make_the_parser_slow_is_read_in_a_moment():
    started = time.perf_counter()

    assert visible_text("<p>a</p>" + "<!doctype [" * 100_000).startswith("a")
    assert visible_text(f"<pre>a{' ' * 1_000_000}b</pre>").startswith("a")

    assert time.perf_counter() - started < 5


def test_markup_too_long_for_any_report_is_refused():
    with pytest.raises(InputError, match="5,000,001 characters"):
        visible_text("x" * 5_000_001)


def test_a_broken_attachment_beside_a_good_one_does_no_harm():
    forms = [{"contentType": "application/pdf", "data": "*"}, {"url": "http://x/y"}, attachment(TEXT)]

    assert text_of(report(presentedForm=forms)).text == TEXT


def test_the_charset_that_html_names_in_a_meta_element_is_used():
    page = '<html><head><meta charset="iso-8859-1"></head><body>Größe</body></html>'.encode("latin-1")

    assert text_of(report(presentedForm=[attachment(page, "text/html")])).text == "Größe"


# Files


@pytest.mark.parametrize(
    ("content", "text", "source"),
    [
        (b"FINDINGS: none\r\n", "FINDINGS: none\r\n", "file"),
        (codecs.BOM_UTF8 + b"none", "none", "file"),
        (codecs.BOM_UTF16_LE + "none".encode("utf-16-le"), "none", "file"),
        ("Größe “5”".encode("windows-1252"), "Größe “5”", "file, read as windows-1252"),
        (HTML.encode(), VISIBLE, "file, visible text of the HTML"),
        (b"<!DOCTYPE html><p>none</p>", "none", "file, visible text of the HTML"),
        (b"<5 mm nodule", "<5 mm nodule", "file"),
    ],
)
def test_a_file_is_told_by_its_content(content, text, source):
    found = text_of_file(content)

    assert (found.text, found.source) == (text, source)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "report is empty"),
        (b" \r\n\t\xc2\xa0", "report is empty"),
        (b"<html><script>x</script></html>", "report is empty"),
        (b"%PDF-1.4\n%\xe2\xe3", "the report is a PDF"),
        (b"\xef\xbb\xbf%PDF-1.4", "the report is a PDF"),
        (rb"{\rtf1\ansi FINDINGS}", "the report is RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1...", "the report is a Word document"),
        (b"PK\x03\x04...", "the report is a Word document"),
        (b"\0" * 128 + b"DICM", "binary"),
        (b"\x81\x8d", "not valid windows-1252"),
        (b"x " * 2_500_000, "5,000,000 characters"),
    ],
)
def test_a_file_that_is_no_report_text_is_refused_with_the_way_out(content, says):
    with pytest.raises(InputError, match=says) as caught:
        text_of_file(content)

    assert any(way in str(caught.value) for way in ("give", "save"))


def test_errors_quote_nothing_of_the_report():
    with pytest.raises(InputError) as caught:
        text_of_file(b"Geheim " * 500_000)

    assert "Geheim" not in str(caught.value)
