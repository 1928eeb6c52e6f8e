"""Whoever is killed and whatever the network does: one result set for each report version, no orphans, no stuck job.

``SIGHTLINE_CHAOS=200`` (``make chaos``) kills so often at random; without it, each of the servers dies once.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import faults as ways
import pytest
from chaos import Site
from faults import Faults
from servers import NPM, ORTHANC_PLUGINS, PostgresServer, require

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

CHAOS = int(os.environ.get("SIGHTLINE_CHAOS", "0"))
MOST_S = float(os.environ.get("SIGHTLINE_CHAOS_S", "1200"))


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    require("Orthanc", *ORTHANC_PLUGINS, "node", str(NPM / "node_modules"))
    server: PostgresServer | None = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
    return Site(tmp_path, server, seed=7)


def test_whoever_is_killed_each_report_version_has_one_result_set(site: Site) -> None:
    began = time.monotonic()
    with site.up():
        order = list(site.victims)
        site.chance.shuffle(order)
        while site.kills.total() < (CHAOS or len(site.victims)) and time.monotonic() - began < MOST_S:
            site.something_happens()
            time.sleep(site.chance.uniform(0.0, 2.0))
            site.kill(site.chance.choice(order) if CHAOS else order.pop())
        site.settle(timeout_s=300)
        print(told(site, began))


@pytest.mark.parametrize("site", ["sqlite", "postgresql"] if CHAOS else ["sqlite"], indirect=True)
def test_whatever_the_network_does_each_report_version_has_one_result_set(site: Site) -> None:
    began, met = time.monotonic(), [0]

    def faulty(proxy: Faults) -> None:
        kinds = (
            ways.dropped(4),
            ways.slow(0.5),
            ways.dripping(0.05),
            ways.broken(),
            ways.truncated(),
            ways.reset(),
            ways.reset_after(),
            ways.twice,
            ways.answered(500),
            ways.refused(503, retry_after="0"),
        )

        def counted(fault: ways.Fault) -> ways.Fault:
            def fault_of(asked: ways.Asked, forward: ways.Forward) -> ways.Told:
                met[0] += 1
                return fault(asked, forward)

            return fault_of

        proxy.always(ways.Sometimes(random.Random(len(proxy.base)), 0.1, [counted(each) for each in kinds]))

    with site.up(faulty):
        for _ in range(CHAOS // 4 or 5):
            site.something_happens()
            time.sleep(site.chance.uniform(0.0, 1.0))
        site.settle(timeout_s=300)
        print(told(site, began) | {"faults": met[0]})
    assert met[0] > 0


def told(site: Site, began: float) -> dict[str, object]:
    """The figures of a run."""
    return {
        "kills": json.dumps(site.kills),
        "reports": len(site.reports),
        "versions": sum(each.versions for each in site.reports.values()),
        "seconds": round(time.monotonic() - began),
    }
