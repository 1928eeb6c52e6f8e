"""What every :class:`plugin.ports.ReportRepository` promises; run on the folder and on a real FHIR server.

A subclass has a fixture ``site``: ``site.repository``, and ``site.reports(key)`` for what stands there under a key.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from evidence import make_evidence

from plugin.errors import ConformanceError
from plugin.fhir.multimedia import Organization, multimedia_id, store_bundle
from plugin.fhir.ours import is_ours
from plugin.fhir.resource import Element
from plugin.ports import ReportRepository
from plugin.values import Evidence, ReportRef, ReportStatus

BASE = "https://sightline.example"
HOSPITAL = Organization("St. Elsewhere")


class World:
    """One report under an id of its own, in versions."""

    def __init__(self) -> None:
        self.report_id = f"report-{uuid.uuid4().hex[:12]}"

    @property
    def key(self) -> str:
        return multimedia_id(make_evidence().study.study_instance_uid, self.report_id)

    def evidence(self, version: str = "1", **changes: Any) -> Evidence:
        evidence = make_evidence()
        ref = ReportRef(self.report_id, version)
        return replace(evidence, report=replace(evidence.report, ref=ref, subject_id="p1", **changes))

    def bundle(self, version: str = "1", *, r5: bool = False, **changes: Any) -> str:
        return store_bundle(self.evidence(version, **changes), base=BASE, organization=HOSPITAL, r5=r5) or ""


class ReportRepositoryContract:
    """The promises, one test each."""

    @pytest.fixture
    def world(self) -> World:
        return World()

    def test_it_is_a_repository(self, site: Any) -> None:
        repository: ReportRepository = site.repository
        assert repository.r5 is False

    def test_a_report_published_is_there_as_it_was_sent(self, site: Any, world: World) -> None:
        site.repository.publish(world.bundle())

        (found,) = site.reports(world.key)
        sent = json.loads(world.bundle())["entry"][0]["resource"]
        ignored = ("id", "meta", "result")
        assert {k: v for k, v in found.items() if k not in ignored} == {
            k: v for k, v in sent.items() if k not in ignored
        }
        assert found["meta"]["profile"] == sent["meta"]["profile"]
        assert is_ours(Element(found))

    def test_publishing_twice_is_one_report(self, site: Any, world: World) -> None:
        site.repository.publish(world.bundle())
        before = site.reports(world.key)
        site.repository.publish(world.bundle())

        assert site.reports(world.key) == before
        assert len(before) == 1

    def test_of_an_amended_report_one_version_is_current(self, site: Any, world: World) -> None:
        site.repository.publish(world.bundle())
        site.repository.publish(world.bundle("2", status=ReportStatus.AMENDED))

        standing = [each for each in site.reports(world.key) if each["status"] != "entered-in-error"]
        assert [each["status"] for each in standing] == ["amended"]
        for gone in site.reports(world.key):
            assert gone in standing or not {"presentedForm", "result", "imagingStudy"} & gone.keys()

    def test_a_report_retracted_says_nothing(self, site: Any, world: World) -> None:
        site.repository.publish(world.bundle())
        site.repository.publish(world.bundle("2"))

        site.repository.retract(world.key)
        before = site.reports(world.key)
        site.repository.retract(world.key)

        assert {each["status"] for each in before} == {"entered-in-error"}
        assert "effusion" not in json.dumps(before)
        assert site.reports(world.key) == before

    def test_retracting_what_was_never_published_changes_nothing(self, site: Any, world: World) -> None:
        site.repository.retract(world.key)

        assert site.reports(world.key) == []

    def test_a_version_that_comes_back_is_current_again(self, site: Any, world: World) -> None:
        site.repository.publish(world.bundle())
        site.repository.retract(world.key)
        site.repository.publish(world.bundle())

        (found,) = [each for each in site.reports(world.key) if each["status"] != "entered-in-error"]
        assert found["presentedForm"][0]["contentType"] == "text/html"

    def test_what_is_no_multimedia_report_is_our_defect(self, site: Any) -> None:
        with pytest.raises(ConformanceError):
            site.repository.publish('{"resourceType": "Bundle", "type": "transaction"}')
