"""From a data set in any form to a folder that trains well: images of one size, boxes and masks with them, split by
patient, pinned. Resumable after a kill at any moment: what was finished is not done again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from model.data.contact import contact_sheet
from model.data.jsonl import line_of, samples_of
from model.data.pictures import stretched
from model.data.pins import DataError, digest_of, write_pins
from model.data.prefetch import prefetched
from model.data.sample import Box, DataSet, Sample
from model.data.split import PARTS, part_of
from model.data.store import write_whole

_SETTINGS, _PROGRESS = "prepared.json", "progress.jsonl"
_WINDOW = (0.1, 99.9)  # percentiles of each image that become black and white
_FLAT = 0.01  # standard deviation of a normalised image below which nothing can be seen on it


@dataclass(frozen=True, slots=True)
class Settings:
    """How to prepare.

    Parameters
    ----------
    size : pixels of an image's longer side; smaller images keep theirs.
    split : shares of the patients for training, validation and test.
    seed : of the split.
    """

    size: int = 512
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 64:
            raise DataError("images are prepared at 64 pixels or more")
        if len(self.split) != 3 or min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise DataError("the split is three shares of the patients that add up to 1, for instance 0.7,0.15,0.15")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made.

    Parameters
    ----------
    samples, patients : how many, for each part.
    broken : images that were left out, each with the reason.
    """

    version: str
    samples: Mapping[str, int]
    patients: Mapping[str, int]
    broken: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Done:
    """One image: its rows and the digests of its files."""

    rows: tuple[Sample, ...]
    files: Mapping[str, str]


def prepare(data: DataSet, out: Path, settings: Settings, *, threads: int = 2) -> Prepared:
    """Write *data* into the folder *out*: images and masks as PNG, a JSONL for each part, VERSION.json and a contact
    sheet. Called again after an interruption, it goes on where it was.

    Raises
    ------
    DataError
        If *out* holds another preparation, or no image could be read.
    OSError
        If *out* cannot be written.
    """
    _claim(out, data, settings)
    rows: dict[str, list[Sample]] = {}
    for sample in data.samples():
        rows.setdefault(sample.image, []).append(sample)
    done = _finished(out)
    missing = [image for image in rows if image not in done]
    broken: list[tuple[str, str]] = []
    for image, made in _made(data, {image: tuple(rows[image]) for image in missing}, out, settings, threads=threads):
        if isinstance(made, str):
            broken.append((image, made))
        else:
            _note(out / _PROGRESS, image, made)
            done[image] = made
    if not done:
        raise DataError(f"none of {len(broken)} images could be read; the first: {broken[0][1] if broken else 'none'}")
    return _finish(out, [done[image] for image in rows if image in done], settings, tuple(broken))


def resized(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """*pixels* with the longer side at most *size*, each new pixel the mean of those that it covers."""
    rows, columns = pixels.shape
    scale = size / max(rows, columns)
    if scale >= 1:
        return pixels
    shape = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return np.asarray(cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA), np.float32)


def _claim(out: Path, data: DataSet, settings: Settings) -> None:
    """Write what is being prepared into *out*, or see that it is the same."""
    wanted = json.loads(json.dumps({"source": data.version, **asdict(settings)}))
    note = out / _SETTINGS
    if note.is_file():
        held = json.loads(note.read_text())
        if held != wanted:
            changed = ", ".join(key for key in wanted if held.get(key) != wanted[key])
            raise DataError(
                f"{out} holds another preparation (not the same {changed}): choose another folder for this one"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} is not empty and holds no preparation: choose another folder")
    write_whole(note, (json.dumps(wanted, indent=1) + "\n").encode())


