"""The page's modules, as they are and as one."""

from __future__ import annotations

import re

from plugin.page.linking import ENTRY, asset, joined, modules


def exports(name: str) -> set[str]:
    return set(re.findall(r"^export const (\w+) ", asset(name), re.MULTILINE))


def test_each_module_stands_behind_those_it_imports_and_the_entry_is_the_last() -> None:
    order = modules()

    assert order[-1] == ENTRY
    for place, name in enumerate(order):
        assert set(re.findall(r'"\./(\w+\.js)"', asset(name))) <= set(order[:place])


def test_each_imported_name_is_exported() -> None:
    for name in modules():
        for names, origin in re.findall(r'^import \{ ([^}]*) \} from "\./(\w+\.js)";$', asset(name), re.MULTILINE):
            assert set(names.split(", ")) <= exports(origin)


def test_modules_keep_to_the_form_that_can_be_joined() -> None:
    for name in modules():
        lines = asset(name).splitlines()
        assert all(re.match(r"export const \w+ ", line) for line in lines if line.startswith("export"))
        assert "import(" not in asset(name)
        assert not any(line.lstrip().startswith("import ") for line in lines if not line.startswith("import "))


def test_joined_they_import_nothing_and_cannot_end_the_script() -> None:
    script = joined()

    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    assert "</" not in script
    assert "<!--" not in script


def test_modules_ask_nobody_and_build_no_markup() -> None:
    for name in modules():
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http:", "https:"):
            assert forbidden not in asset(name).replace("http://www.w3.org/2000/svg", ""), name
