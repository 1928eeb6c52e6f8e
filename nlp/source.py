"""The report as it came, and a reading copy of exactly the same length.

The reading copy has one character for each code point of the source, so an offset into one is an offset into the
other: nothing is ever mapped back. It is what the tokenizer sees; the source is what a phrase quotes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

_SAME_LENGTH = str.maketrans(
    {
        **dict.fromkeys(
            "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t\r\f\v",
            " ",
        ),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", " "),
        **dict.fromkeys(map(chr, range(0xD800, 0xE000)), " "),
        **dict.fromkeys("\u2010\u2011\u2012\u2212", "-"),
        **dict.fromkeys("\u2013\u2014\u2015", ";"),
        **dict.fromkeys("\u2028\u2029\u0085", "\n"),
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
    }
)
_BREAKING_TAG = re.compile(r"</?(?:br|p|div|li|ul|ol|tr|table|h[1-6]|hr)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:b|i|u|em|strong|span|font|td|th|a|sub|sup|body|html|pre|tt|small)\b[^<>]{0,200}>", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?:nbsp|amp|lt|gt|quot|apos|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_ENTITY_MEANING = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_PLACEHOLDER = re.compile(
    r"\[\*\*[^\[\]\n]{0,80}\*\*\]|_{2,}|<[A-Z][A-Z _-]{1,30}\d{0,4}>|\b[Xx]{3,}(?![a-zA-Z])|\[[A-Z][A-Z _-]{2,30}\]"
)
_HYPHEN = re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])")
_PUNCTUATION_RUN = re.compile(r"([^\w\s])\1{3,}")  # the tokenizer is slow on endless ones
_ENDLESS = re.compile(r"\S{200,}")
_NO_WORD = re.compile(r"\W|\w{60,}")
_GLUED_STOP = re.compile(r"(?<=[a-z]{2})\.(?=[A-Za-z]{2})")


def reading_copy(text: str) -> str:
    """*text* with markup, odd spaces, dashes and de-identification marks made plain, code point for code point.

    Markup becomes spaces or a line break, a de-identification mark a word of the letter X, a hyphen between
    letters a space, a full stop between words ("effusion.No") a vertical tab; the length never changes.
    """
    copy = text.translate(_SAME_LENGTH)
    copy = _BREAKING_TAG.sub(lambda match: "\n" + " " * (len(match[0]) - 1), copy)
    copy = _TAG.sub(_blank, copy)
    copy = _PLACEHOLDER.sub(lambda match: "X" * len(match[0]), copy)
    copy = _ENTITY.sub(lambda match: _ENTITY_MEANING.get(match[0], " ").ljust(len(match[0])), copy)
    copy = _PUNCTUATION_RUN.sub(lambda match: match[1].ljust(len(match[0])), copy)
    copy = _ENDLESS.sub(lambda match: _NO_WORD.sub(_blank, match[0]), copy)
    copy = _HYPHEN.sub(" ", copy)
    return _GLUED_STOP.sub("\v", copy)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def utf16_offsets(text: str) -> Callable[[int], int]:
    """The function from an offset in code points to the same place in UTF-16 code units."""
    if text.isascii():
        return _same
    astral = [position for position, character in enumerate(text) if ord(character) > 0xFFFF]
    return lambda offset: offset + bisect_right(astral, offset - 1)


def _same(offset: int) -> int:
    return offset
