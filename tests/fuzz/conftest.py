"""What the fuzzing tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import servers


@pytest.fixture(scope="session")
def beside() -> Path:
    """The folder of development data beside the checkout, which need not be there."""
    return servers.ROOT.parent / "shared"
