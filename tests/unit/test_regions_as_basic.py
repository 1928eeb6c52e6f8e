"""Regions for a FHIR server of R4: what is lit stands there, what no longer is says so, and nothing twice."""

from __future__ import annotations

import json
from dataclasses import replace

from evidence import make_evidence
from fhir_check import checker

from plugin.fhir.regions import region_names, regions_bundle, regions_of, withdrawn_region


def test_every_lit_phrase_has_a_region_under_a_name_that_is_known_beforehand() -> None:
    evidence = make_evidence()
    regions = regions_of(evidence)
    names = region_names(
        (each.tracking_uid for each in evidence.phrases), (each.ref.sop_instance_uid for each in evidence.images)
    )

    assert len(regions) == 5
    assert {f"Basic/{each['id']}" for each in regions} <= set(names)
    assert len(names) == len(evidence.phrases)
    assert [fault for each in regions for fault in checker().written(each)] == []


def test_what_is_no_longer_lit_is_withdrawn_once() -> None:
    evidence = make_evidence()
    before = regions_of(evidence)
    now = regions_of(replace(evidence, phrases=evidence.phrases[:2]))

    entries = json.loads(regions_bundle(now, before) or "")["entry"]
    there = [entry["resource"] for entry in entries]

    assert [entry["request"]["url"] for entry in entries] == [f"Basic/{each['id']}" for each in (*now, *before[1:])]
    assert there[1:] == [withdrawn_region(each) for each in before[1:]]
    assert [each["request"]["url"] for each in json.loads(regions_bundle(now, there) or "")["entry"]] == [
        f"Basic/{now[0]['id']}"
    ]
    assert regions_bundle((), [withdrawn_region(each) for each in before]) is None


def test_a_withdrawn_region_says_whose_it_was_and_no_place() -> None:
    gone = withdrawn_region(regions_of(make_evidence())[0])

    assert [each["url"].rpartition(".")[2] for each in gone["extension"]] == ["status", "code"]
    assert gone["extension"][0]["valueCode"] == "entered-in-error"
    assert "text" not in gone
    assert checker().written(gone) == []
