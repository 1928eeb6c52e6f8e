from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from model.values import Grounding, ModelCard, Query, Region, State, Suitability, View
from nlp.phrases import Assertion, Concept, Laterality, Phrase, Reading, Section
from plugin.errors import InputError
from plugin.pipeline import MAX_PHRASES, ground_report, query_of
from plugin.values import (
    ImageDescription,
    ImageRef,
    Radiograph,
    Report,
    ReportRef,
    ReportStatus,
    StudyRef,
)

TEXT = "Small left effusion. No pneumothorax. Left basal effusion again."
EFFUSION, PNEUMOTHORAX = Concept("pleural effusion"), Concept("pneumothorax")


def phrase(text, finding, *, start=0, assertion=Assertion.AFFIRMED, **rest):
    groundable = assertion is not Assertion.NEGATED
    return Phrase(
        text=text,
        start=start,
        end=start + len(text),
        start_utf16=start,
        end_utf16=start + len(text),
        finding=finding,
        assertion=assertion,
        section=Section.FINDINGS,
        groundable=groundable,
        not_groundable_reason=None if groundable else "the report says it is absent",
        **rest,
    )


SMALL = phrase("Small left effusion", EFFUSION, laterality=Laterality.LEFT, sites=(Concept("lung base"),))
DENIED = phrase("pneumothorax", PNEUMOTHORAX, start=24, assertion=Assertion.NEGATED)
AGAIN = phrase("Left basal effusion", EFFUSION, start=38, shares_region_with=(SMALL.start, SMALL.end))


def radiograph(number):
    study = StudyRef("1.2.3")
    image = ImageRef(study, "1.2.3.4", f"1.2.3.4.{number}", "1.2.840.10008.5.1.4.1.1.1.1")
    return Radiograph(
        description=ImageDescription(image, modality="DX", view=View.FRONTAL, why="ViewPosition PA"),
        pixels=np.zeros((8, 8), np.float32),
        header=b"",
        source_sha256="0" * 64,
    )


class SquareGrounder:
    """Finds a square for everything it is asked, and remembers what it was asked."""

    card = ModelCard(name="square", version="1", weights_sha256="0" * 64, threshold=0.5)

    def __init__(self):
        self.asked = []

    def ground(self, pixels, orientation, queries):
        self.asked.append(queries)
        square = Region(((1.0, 1.0), (3.0, 1.0), (3.0, 3.0), (1.0, 3.0)), 0.9)
        return tuple(Grounding(query, State.FOUND, 0.9, (square,)) for query in queries)

    def ground_all(self, questions):
        return tuple(
            self.ground(each.pixels, each.orientation, each.queries) if each.queries else () for each in questions
        )

    def suitability(self, pixels, orientation):
        return Suitability(View.FRONTAL, orientation)


def ground(*phrases, grounder=None, images=None, version="1", notes=()):
    return ground_report(
        Report(ReportRef("r1", version), ReportStatus.FINAL, text=TEXT, text_source="file"),
        Reading(phrases, notes=("read",)),
        images=(radiograph(1),) if images is None else images,
        references=(),
        grounder=grounder or SquareGrounder(),
        reader_version="1",
        settings_sha256="0" * 64,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        notes=notes,
    )


def test_a_phrase_is_asked_in_its_own_words_with_side_and_sites():
    assert query_of(SMALL) == Query("Small left effusion", "pleural effusion", "left", ("lung base",))


def test_a_negated_phrase_is_kept_but_gets_no_region_and_is_never_asked():
    grounder = SquareGrounder()

    evidence = ground(SMALL, DENIED, grounder=grounder)

    assert [grounded.phrase for grounded in evidence.phrases] == [SMALL, DENIED]
    assert [grounded.lit for grounded in evidence.phrases] == [True, False]
    assert grounder.asked == [(query_of(SMALL),)]


def test_a_report_that_denies_everything_never_wakes_the_model():
    grounder = SquareGrounder()

    evidence = ground(DENIED, grounder=grounder)

    assert grounder.asked == []
    assert not evidence.phrases[0].placements


def test_phrases_that_speak_of_one_thing_are_grounded_once_and_share_the_region():
    grounder = SquareGrounder()

    first, second = ground(SMALL, AGAIN, grounder=grounder).phrases

    assert grounder.asked == [(query_of(SMALL),)]
    assert second.placements == first.placements
    assert second.tracking_uid != first.tracking_uid


def test_a_phrase_that_explains_a_denied_one_is_asked_itself():
    explains = phrase("Left basal effusion", EFFUSION, start=38, shares_region_with=(DENIED.start, DENIED.end))

    _, grounded = ground(DENIED, explains).phrases

    assert grounded.lit


def test_every_image_gets_its_own_placement():
    evidence = ground(SMALL, images=(radiograph(1), radiograph(2)))

    (grounded,) = evidence.phrases
    assert [placement.image.sop_instance_uid[-1] for placement in grounded.placements] == ["1", "2"]


def test_an_unchanged_phrase_keeps_its_tracking_uid_when_the_report_is_amended():
    before, after = ground(SMALL), ground(DENIED, SMALL, version="2")

    assert before.phrases[0].tracking_uid == after.phrases[1].tracking_uid
    assert before.key != after.key


def test_whatever_changes_results_changes_the_identity_of_what_is_written():
    made = ground(SMALL)
    said = made.provenance
    changed = [
        replace(said, reader_version="2"),
        replace(said, settings_sha256="1" * 64),
        replace(said, model=replace(said.model, weights_sha256="1" * 64)),
        replace(said, model=replace(said.model, threshold=0.4)),
        replace(said, model=replace(said.model, presence_threshold=0.4)),
    ]

    keys = {replace(made, provenance=provenance).key for provenance in (said, *changed)}

    assert len(keys) == 1 + len(changed)


def test_the_time_of_the_run_is_no_part_of_the_identity():
    made = ground(SMALL)
    later = replace(made, provenance=replace(made.provenance, created=datetime(2027, 1, 1, tzinfo=UTC)))

    assert later.key == made.key


def test_the_same_words_twice_are_two_phrases():
    twice = phrase("Small left effusion", EFFUSION, start=30, laterality=Laterality.LEFT)

    first, second = ground(SMALL, twice).phrases

    assert first.tracking_uid != second.tracking_uid


def test_warnings_of_earlier_steps_come_first():
    assert ground(SMALL, notes=("lateral kept",)).warnings == ("lateral kept", "read")


def test_evidence_without_an_image_is_refused():
    with pytest.raises(ValueError, match="no image"):
        ground(SMALL, images=())


def test_a_report_with_more_phrases_than_any_has_is_refused_before_the_model_is_asked():
    many = Reading(tuple(phrase("effusion", EFFUSION, start=9 * number) for number in range(MAX_PHRASES + 1)))
    grounder = SquareGrounder()

    with pytest.raises(InputError, match="501 finding phrases; at most 500"):
        ground_report(
            Report(ReportRef("r", "1"), ReportStatus.FINAL, text="effusion " * (MAX_PHRASES + 1), text_source="file"),
            many,
            images=(radiograph(1),),
            references=(),
            grounder=grounder,
            reader_version="1",
            settings_sha256="",
            created=datetime(2026, 1, 1, tzinfo=UTC),
        )
    assert not grounder.asked
