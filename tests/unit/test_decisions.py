"""What radiologists' decisions make of evidence, and of everything that is written about it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from evidence import CREATED, DECIDED, decided_evidence, decision, make_evidence, make_header, make_radiograph
from fhir_check import checker
from fhir_examples import stand_ins, transaction
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from model.values import State
from plugin.decisions import Outline, Word, decided, decision_of, is_heard, tag_of
from plugin.dicom.result import read_report, read_segmentation
from plugin.dicom.seg import segmentations
from plugin.dicom.sr import report, report_uid
from plugin.errors import InputError
from plugin.fhir.capability import Release
from plugin.fhir.life import settled
from plugin.fhir.writing import bundle_of
from plugin.page.document import evidence_document, evidence_json, read_evidence
from plugin.values import Evidence, GroundedPhrase, Person, RegionDecision, Ruling

ADA = Person("Dr. Ada Beispiel")
NOW = datetime(2026, 3, 3, tzinfo=UTC)
SQUARE: Outline = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))


@pytest.fixture
def evidence() -> Evidence:
    return make_evidence()


def lit(evidence: Evidence) -> list[GroundedPhrase]:
    return [grounded for grounded in evidence.phrases if grounded.lit]


def placed(evidence: Evidence, like: GroundedPhrase) -> GroundedPhrase:
    return next(grounded for grounded in evidence.phrases if grounded.tracking_uid == like.tracking_uid)


def test_without_decisions_evidence_stays_as_it_is(evidence: Evidence) -> None:
    same = decided(evidence, ())

    assert same.key == evidence.key
    assert same.written == CREATED
    assert evidence_json(same) == evidence_json(evidence)


def test_a_rejected_region_is_marked_no_more_and_the_reader_is_told(evidence: Evidence) -> None:
    first = lit(evidence)[0]

    after = placed(decided(evidence, [decision(first, Ruling.REJECTED)]), first)

    (placement,) = after.placements
    assert (placement.regions, placement.state) == ((), State.NOT_FOUND)
    assert placement.reason == "A radiologist rejected the region."
    assert after.decided
    assert not after.lit


def test_a_redrawn_region_stands_whatever_the_model_says_next_time(evidence: Evidence) -> None:
    first = lit(evidence)[0]
    word = decision(first, Ruling.REDRAWN)
    moved = replace(first.placements[0], regions=(), state=State.NOT_FOUND)
    again = replace(
        evidence, phrases=tuple(replace(g, placements=(moved,)) if g is first else g for g in evidence.phrases)
    )

    for run in (evidence, again):
        (placement,) = placed(decided(run, [word]), first).placements
        assert placement.regions == word.regions
        assert placement.state is State.FOUND


def test_an_accepted_region_stays_when_another_model_would_move_it(evidence: Evidence) -> None:
    first, second = lit(evidence)[:2]
    moved = replace(first.placements[0], regions=second.placements[0].regions)
    again = replace(
        evidence, phrases=tuple(replace(g, placements=(moved,)) if g is first else g for g in evidence.phrases)
    )

    (placement,) = placed(decided(again, [decision(first, Ruling.ACCEPTED)]), first).placements

    assert placement.regions == first.placements[0].regions


def test_the_last_word_counts_and_one_that_is_taken_back_does_not(evidence: Evidence) -> None:
    first = lit(evidence)[0]
    words = [
        decision(first, Ruling.REJECTED, number=1),
        decision(first, Ruling.REDRAWN, number=2),
        decision(first, Ruling.TAKEN_BACK, number=3),
    ]

    assert placed(decided(evidence, words[1::-1]), first).decisions == (words[1],)
    assert decided(evidence, words).key == evidence.key


def test_evidence_that_a_person_decided_about_is_another_version(evidence: Evidence) -> None:
    first = lit(evidence)[0]
    versions = [
        decided(evidence, [decision(first, ruling, number=number)])
        for number, ruling in enumerate((Ruling.ACCEPTED, Ruling.REJECTED, Ruling.ACCEPTED), start=1)
    ]

    assert len({report_uid(each) for each in (evidence, *versions)}) == 4
    assert report_uid(versions[0]) == report_uid(decided(evidence, [decision(first, Ruling.ACCEPTED)]))
    assert versions[2].written > versions[0].written > DECIDED


def test_a_decision_about_what_is_gone_is_not_used_and_the_reader_is_told(evidence: Evidence) -> None:
    first, second = lit(evidence)[:2]
    words = [decision(first, Ruling.REJECTED), decision(second, Ruling.ACCEPTED)]
    amended = replace(evidence, phrases=tuple(g for g in evidence.phrases if g is not first))

    after = decided(amended, words)

    assert after.decisions == (words[1],)
    assert after.warnings == (
        "A radiologist's decision about a phrase or an image that is not there any more: not used.",
    )


# What is written


def test_the_document_carries_who_decided_what_and_why(evidence: Evidence) -> None:
    document = read_evidence(evidence_json(decided_evidence()))

    told = [placement.decision for phrase in document.phrases for placement in phrase.placements if placement.decision]
    assert [each.ruling for each in told] == ["accepted", "redrawn", "rejected", "rejected", "accepted"]
    assert {(each.who.name, each.who.identifier) for each in told} == {("Dr. Ada Beispiel", "Practitioner/ada")}
    assert told[2].reason == "not there"
    assert not any(p.decision for phrase in evidence_document(evidence).phrases for p in phrase.placements)


def test_a_segmentation_leaves_out_what_was_rejected_and_says_what_was_drawn_by_hand() -> None:
    evidence = decided_evidence()
    accepted, redrawn, *_ = (grounded for grounded in evidence.phrases if grounded.decisions)

    (written,) = segmentations(evidence)
    dataset = dcmread(DicomBytesIO(written.content))

    kinds = {segment.TrackingUID: segment.SegmentAlgorithmType for segment in dataset.SegmentSequence}
    assert len(kinds) == 3
    assert (kinds[accepted.tracking_uid], kinds[redrawn.tracking_uid]) == ("AUTOMATIC", "MANUAL")
    segment = next(each for each in read_segmentation(written.content) if each.tracking_uid == redrawn.tracking_uid)
    assert (segment.mask == redrawn.placements[0].regions[0].mask(*segment.mask.shape)).all()


def test_the_report_is_verified_once_every_region_was_decided(evidence: Evidence) -> None:
    first = lit(evidence)[0]
    partly, whole = decided(evidence, [decision(first, Ruling.ACCEPTED)]), decided_evidence()

    flags = {}
    for name, each in (("none", evidence), ("partly", partly), ("whole", whole)):
        written = report(each, segmentations(each))
        assert written is not None
        dataset = dcmread(DicomBytesIO(written.content))
        flags[name] = dataset.VerificationFlag
        people = [item.PersonName for item in dataset.ContentSequence if item.ValueType == "PNAME"]
        assert people == ([] if name == "none" else ["Dr. Ada Beispiel^"])
    (verifier,) = dataset.VerifyingObserverSequence
    said = {conclusion for phrase in read_report(written.content) for conclusion in phrase.conclusions}

    assert flags == {"none": "UNVERIFIED", "partly": "UNVERIFIED", "whole": "VERIFIED"}
    assert verifier.VerifyingObserverName == "Dr. Ada Beispiel^"
    assert verifier.VerificationDateTime == "20260302090100+0000"
    assert "Region rejected by Dr. Ada Beispiel on 2026-03-02: not there" in said
    assert "Region accepted by Dr. Ada Beispiel on 2026-03-02." in said


@pytest.mark.parametrize("release", Release)
def test_observations_are_final_or_amended_by_whom_a_provenance_names(release: Release) -> None:
    bundle = transaction(decided_evidence(make_radiograph(), make_radiograph(make_header(number=2))), release=release)
    resources = [entry["resource"] for entry in bundle["entry"]]

    assert checker(release.value).written(bundle) == []
    statuses = [each["status"] for each in resources if each["resourceType"] == "Observation"]
    assert statuses == ["final", "amended", "amended", "amended", "final", *["preliminary"] * 3]
    people = [each for each in resources if each["resourceType"] == "Provenance" and "activity" in each]
    assert len(people) == 10
    assert {each["agent"][0]["who"]["display"] for each in people} == {"Dr. Ada Beispiel"}
    assert {each["recorded"] for each in people} == {"2026-03-02T09:01:00+00:00"}
    assert sum("reason" in each or "authorization" in each for each in people) == 6


def test_a_decision_that_is_taken_back_leaves_the_observation_preliminary_again(evidence: Evidence) -> None:
    first = lit(evidence)[0]
    after = decided(evidence, [decision(first, Ruling.ACCEPTED)])
    resources = [entry["resource"] for entry in json.loads(as_bundle(after))["entry"]]
    observation = next(each for each in resources if each.get("status") == "final")
    by_somebody_else = {key: value for key, value in observation.items() if key != "meta"}

    ours, theirs = (
        next(
            entry["resource"]["status"]
            for entry in json.loads(settled(as_bundle(evidence), [held]))["entry"]
            if entry["resource"]["id"] == observation["id"]
        )
        for held in (observation, by_somebody_else)
    )

    assert (ours, theirs) == ("preliminary", "final")


def as_bundle(evidence: Evidence) -> str:
    return bundle_of(evidence, page_url=None, instances=stand_ins(evidence))


# What a person says


def said(
    evidence: Evidence,
    ruling: Ruling,
    *,
    phrase: int = 1,
    last: RegionDecision | None = None,
    outlines: tuple[Outline, ...] = (),
    reason: str = "wrong place",
) -> RegionDecision:
    document = evidence_document(evidence)
    part = document.phrases[phrase]
    placement = part.placements[0]
    word = Word(tag_of(part, placement, last), ruling, ADA, reason, outlines)
    return decision_of(
        word, part, placement, document.images[0], last=last, made=NOW, model=("sightline-test 1.0", "ab")
    )


def test_a_decision_keeps_what_it_is_about(evidence: Evidence) -> None:
    first = lit(evidence)[0]
    accepted = said(evidence, Ruling.ACCEPTED)
    drawn = said(evidence, Ruling.REDRAWN, last=accepted, outlines=(SQUARE,))

    assert accepted.place == (first.tracking_uid, first.placements[0].image.sop_instance_uid)
    assert [region.outline for region in accepted.regions] == [r.outline for r in first.placements[0].regions]
    assert (drawn.number, drawn.regions[0].outline, drawn.regions[0].probability) == (2, SQUARE, 1.0)


def test_what_was_rejected_can_be_accepted_after_all(evidence: Evidence) -> None:
    rejected = said(evidence, Ruling.REJECTED)
    written = decided(evidence, [rejected])

    again = said(written, Ruling.ACCEPTED, last=rejected)

    assert again.regions == rejected.regions


def test_the_tag_changes_with_what_a_person_sees_and_with_nothing_else(evidence: Evidence) -> None:
    before = evidence_document(evidence)
    part = before.phrases[1]
    rejected = said(evidence, Ruling.REJECTED)
    written = evidence_document(decided(evidence, [rejected])).phrases[1]
    doubtful = part.model_copy(update={"tracking_id": "another"})

    tag = tag_of(part, part.placements[0], None)
    after = tag_of(part, part.placements[0], rejected)

    assert tag == rejected.seen == tag_of(doubtful, part.placements[0], None)
    assert tag != after
    assert after == tag_of(written, written.placements[0], rejected)


def test_who_says_the_same_again_was_heard_already(evidence: Evidence) -> None:
    rejected = said(evidence, Ruling.REJECTED, reason="too  large ")
    drawn = said(evidence, Ruling.REDRAWN, outlines=(((10.001, 10.0), *SQUARE[1:]),))
    word = Word(rejected.seen, Ruling.REJECTED, ADA, "too large")

    assert is_heard(word, rejected)
    assert is_heard(replace(word, ruling=Ruling.REDRAWN, reason="wrong place", outlines=(SQUARE,)), drawn)
    for other in ({"reason": "wrong place"}, {"who": Person("B")}, {"seen": "x"}, {"ruling": Ruling.ACCEPTED}):
        assert not is_heard(replace(word, **other), rejected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"ruling": Ruling.REJECTED, "reason": " "}, "Say why"),
        ({"ruling": Ruling.ACCEPTED, "phrase": 6}, "Nothing is marked"),
        ({"ruling": Ruling.REJECTED, "phrase": 6}, "Nothing is marked"),
        ({"ruling": Ruling.TAKEN_BACK}, "no decision to take back"),
        ({"ruling": Ruling.REDRAWN}, "Draw at least one"),
        ({"ruling": Ruling.ACCEPTED, "outlines": (SQUARE,)}, "Only redrawn"),
        ({"ruling": Ruling.REDRAWN, "outlines": (SQUARE[:2],)}, "3 to 500 points"),
        ({"ruling": Ruling.REDRAWN, "outlines": (SQUARE,) * 21}, "at most 20"),
        ({"ruling": Ruling.REDRAWN, "outlines": (((-1.0, 0.0), *SQUARE),)}, "on the image"),
        ({"ruling": Ruling.REDRAWN, "outlines": (((0.0, float("nan")), *SQUARE),)}, "on the image"),
        ({"ruling": Ruling.REDRAWN, "outlines": (((1.0, 1.0), (1.2, 1.0), (1.1, 1.2)),)}, "too small"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_reason(
    evidence: Evidence, what: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        said(evidence, **what)  # type: ignore[arg-type]


def test_a_phrase_that_was_not_found_can_be_drawn(evidence: Evidence) -> None:
    drawn = said(evidence, Ruling.REDRAWN, phrase=6, outlines=(SQUARE,))

    assert decided(evidence, [drawn]).phrases[6].lit
