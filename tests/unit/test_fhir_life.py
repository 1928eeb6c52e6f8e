"""What becomes of resources that were written before."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from evidence import STUDY, make_evidence

from plugin.fhir.capability import Release
from plugin.fhir.life import names_of, selections_among, settled, withdrawal, withdrawn
from plugin.fhir.writing import bundle_of
from plugin.flow import outputs_of
from plugin.values import Evidence

NOW = datetime(2026, 4, 1, tzinfo=UTC)
OURS = ("Observation", "DocumentReference", "ImagingSelection")
Json = dict[str, Any]


def bundle(evidence: Evidence | None = None, release: Release = Release.R4) -> str:
    return outputs_of(evidence or make_evidence(), page_url="https://sightline.example/page", release=release).bundle


def resources(text: str | None) -> dict[str, Json]:
    assert text is not None
    return {entry["request"]["url"]: entry["resource"] for entry in json.loads(text)["entry"]}


def stored(text: str) -> tuple[Json, ...]:
    """What a server holds of *text* that can be withdrawn, with what a server adds."""
    ours = (each for each in resources(text).values() if each["resourceType"] in OURS)
    return tuple(each | {"meta": {"versionId": "1", "lastUpdated": "2026-03-02T00:00:00Z"}} for each in ours)


def fewer(evidence: Evidence) -> Evidence:
    return replace(evidence, phrases=evidence.phrases[:3])


def test_the_names_are_the_entry_and_every_phrase() -> None:
    evidence = make_evidence()

    names = names_of(STUDY, "report-1", [phrase.tracking_uid for phrase in evidence.phrases])

    assert len(names) == 1 + len(evidence.phrases)
    assert set(names) >= {name for name in resources(bundle()) if name.startswith(("Obs", "Doc"))}


@pytest.mark.parametrize("release", Release)
def test_phrases_that_are_gone_are_withdrawn_and_the_others_written(release: Release) -> None:
    before = stored(bundle(release=release))
    wanted = bundle(fewer(make_evidence()), release)

    sent = resources(settled(wanted, before))

    asked = resources(wanted)
    gone = {name: each for name, each in sent.items() if name not in asked}
    assert {name: sent[name] for name in asked} == asked
    assert all(each["status"] == "entered-in-error" for each in gone.values())
    assert {name.partition("/")[0] for name in gone} == (
        {"Observation"} if release is Release.R4 else {"Observation", "ImagingSelection"}
    )
    assert resources(settled(wanted, tuple(sent.values())[:0])) == asked
    again = tuple(each for each in sent.values() if each["resourceType"] in OURS)
    assert resources(settled(wanted, again)) == sent


def test_without_anything_to_show_the_entry_is_withdrawn() -> None:
    silent = bundle_of(replace(make_evidence(), phrases=()), page_url=None, instances=())

    sent = resources(settled(silent, stored(bundle())))

    (document,) = (each for each in sent.values() if each["resourceType"] == "DocumentReference")
    assert (document["status"], document["docStatus"]) == ("entered-in-error", "entered-in-error")


def test_a_radiologists_decision_stays_while_the_phrase_says_the_same_in_the_same_place() -> None:
    (document, *observations) = sorted(stored(bundle()), key=lambda each: each["resourceType"])
    decided = tuple(
        each | {"status": "final", "performer": [{"reference": "Practitioner/p"}], "text": {"status": "additional"}}
        for each in observations
    )
    moved = make_evidence()
    first = next(phrase for phrase in moved.phrases if phrase.lit)
    elsewhere = replace(first.placements[0], regions=first.placements[0].regions[:0])
    phrases = tuple(replace(each, placements=(elsewhere,)) if each is first else each for each in moved.phrases)

    sent = resources(settled(bundle(replace(moved, phrases=phrases)), (document, *decided)))

    statuses = {name: each["status"] for name, each in sent.items() if name.startswith("Observation")}
    changed = names_of(STUDY, "report-1", [first.tracking_uid])[1]
    assert statuses.pop(changed) == "preliminary"
    assert set(statuses.values()) == {"final"}
    kept = next(each for name, each in sent.items() if name in statuses)
    assert kept["performer"] == [{"reference": "Practitioner/p"}]
    assert kept["text"] == {"status": "additional"}


def test_what_is_withdrawn_says_whom_it_was_about_but_no_longer_what_in_words() -> None:
    observation = next(each for each in stored(bundle()) if each["resourceType"] == "Observation")

    gone = withdrawn(observation | {"meta": {"versionId": "7", "tag": [{"code": "x"}]}})

    assert gone["status"] == "entered-in-error"
    assert gone["meta"] == {"tag": [{"code": "x"}]}
    assert {name: gone[name] for name in ("id", "subject", "focus", "identifier")} == {
        name: observation[name] for name in ("id", "subject", "focus", "identifier")
    }
    assert observation["valueCodeableConcept"]["text"] not in gone["text"]["div"]
    assert withdrawn(gone) == gone


@pytest.mark.parametrize("release", Release)
def test_a_withdrawal_takes_back_everything_and_says_who_did(release: Release) -> None:
    evidence = make_evidence()
    before = stored(bundle(release=release))

    sent = resources(withdrawal(STUDY, "report-1", before, by=evidence.provenance, now=NOW, release=release))

    names = {f"{each['resourceType']}/{each['id']}" for each in before}
    assert all(sent[name]["status"] == "entered-in-error" for name in names)
    (provenance,) = (each for each in sent.values() if each["resourceType"] == "Provenance")
    assert {each["reference"] for each in provenance["target"]} == names
    assert provenance["recorded"] == "2026-04-01T00:00:00+00:00"
    (event,) = (each for each in sent.values() if each["resourceType"] == "AuditEvent")
    assert names <= {entity["what"].get("reference") for entity in event["entity"]}
    assert provenance["agent"][0]["who"]["reference"] in sent
    if release is Release.R5:
        assert set(selections_among(before)) <= names


def test_what_was_withdrawn_is_not_withdrawn_again() -> None:
    by = make_evidence().provenance
    sent = resources(withdrawal(STUDY, "report-1", stored(bundle()), by=by, now=NOW))
    there = tuple(each for each in sent.values() if each["resourceType"] in OURS)

    assert withdrawal(STUDY, "report-1", there, by=by, now=NOW) is None
    assert withdrawal(STUDY, "report-1", (), by=by, now=NOW) is None


def test_a_withdrawal_of_another_version_is_another_event() -> None:
    by = make_evidence().provenance
    amended = make_evidence()
    amended = replace(amended, report=replace(amended.report, ref=replace(amended.report.ref, version="3")))

    one, two = (
        resources(withdrawal(STUDY, "report-1", stored(bundle(each)), by=by, now=NOW))
        for each in (make_evidence(), amended)
    )

    def events(sent: dict[str, Json]) -> set[str]:
        return {name for name in sent if name.startswith(("Provenance", "AuditEvent"))}

    assert not events(one) & events(two)


@pytest.mark.parametrize("write", ["settled", "withdrawal"])
def test_what_was_there_is_written_over_in_the_version_that_was_read(write: str) -> None:
    there = stored(bundle())
    by = make_evidence().provenance
    taken_back = withdrawal(STUDY, "report-1", there, by=by, now=NOW) or ""
    sent = settled(bundle(), there) if write == "settled" else taken_back

    conditions = {entry["request"]["url"]: entry["request"].get("ifMatch") for entry in json.loads(sent)["entry"]}

    assert {conditions[f"{each['resourceType']}/{each['id']}"] for each in there} == {'W/"1"'}
    assert {condition for name, condition in conditions.items() if not name.startswith(OURS)} == {None}
