"""Radiologists' decisions about regions: what they make of evidence, and what a person saw when deciding. Pure.

A decision belongs to a phrase on an image, by the tracking UID of the phrase: whatever grounds it again, and as long as
an amended report says the same, the last decision says what is marked. See docs/adr/0026-a-persons-word-stays.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from model.values import Region, State
from plugin.errors import InputError
from plugin.identity import sha256_hex
from plugin.page.document import ImagePart, PhrasePart, PlacementPart
from plugin.values import Evidence, GroundedPhrase, Person, Placement, RegionDecision, Ruling

MOST_REGIONS, MOST_VERTICES = 20, 500
REJECTED = "A radiologist rejected the region."

Outline = tuple[tuple[float, float], ...]


def last_of(decisions: Iterable[RegionDecision]) -> dict[tuple[str, str], RegionDecision]:
    """The last decision about each phrase on each image."""
    return {each.place: each for each in sorted(decisions, key=lambda each: each.number)}


def decided(evidence: Evidence, decisions: Sequence[RegionDecision]) -> Evidence:
    """*evidence* as the radiologists' *decisions* have it: all that were ever made about its study and report.

    Those about a phrase or an image that is there no more change nothing, and a warning says so.
    """
    last = {place: each for place, each in last_of(decisions).items() if each.ruling is not Ruling.TAKEN_BACK}
    phrases = tuple(_decided_phrase(grounded, last) for grounded in evidence.phrases)
    used = {decision.place for grounded in phrases for decision in grounded.decisions}
    lost = len(last.keys() - used)
    return replace(evidence, phrases=phrases, warnings=(*evidence.warnings, *([_lost(lost)] if lost else [])))


def _decided_phrase(grounded: GroundedPhrase, last: Mapping[tuple[str, str], RegionDecision]) -> GroundedPhrase:
    placements = tuple(
        _decided_placement(placement, last.get((grounded.tracking_uid, placement.image.sop_instance_uid)))
        for placement in grounded.placements
    )
    return replace(grounded, placements=placements)


def _decided_placement(placement: Placement, decision: RegionDecision | None) -> Placement:
    if decision is None:
        return placement
    regions, state = _standing(placement.regions, placement.state, decision)
    reason = REJECTED if decision.ruling is Ruling.REJECTED else None
    return replace(placement, regions=regions, state=state, reason=reason, decision=decision)


def _standing(
    offered: tuple[Region, ...], state: State, decision: RegionDecision | None
) -> tuple[tuple[Region, ...], State]:
    """What is marked, and why, when *offered* is what the model, or an earlier decision, marks."""
    match decision.ruling if decision else None:
        case Ruling.ACCEPTED | Ruling.REDRAWN if decision:
            return decision.regions, decision.state
        case Ruling.REJECTED:
            return (), State.NOT_FOUND
        case _:
            return offered, state


def _lost(number: int) -> str:
    what = "A radiologist's decision" if number == 1 else f"{number} decisions of radiologists"
    return f"{what} about a phrase or an image that is not there any more: not used."


# What a person sees, and decides


def tag_of(phrase: PhrasePart, placement: PlacementPart, last: RegionDecision | None) -> str:
    """An opaque tag of what a person is shown of *phrase* on an image: another one whenever that changes."""
    regions, state = _standing(_regions(placement), placement.state, last)
    told = {
        "phrase": [phrase.tracking_uid, phrase.text],
        "image": placement.sop_instance_uid,
        "state": state,
        "regions": [region.outline for region in regions],
        "decision": last.number if last else 0,
    }
    return sha256_hex(json.dumps(told).encode())[:32]


def is_marked(placement: PlacementPart, last: RegionDecision | None) -> bool:
    """Whether a region is marked there after the decision *last*."""
    return bool(_standing(_regions(placement), placement.state, last)[0])


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says of a place.

    Parameters
    ----------
    seen : the tag of what they saw; see :func:`tag_of`.
    outlines : what they drew; only of what is redrawn.
    """

    seen: str
    ruling: Ruling
    who: Person
    reason: str = ""
    outlines: tuple[Outline, ...] = ()


