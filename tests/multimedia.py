"""Evidence for tests of the multimedia report: reports with hostile text and phrases wherever they may stand."""

from __future__ import annotations

import re
from dataclasses import replace

from evidence import EFFUSION, make_evidence, make_header, make_radiograph, rectangle
from hypothesis import strategies as st

from model.values import State
from nlp.phrases import Assertion, Phrase, Section
from plugin.identity import derived_uid, sha256_hex
from plugin.values import Evidence, GroundedPhrase, Placement

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</span></div></body>",
    "<!-- ",
    "]]>",
    "<![CDATA[",
    "&lt;&amp;&#13;&nbsp;",
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "\r\n",
    "\r",
    "\n\n",
    "🫁",
    "👩‍⚕️",
    "e\u0301",
    "\u202eright\u202c",
    "\x00",
    "\x0b",
    "\x85",
    "\u2028",
    "\ufffe",
    "左胸水",
    "FINDINGS: ",
    "no effusion, ",
)
TEXTS = st.lists(st.sampled_from(HOSTILE) | st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=1).map(
    "".join
)
IMAGES = (make_radiograph(), make_radiograph(make_header(number=2)))


@st.composite
def evidences(draw: st.DrawFn, *, texts: st.SearchStrategy[str] = TEXTS) -> Evidence:
    """Evidence on two images for a hostile text; phrases overlap, cross, repeat; lit on none, one or both."""
    text = draw(texts.filter(str.strip))
    starts = draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(1, 12)), max_size=6))
    spans = sorted((start, min(start + length, len(text))) for start, length in starts)
    lit = draw(st.lists(st.integers(0, 3), min_size=len(spans), max_size=len(spans)))
    phrases = tuple(
        _grounded(number, text, *span, on=on) for number, (span, on) in enumerate(zip(spans, lit, strict=True))
    )
    evidence = make_evidence(*IMAGES)
    provenance = replace(evidence.provenance, report_sha256=sha256_hex(text.encode()))
    return replace(evidence, report=replace(evidence.report, text=text), phrases=phrases, provenance=provenance)


def _grounded(number: int, text: str, start: int, end: int, *, on: int) -> GroundedPhrase:
    """Phrase *number*, lit on the images whose bits *on* has; its region reaches beyond the image."""
    phrase = Phrase(
        text=text[start:end],
        start=start,
        end=end,
        start_utf16=_utf16(text[:start]),
        end_utf16=_utf16(text[:end]),
        finding=EFFUSION,
        assertion=Assertion.AFFIRMED,
        section=Section.FINDINGS,
        groundable=True,
    )
    regions = (rectangle(-3, 10, 30.126, 500), rectangle(40, 40, 60, 61))
    placements = tuple(
        Placement(image.ref, State.FOUND, 0.9, regions=regions)
        if on & (1 << place)
        else Placement(image.ref, State.NOT_FOUND, 0.1, reason="Below the threshold.")
        for place, image in enumerate(IMAGES)
    )
    return GroundedPhrase(phrase, f"{number} effusion", derived_uid("test", "multimedia", str(number)), placements)


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def printable(text: str) -> str:
    """*text* as a reader of the markup has it."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)
