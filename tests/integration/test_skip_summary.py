"""At the end of a run one line says what was skipped for want of a program, and how to enable it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from servers import ROOT


def test_the_summary_names_what_was_skipped_and_the_remedy(tmp_path: Path) -> None:
    """Another pytest on a test of its own, with this project's conftest."""
    folder = tmp_path / "tests"
    folder.mkdir()
    for name in ("conftest.py", "servers.py", "stores.py"):
        (folder / name).symlink_to(ROOT / "tests" / name)
    (folder / "test_one.py").write_text("def test_one(require): require('no-such-program')\n")
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}

    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Skipped for want of programs: tests/test_one.py. Run tests/install-debian-packages" in answer.stdout
