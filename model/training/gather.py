"""From the configuration to sources: data sets opened, checked, split by patient and shelved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from model.config import Config
from model.data.lesions import LesionSet, Mask
from model.data.opening import open_dataset
from model.data.sample import DataSet, Pixels, Sample
from model.data.split import HELD_OUT_RULE, digest
from model.geometry import UPRIGHT, letterbox_of
from model.grounder import load_grounder
from model.training.config import Data, LabelData, LesionData, LungData, PhraseData, Split, Training, TwinData, ViewData
from model.training.labels import LabelledImage, read_labels, read_pixels
from model.training.pictures import Manner, Picture, PictureSource, Truth, odds_of, part_of
from model.training.shelf import Sheet, Shelf, shelve
from model.training.sources import Source, ViewSource, lung_source, twin_source
from model.training.wording import finding_of, query_of_sample
from model.values import Heatmap, Query
from model.weights import load_manifest

_SHOWN = 5
Say = Callable[[str], None]


class DataFaultError(ValueError):
    """The data cannot be trained on; the message counts each fault and names the first places."""


def gather(training: Training, say: Say) -> tuple[Source, ...]:
    """Every source with a weight or a score; *say* tells what is left out.

    Raises
    ------
    DataFaultError
        If data is missing or has faults that the configuration does not skip.
    """
    found: list[Source] = []
    for number, data in enumerate(training.data):
        source = _source(data, training, say, f"data.{number} ({data.kind})")
        if source is not None:
            found.append(source)
    if not any(source.weight and (len(source) or isinstance(source, ViewSource)) for source in found):
        raise DataFaultError("no source has images to train on")
    if not any(source.score for source in found) and not training.split.crossed:
        raise DataFaultError("no source has a score: give one a validation part and a score above zero")
    _apart(found)
    if training.split.folds:
        _unseen(found, training)
    return tuple(found)


def _source(data: Data, training: Training, say: Say, name: str) -> Source | None:
    try:
        return _opened(data, training, say)
    except DataFaultError:
        raise
    except (OSError, ValueError) as error:
        reason = (error.strerror or "not readable") if isinstance(error, OSError) else str(error)
        if getattr(data, "optional", False):
            say(f"{name} is left out: {reason}")
            return None
        raise DataFaultError(f"{name}: {reason}") from error


def _opened(data: Data, training: Training, say: Say) -> Source:
    config = training.measures()
    match data:
        case TwinData():
            return twin_source(data, config=config, workers=training.machine.workers)
        case LungData():
            return lung_source(data, config)
        case PhraseData():
            return _phrases(data, training, say, config)
        case LabelData():
            return _labels(data, training, say, config)
        case LesionData():
            return _lesions(data, training, say, config)
        case ViewData():
            return ViewSource(data.weight, config)


def _phrases(data: PhraseData, training: Training, say: Say, config: Config) -> PictureSource:
    main = open_dataset(data.open)
    sets = [(main, None if not data.validation_open else "training")]
    if data.validation_open:
        sets.append((open_dataset(data.validation_open), "validation"))
    sheets: list[Sheet] = []
    pictures: list[tuple[Picture, str]] = []
    masks = 0
    for each, part in sets:
        for image, group in groupby(sorted(each.samples(), key=lambda s: s.image), key=lambda s: s.image):
            samples = tuple(group)
            sheet, truths = _sheet(each, image, samples, first=masks)
            picture = Picture(len(sheets), samples[0].patient, samples[0].view, truths)
            sheets.append(sheet)
            pictures.append((picture, part or part_of(picture.patient, training.split)))
            masks += len(sheet.masks)
    version = " ".join(each.version for each, _ in sets)
    shelf = shelve(
        tuple(sheets),
        config=config,
        workers=training.machine.workers,
        cache=data.cache,
        version=version,
    )
    sound = _sound([picture for picture, _ in pictures], shelf, data.faults, say=say, name=main.name)
    manner = Manner(data.balance, data.swap_sides, data.reword, data.mirror, data.phrases)
    parts = {picture.row: part for picture, part in pictures}
    about: dict[str, object] = {"version": version, "split": _split(training.split) if not data.validation_open else ""}
    return _picture_source(main.name, data, shelf=shelf, pictures=sound, parts=parts, manner=manner, about=about)


def _lesions(data: LesionData, training: Training, say: Say, config: Config) -> PictureSource:
    """As phrases whose regions are exact; patients who validate are left out, since no score is made of them."""
    sheets: list[Sheet] = []
    pictures: list[Picture] = []
    lesions = lesion_set(open_dataset(data.open), data.outlines, rounds=data.rounds)
    for sample in lesions.samples():
        if part_of(sample.patient, training.split) == "training":
            sheet, truths = _sheet(lesions, sample.image, (sample,), first=len(sheets))
            pictures.append(Picture(len(sheets), sample.patient, sample.view, truths))
            sheets.append(sheet)
    workers, version = training.machine.workers, f"{lesions.version} {_split(training.split)}"
    shelf = shelve(tuple(sheets), config=config, workers=workers, cache=data.cache, version=version)
    # No lung to put anything into, as the weights outline it: not a fault of the data.
    sound = _sound(pictures, shelf, "skip", say=say, name=lesions.name)
    return PictureSource(
        name=lesions.name,
        weight=data.weight,
        score=0.0,
        shelf=shelf,
        training=sound,
        odds=odds_of(sound, ()),
        checks=(),
        manner=Manner(reword=data.reword, mirror=data.mirror),
        about={"images": len(sound), "version": lesions.version, "split": _split(training.split)},
    )


def lesion_set(normals: DataSet, outlines: Path | None, *, rounds: int) -> LesionSet:
    """The normal radiographs of *normals*, with lesions in the lungs as the weights of *outlines* find them.

    Raises
    ------
    model.weights.WeightsError
        If there are no such weights.
    """
    grounder = load_grounder(outlines, judged=False)

    def lungs_of(pixels: Pixels) -> tuple[Mask, Mask]:
        lungs, box = grounder.lungs(pixels, UPRIGHT), letterbox_of(pixels)
        right, left = (Heatmap(lung.astype(np.float32), box).on_source() > 0.5 for lung in (lungs.right, lungs.left))
        return right, left

    return LesionSet(normals, lungs_of, lungs_version=grounder.card.weights_sha256, rounds=rounds)


def _sheet(each: DataSet, image: str, samples: tuple[Sample, ...], *, first: int) -> tuple[Sheet, tuple[Truth, ...]]:
    """What to read of one image; *first* is the row of its first mask."""
    there = [sample for sample in samples if sample.present]
    sheet = Sheet(
        pixels=partial(each.pixels, image),
        masks=tuple(partial(each.mask, sample) for sample in there),
        boxes=tuple(sample.boxes for sample in there),
    )
    truths, row = [], first
    for sample in samples:
        query = query_of_sample(sample) if any(map(str.isalpha, sample.phrase)) else Query("?", "")
        truths.append(Truth(query, sample.present, True, row if sample.present else None))
        row += sample.present
    return sheet, tuple(truths)


def _labels(data: LabelData, training: Training, say: Say, config: Config) -> PictureSource:
    images = read_labels(data)
    about: dict[str, object] = {"split": _split(training.split)}
    if data.without:
        elsewhere = open_dataset(data.without)
        others = {sample.patient for sample in elsewhere.samples()}
        images = tuple(image for image in images if image.patient not in others)
        about["without patients of"] = elsewhere.version
    folder = data.table.parent
    pictures, parts = [], {}
    for row, image in enumerate(images):
        pictures.append(Picture(row, image.patient, image.view, _told(image, data)))
        parts[row] = part_of(image.patient, training.split)
    about["version"] = version = hashlib.sha256(data.table.read_bytes()).hexdigest()
    sheets = tuple(Sheet(partial(read_pixels, folder / image.file)) for image in images)
    shelf = shelve(
        sheets,
        config=config,
        workers=training.machine.workers,
        cache=data.cache,
        version=version,
    )
    sound = _sound(pictures, shelf, data.faults, say=say, name=data.table.name)
    manner = Manner(data.balance, 0.0, data.reword, data.mirror, data.phrases)
    name = f"labels of {data.table.parent.name}"
    return _picture_source(name, data, shelf=shelf, pictures=sound, parts=parts, manner=manner, about=about)


def _told(image: LabelledImage, data: LabelData) -> tuple[Truth, ...]:
    """A label that the image has is present; the others are absent."""
    truths = []
    for label in data.findings:
        text = label.replace("_", " ").lower()
        query = Query(text, finding_of(text) or text)
        truths.append(Truth(query, label in image.labels, drawn=False))
    return tuple(truths)


def _picture_source(
    name: str,
    data: PhraseData | LabelData,
    *,
    shelf: Shelf,
    pictures: tuple[Picture, ...],
    parts: dict[int, str],
    manner: Manner,
    about: dict[str, object],
) -> PictureSource:
    training, checks = (tuple(p for p in pictures if parts[p.row] == part) for part in ("training", "validation"))
    counts = {"images": len(training), "validation images": len(checks)}
    return PictureSource(
        name=name,
        weight=data.weight if training else 0.0,
        score=data.score if checks else 0.0,
        shelf=shelf,
        training=training,
        odds=odds_of(training, manner.balance),
        checks=checks,
        manner=manner,
        about={**counts, **about},
        prior=isinstance(data, PhraseData) and data.prior,
    )


def _sound(pictures: list[Picture], shelf: Shelf, faults: str, *, say: Say, name: str) -> tuple[Picture, ...]:
    """The pictures without the faulty ones, or a refusal."""
    starts: dict[int, int] = {}
    for picture in pictures:
        rows = [truth.mask for truth in picture.truths if truth.mask is not None]
        starts[picture.row] = min(rows, default=0)
    found = [(f"image {image}", what) for image, _, what in shelf.faults]
    spoilt = {image for image, mask, _ in shelf.faults if mask < 0}
    lost = {starts[image] + mask for image, mask, _ in shelf.faults if mask >= 0}
    for picture in pictures:
        found += [(f"image {picture.row}", "a phrase has no words") for t in picture.truths if not t.query.finding]
    if found and faults == "stop":
        raise DataFaultError(f'{name}: {_counted(found)}. Mend the data, or set faults = "skip" to train without them')
    if found:
        say(f"{name}: left out: {_counted(found)}")
    kept = []
    for picture in pictures:
        truths = tuple(t for t in picture.truths if t.mask not in lost and t.query.finding)
        if picture.row not in spoilt and truths:
            kept.append(Picture(picture.row, picture.patient, picture.view, truths))
    return tuple(kept)


def _counted(found: list[tuple[str, str]]) -> str:
    kinds: dict[str, list[str]] = {}
    for where, what in found:
        kinds.setdefault(what, []).append(where)
    return "; ".join(
        f"{what}: {len(places)} ({', '.join(places[:_SHOWN])}{', ...' if len(places) > _SHOWN else ''})"
        for what, places in kinds.items()
    )


def _split(split: Split) -> dict[str, float]:
    """For the manifest."""
    if split.folds:
        return {"held out": split.held_out, "folds": split.folds}
    return {"held out": split.held_out, "validation": split.validation}


def patients_of(sources: Sequence[Source]) -> dict[str, object]:
    """For the manifest: every real patient that was trained or tuned on, under a digest, and who never is."""
    seen = {
        digest(picture.patient)
        for source in sources
        if isinstance(source, PictureSource)
        for picture in (*source.training, *source.checks)
    }
    return {"patients": sorted(seen), "held_out": HELD_OUT_RULE} if seen else {}


def _apart(sources: list[Source]) -> None:
    """No patient both trains and validates, within a source."""
    for source in sources:
        if isinstance(source, PictureSource):
            both = {p.patient for p in source.training} & {p.patient for p in source.checks}
            if both:
                raise DataFaultError(f"{source.name}: {len(both)} patients are in training and in validation")


def _unseen(sources: list[Source], training: Training) -> None:
    """No weights that training begins from, or learns from, have seen who validates."""
    teachers = training.distil.teachers if training.distil else ()
    known = {
        patient
        for folder in (training.start, *teachers)
        if folder is not None
        for patient in load_manifest(folder).data.get("patients", ())
    }
    scored = [each for each in sources if isinstance(each, PictureSource) and each.score]
    met = known & {digest(picture.patient) for source in scored for picture in source.checks}
    if met:
        raise DataFaultError(
            f"fold {training.split.fold}: the weights to start or learn from have seen {len(met)} of its patients; "
            "their answers must be those of strangers: start from weights trained without them"
        )