def decision_of(
    word: Word,
    phrase: PhrasePart,
    placement: PlacementPart,
    image: ImagePart,
    *,
    last: RegionDecision | None,
    made: datetime,
    model: tuple[str, str],
) -> RegionDecision:
    """The decision after *last* about *phrase* on *image*.

    Parameters
    ----------
    model : name with version, and the hash of the weights.

    Raises
    ------
    InputError
        If there is nothing to decide about, or it is not said why, or what was drawn is no region of the image.
    """
    ruling, outlines = word.ruling, word.outlines
    offered, state = _standing(_regions(placement), placement.state, last)
    if ruling is Ruling.TAKEN_BACK and (last is None or last.ruling is Ruling.TAKEN_BACK):
        raise InputError("There is no decision to take back.")
    if bool(outlines) != (ruling is Ruling.REDRAWN):
        raise InputError("Draw at least one region." if ruling is Ruling.REDRAWN else "Only redrawn has regions.")
    if ruling in (Ruling.REJECTED, Ruling.REDRAWN) and not _line(word.reason):
        raise InputError("Say why.")
    match ruling:
        case Ruling.REDRAWN:
            regions, state = _drawn(outlines, image), State.FOUND
        case Ruling.TAKEN_BACK:
            regions = ()
        case _:
            again = last is not None and last.ruling is Ruling.REJECTED
            regions, state = (last.regions, last.state) if again and last else (offered, state)
            if not regions:
                raise InputError("Nothing is marked for this phrase on this image: draw a region instead.")
    return RegionDecision(
        tracking_uid=phrase.tracking_uid,
        sop_instance_uid=placement.sop_instance_uid,
        number=last.number + 1 if last else 1,
        ruling=ruling,
        regions=regions,
        state=state,
        reason=_line(word.reason),
        who=word.who,
        made=made,
        seen=word.seen,
        model=model[0],
        weights_sha256=model[1],
    )


def is_heard(word: Word, decision: RegionDecision) -> bool:
    """Whether *decision* is what *word* led to: it is said again by who did not hear that it was heard."""
    told = (word.seen, word.ruling, word.who, _line(word.reason))
    drawn = tuple(region.outline for region in decision.regions) if decision.ruling is Ruling.REDRAWN else ()
    kept = (decision.seen, decision.ruling, decision.who, decision.reason)
    return told == kept and tuple(map(_rounded, word.outlines)) == drawn


def _line(text: str) -> str:
    """One line of what can be printed: neither databases nor FHIR take the rest."""
    return "".join(each for each in " ".join(text.split()) if each.isprintable())


def _rounded(outline: Outline) -> Outline:
    return tuple((round(x, 2), round(y, 2)) for x, y in outline)


def _regions(placement: PlacementPart) -> tuple[Region, ...]:
    return tuple(Region(part.outline, part.probability) for part in placement.regions)


def _drawn(outlines: Sequence[Outline], image: ImagePart) -> tuple[Region, ...]:
    """Regions of a person are sure of themselves: probability 1."""
    if len(outlines) > MOST_REGIONS or any(not 3 <= len(outline) <= MOST_VERTICES for outline in outlines):
        raise InputError(f"Draw at most {MOST_REGIONS} regions, each of 3 to {MOST_VERTICES} points.")
    inside = all(0 <= x <= image.columns and 0 <= y <= image.rows for outline in outlines for x, y in outline)
    if not inside:
        raise InputError("A region has to lie on the image.")
    regions = tuple(Region(_rounded(outline), 1.0) for outline in outlines)
    if not all(region.mask(image.rows, image.columns).any() for region in regions):
        raise InputError("A region is too small: it covers no pixel.")
    return regions
