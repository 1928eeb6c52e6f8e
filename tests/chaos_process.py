"""Sightline's service or worker for the chaos: all of it is real but reader and model, and waits are in fast motion.

Run as a program: ``serve`` or ``work``; everything else is told by the environment, as to ``sightline`` itself.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from functools import partial
from typing import Any

from stand_ins import Squares, read

from plugin import wiring
from plugin.breaker import Breaker
from plugin.commands import serve, work
from plugin.flow import Tools
from plugin.intake import Intake
from plugin.policy import Policy
from plugin.settings import load_settings

FASTER = 300.0
BEGAN = datetime.fromtimestamp(float(os.environ["CHAOS_BEGAN"]), UTC)


def fast() -> datetime:
    """Five minutes a second: what is to be looked at again in five minutes is so at once."""
    return BEGAN + FASTER * (datetime.now(UTC) - BEGAN)


def main() -> int:
    changed: Any = wiring
    changed.Policy = partial(Policy, first_s=0.2, most_s=1.0)
    changed.Breaker = partial(Breaker, rest_s=0.5)
    changed.Intake = partial(Intake, clock=fast)
    tools = Tools(
        read_report=read,
        reader_version="1",
        grounder=Squares(),
        max_frontals=2,
        settings_sha256="ab" * 32,
        clock=lambda: datetime.now(UTC),
    )
    if sys.argv[1] == "serve":
        return serve.serve(load_settings(), tools=tools, work=False)
    work.make_tools = lambda _: tools
    return work.run()


if __name__ == "__main__":
    sys.exit(main())
