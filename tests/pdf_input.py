"""PDFs for tests, written by hand: pages of text, and what should not be fed to a parser."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"


def pdf(*pages: str, font: bytes = FONT) -> bytes:
    """A PDF with the lines of each of *pages*."""
    return pdf_of([_lines(page) for page in pages], font=font)


def pdf_of(contents: Sequence[bytes], *, font: bytes = FONT, kids: str | None = None, filtered: bytes = b"") -> bytes:
    """A PDF whose pages have these content streams."""
    first = 4
    named = kids if kids is not None else " ".join(f"{first + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(contents)}/Kids[{named}]>>".encode(),
        font,
    ]
    for number, content in enumerate(contents):
        at = first + 2 * number
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R/Resources<</Font<</F 3 0 R>>>>>>"
            % (at + 1)
        )
        objects.append(b"<<%s/Length %d>>stream\n%s\nendstream" % (filtered, len(content), content))
    return _file(objects)


def bomb(megabytes: int) -> bytes:
    """A page whose content is small in the file and *megabytes* large in memory."""
    return pdf_of([zlib.compress(b"BT (x) Tj ET " * (megabytes * 80_660), 9)], filtered=b"/Filter/FlateDecode")


def scan() -> bytes:
    """A page of one image and no text."""
    return pdf_of([b"q 595 0 0 842 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x00 EI Q"])


def circular() -> bytes:
    """A tree of pages that contains itself."""
    return pdf_of([b"BT ET"], kids="2 0 R 4 0 R")


def _lines(page: str) -> bytes:
    shown = (
        line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        for line in page.split("\n")
    )
    return b"BT /F 11 Tf 14 TL 50 800 Td " + b" ".join(b"(%s) Tj T*" % line for line in shown) + b" ET"


def _file(objects: Sequence[bytes]) -> bytes:
    content, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return content + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
        % (size, table, size, len(content))
    )
