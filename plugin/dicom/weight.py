"""How much a DICOM file may make of itself: a header becomes objects, hundreds of bytes for each eight of the file.

Measured with pydicom 3.0: 4 MiB of empty items take 450 MiB and many seconds, and a file may have 64 MiB of them. So
the elements are counted while they are read, and what is only split or parsed later (sequences of defined length,
values of many parts) is weighed before it is. Pixel data and other bulk stay bytes and count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any, Final

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from plugin.errors import InputError

#: Of a header; the largest of 289 real files, radiographs and results, has 2,500.
MAX_ELEMENTS: Final = 50_000
#: Of all sequences together; the most in those files are 783.
MAX_ITEMS: Final = 20_000
#: Of sequences and of values that are split into parts, together: the most in those files are 52,574 bytes.
MAX_STRUCTURED_BYTES: Final = 2 * 1024**2

#: VRs whose value stays as it is (PS3.5 6.2).
_WHOLE: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "OB or OW", "LT", "ST", "UR", "UT"})
_ITEMS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_READS_PER_ELEMENT: Final = 3


class Metered(BytesIO):
    """The bytes of a file, read by a parser at most as often as a header of ``MAX_ELEMENTS`` needs."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = _READS_PER_ELEMENT * MAX_ELEMENTS

    def read(self, size: int | None = -1, /) -> bytes:
        """See io; raises InputError when the header does not end."""
        self._left -= 1
        if self._left < 0:
            raise InputError(f"The header has more than {MAX_ELEMENTS:,} elements; no radiograph has.")
        return super().read(size)


def check_weight(dataset: Dataset) -> None:
    """Refuse what would fill the memory when it is looked at; call it before any element is.

    Raises
    ------
    InputError
        If there are too many items, or too much that is parsed or split.
    """
    structured = items = 0
    waiting: list[Iterable[Any]] = [dataset.values()]
    while waiting:
        for element in waiting.pop():
            if isinstance(element, RawDataElement):
                value = element.value or b""
                if _is_structured(element):
                    structured += len(value)
                    items += max(map(value.count, _ITEMS))
            elif element.VR == "SQ":
                items += len(element.value)
                waiting.extend(item.values() for item in element.value)
        if structured > MAX_STRUCTURED_BYTES or items > MAX_ITEMS:
            raise InputError(
                f"The header has {items:,} items, and {structured:,} bytes of sequences and of values with many parts;"
                f" at most {MAX_ITEMS:,} and {MAX_STRUCTURED_BYTES:,} are read."
            )


def _is_structured(element: RawDataElement) -> bool:
    """Whether the value is split or parsed when it is looked at; UN and implicit ones are what the dictionary says."""
    vr = element.VR
    if vr in (None, "UN"):
        try:
            vr = dictionary_VR(element.tag)
        except KeyError:
            return bytes(element.value or b"")[:4] in _ITEMS
    return vr not in _WHOLE
