"""Every word that the pages say of their own, one file for a language; ``en.json`` is the first.

A file of the same keys beside it is another language. Reports, names of findings and warnings are data: they stand as
they came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Texts = Mapping[str, Any]


@cache
def texts_in(language: str = "en") -> Texts:
    """The texts of *language*.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    content = files("plugin.page.texts").joinpath(f"{language}.json").read_text(encoding="utf-8")
    texts: Texts = json.loads(content)
    return texts
