"""The page's style and its modules: as files that a browser asks for, or joined into what a self-contained page holds.

Modules keep to a form that needs no build step: imports of names from ``./other.js`` stand first, everything else that
others use is ``export const``. So they can be put
one after the other, each a function of its own behind those that it imports, and are one module.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

ENTRY = "page.js"
STYLE = "page.css"
_IMPORT = re.compile(r'^import (?:(\{[^}]*\}) from )?"\./([a-z]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (const (\w+) )", re.MULTILINE)


@cache
def asset(name: str) -> str:
    """The text of one file of ``static``.

    Raises
    ------
    FileNotFoundError
        If there is none of that name.
    """
    return files("plugin.page").joinpath("static", name).read_text(encoding="utf-8")


@cache
def modules() -> tuple[str, ...]:
    """The names of the modules that the page needs, each behind those that it imports; the last one is the entry."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for _, needed in _IMPORT.findall(asset(name)):
            visit(f"{needed}.js")
        order.append(name)

    visit(ENTRY)
    return tuple(order)


@cache
def joined() -> str:
    """All modules as one."""
    return "".join(_as_function(name) for name in modules())


def _as_function(name: str) -> str:
    """A module as a constant that holds what it exports."""
    text = asset(name)
    exported = ", ".join(found for _, found in _EXPORT.findall(text))
    linked = _IMPORT.sub(lambda found: f"const {found[1]} = {found[2]};\n" if found[1] else "", text)
    body = _EXPORT.sub(r"\1", linked)
    return f"const {name.removesuffix('.js')} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
