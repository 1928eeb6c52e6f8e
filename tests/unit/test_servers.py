"""A missing program is a named skip for a developer, and a failure in CI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import servers
from servers import NEEDS_PROGRAMS


def test_what_is_there_is_not_skipped() -> None:
    servers.require("sh", sys.executable)


def test_a_missing_program_is_a_named_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match=f"{NEEDS_PROGRAMS}no-such-program, /no/such/file not found"):
        servers.require("sh", "no-such-program", "/no/such/file")


@pytest.mark.parametrize(("on_debian", "outcome"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)])
def test_a_missing_program_fails_in_ci_on_debian(
    on_debian: bool, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "debian_version").touch()
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(servers, "DEBIAN", tmp_path / ("debian_version" if on_debian else "none"))

    with pytest.raises(outcome, match="no-such-program"):
        servers.require("no-such-program")