def _made(
    data: DataSet, rows: Mapping[str, tuple[Sample, ...]], out: Path, settings: Settings, *, threads: int
) -> Iterator[tuple[str, _Done | str]]:
    """Each image with what was made of it, or with the reason why nothing was."""

    def make(image: str) -> _Done | str:
        try:
            return _make(data, image, rows[image], out, size=settings.size)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return reason or type(error).__name__

    coming = prefetched(make, rows, threads=threads, ahead=4 * threads)
    yield from track(coming, total=len(rows), description="Preparing", transient=True)


def _make(data: DataSet, image: str, rows: tuple[Sample, ...], out: Path, *, size: int) -> _Done:
    whole = data.pixels(image)
    pixels = stretched(resized(whole, size), *_WINDOW)
    if pixels.std() < _FLAT:
        raise ValueError("nothing can be seen on the image")
    stem = _stem(image)
    files = {f"images/{stem}.png": _png(pixels)}
    scale = pixels.shape[1] / whole.shape[1], pixels.shape[0] / whole.shape[0]
    made = []
    for number, sample in enumerate(rows):
        mask = None
        if sample.mask is not None:
            mask = f"masks/{stem}-{number}.png"
            files[mask] = _png(_resized_mask(data.mask(sample), pixels.shape))
        boxes = tuple(_scaled(box, *scale) for box in sample.boxes)
        made.append(replace(sample, image=f"images/{stem}.png", boxes=boxes, mask=mask))
    for name, content in files.items():
        write_whole(out / name, content)
    return _Done(tuple(made), {name: digest_of(content) for name, content in files.items()})


def _resized_mask(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """*mask* at *shape*, 1 where at least half of a new pixel is in it; what is there at all stays at least a pixel."""
    small = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small >= min(0.5, float(small.max()) or 0.5), np.float32)


def _scaled(box: Box, across: float, down: float) -> Box:
    numbers = (box.x * across, box.y * down, box.width * across, box.height * down)
    return Box(*(round(number, 2) for number in numbers))


def _stem(image: str) -> str:
    """A file name for *image*: its own, made harmless, and a part of the digest of its whole path."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(image).name.partition(".")[0])[:80]
    return f"{name}-{digest_of(image.encode())[:8]}"


def _png(pixels: npt.NDArray[np.float32]) -> bytes:
    return cv2.imencode(".png", np.asarray(np.round(pixels * 255), np.uint8))[1].tobytes()


def _note(progress: Path, image: str, done: _Done) -> None:
    line = json.dumps({"image": image, "files": dict(done.files), "rows": "".join(map(line_of, done.rows))})
    with progress.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def _finished(out: Path) -> dict[str, _Done]:
    """What an earlier run finished and is still there; a line that it was killed in does not count."""
    done: dict[str, _Done] = {}
    progress = out / _PROGRESS
    for line in progress.read_text(encoding="utf-8").splitlines() if progress.is_file() else ():
        try:
            held = json.loads(line)
        except json.JSONDecodeError:
            continue
        if all((out / name).is_file() for name in held["files"]):
            done[held["image"]] = _Done(samples_of(held["rows"].encode(), progress.name), held["files"])
    return done


def _finish(out: Path, done: list[_Done], settings: Settings, broken: tuple[tuple[str, str], ...]) -> Prepared:
    samples = [sample for each in done for sample in each.rows]
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for sample in samples:
        parts[part_of(sample.patient, settings.split, seed=settings.seed)].append(sample)
    digests = {name: digest for each in done for name, digest in each.files.items()}
    for part, rows in parts.items():
        content = "".join(map(line_of, rows)).encode()
        write_whole(out / f"{part}.jsonl", content)
        digests[f"{part}.jsonl"] = digest_of(content)
    write_whole(out / "contact-sheet.png", contact_sheet(out, samples))
    return Prepared(
        version=write_pins(out, digests=digests),
        samples={part: len(rows) for part, rows in parts.items()},
        patients={part: len(_patients(rows)) for part, rows in parts.items()},
        broken=broken,
    )


def _patients(rows: Iterable[Sample]) -> frozenset[str]:
    return frozenset(row.patient for row in rows)
