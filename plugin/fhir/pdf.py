"""The text of a PDF, read in a process of its own.

Loops, bombs and damage end the child, by its limits on memory and time, and not the service. What is read is the text
as the file has it, page by page in its own order: columns are not put together, words that are divided at line ends
stay divided, and nothing is recognised in images.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from io import BytesIO
from typing import Final

from plugin.child import Child, serve_child
from plugin.errors import InputError

TIMEOUT_S: Final = 20.0
MEMORY_BYTES: Final = 2 * 1024**3
MOST_PAGES: Final = 50
_ILLEGIBLE: Final = 0.1
"""Share of characters that no reader could name, from which on a text is taken for one without a usable encoding."""

_GIVE: Final = "give the report as text/plain or HTML"
_REFUSED: Final = {
    "encrypted": f"the report is a PDF that needs a password: {_GIVE}",
    "pages": f"the report is a PDF of more than {MOST_PAGES} pages, which no report has: {_GIVE}",
    "scanned": f"the report is a PDF without text, as a scan is: {_GIVE}, or recognise its text first",
    "illegible": f"the report is a PDF whose text has no usable encoding: {_GIVE}",
    "damaged": f"the report is a PDF that cannot be read: {_GIVE}",
}

_CHILD: Final = Child("plugin.fhir.pdf")


def text_of_pdf(content: bytes, *, timeout_s: float = TIMEOUT_S) -> str:
    """The text of all pages, an empty line between two.

    Raises
    ------
    InputError
        If it is encrypted, damaged, too long or too slow to read, or has no text; the message says which.
    TransientError
        If the process that does it cannot be started now.
    """
    said = json.loads(_CHILD.ask(content, timeout_s) or b'{"refused": "damaged"}')
    if "refused" in said:
        raise InputError(_REFUSED[said["refused"]])
    return str(said["text"])


def answer(content: bytes) -> bytes:
    """``{"text": ...}``, or ``{"refused": ...}`` with a key of the reasons."""
    try:
        text, refused = _read(content)
    except Exception:  # noqa: BLE001 - whatever the library raises means that it cannot be read
        text, refused = "", "damaged"
    return json.dumps({"refused": refused} if refused else {"text": text}).encode()


def _read(content: bytes) -> tuple[str, str]:
    from pypdf import PasswordType, PdfReader
    from pypdf.errors import DependencyError

    reader = PdfReader(BytesIO(content), strict=False)
    try:
        if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
            return "", "encrypted"
    except DependencyError:  # AES, without the library for it
        return "", "encrypted"
    if len(reader.pages) > MOST_PAGES:
        return "", "pages"
    pages = (page.extract_text().replace("\u00ad\n", "").strip("\n") for page in reader.pages)
    text = "\n\n".join(page for page in pages if page.strip()).replace("\0", "")
    if not text.strip():
        return "", "scanned"
    return text, "illegible" if _illegible(text) > _ILLEGIBLE else ""


def _illegible(text: str) -> float:
    """Share of the visible characters that are controls, private, unassigned, or stand for what is not known."""
    visible = [character for character in text if not character.isspace()]
    unknown = sum(
        character == "\ufffd" or unicodedata.category(character) in ("Cc", "Co", "Cn") for character in visible
    )
    return unknown / len(visible)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # the library quotes what it reads
    serve_child(answer, memory_bytes=MEMORY_BYTES)
