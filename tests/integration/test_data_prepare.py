"""``sightline prepare``: one size, regions in place, split by patient, resumable, honest about broken images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.data.opening import open_dataset
from model.data.prepare import Settings, prepare
from model.data.split import PARTS, part_of
from plugin.cli import main

EVEN = (0.4, 0.3, 0.3)


def _source(folder: Path, patients: int, *, size: tuple[int, int] = (120, 160)) -> Path:
    """Two images of each patient: a bright square under a box, and again under a mask."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(1))
    rows = []
    for number in range(patients * 2):
        pixels = rng.integers(20, 60, size, np.uint8)
        pixels[40:60, 80:120] = 240
        drawn = np.where(pixels == 240, 255, 0).astype(np.uint8)
        cv2.imwrite(str(folder / f"in/{number}.png"), pixels)
        cv2.imwrite(str(folder / f"in/{number}-mask.png"), drawn)
        row = {"image": f"in/{number}.png", "patient": f"p{number // 2}", "phrase": "opacity", "finding": "opacity"}
        rows += [row | {"boxes": [[80, 40, 40, 20]]}, row | {"mask": f"in/{number}-mask.png"}, row | {"boxes": []}]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "data.jsonl"


def test_boxes_and_masks_stay_where_the_finding_is(tmp_path: Path) -> None:
    source = open_dataset(str(_source(tmp_path / "source", 2)))

    prepare(source, tmp_path / "out", Settings(size=80))

    data = open_dataset(str(tmp_path / "out"))
    assert len(data.samples()) == 12
    for sample in data.samples():
        pixels, mask = data.pixels(sample.image), data.mask(sample)
        assert pixels.shape == mask.shape == (60, 80)
        if sample.present:
            np.testing.assert_array_equal(mask, pixels > 0.9)
        else:
            assert not mask.any()


def test_smaller_images_keep_their_size(tmp_path: Path) -> None:
    source = open_dataset(str(_source(tmp_path / "source", 1)))

    prepare(source, tmp_path / "out", Settings(size=512))

    data = open_dataset(str(tmp_path / "out"))
    assert data.pixels(data.samples()[0].image).shape == (120, 160)


def test_no_patient_is_in_two_parts(tmp_path: Path) -> None:
    source = open_dataset(str(_source(tmp_path / "source", 12)))

    made = prepare(source, tmp_path / "out", Settings(size=64, split=EVEN))

    patients = [{row.patient for row in open_dataset(f"{tmp_path / 'out'}#{part}").samples()} for part in PARTS]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients)) == 12
    assert dict(made.patients) == dict(zip(PARTS, map(len, patients), strict=True))


def test_a_part_without_a_share_gets_nobody() -> None:
    assert {part_of(str(number), (0.5, 0.0, 0.5), seed=1) for number in range(50)} == {"train", "test"}
    assert {part_of(str(number), (1.0, 0.0, 0.0), seed=1) for number in range(50)} == {"train"}


def test_the_parts_have_about_their_shares() -> None:
    drawn = [part_of(str(number), (0.7, 0.15, 0.15), seed=3) for number in range(4000)]

    assert [drawn.count(part) / 4000 for part in PARTS] == pytest.approx([0.7, 0.15, 0.15], abs=0.02)


def test_more_data_move_nobody(tmp_path: Path) -> None:
    def parts(patients: int, name: str) -> dict[str, str]:
        prepare(open_dataset(str(_source(tmp_path / f"in-{name}", patients))), tmp_path / name, Settings(64, EVEN))
        return {row.patient: part for part in PARTS for row in open_dataset(f"{tmp_path / name}#{part}").samples()}

    few, many = parts(6, "few"), parts(9, "many")

    assert few.items() <= many.items()


def test_a_broken_image_is_left_out_with_its_reason_and_the_rest_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _source(tmp_path / "source", 4)
    whole = (source.parent / "in/1.png").read_bytes()
    (source.parent / "in/1.png").write_bytes(whole[: len(whole) // 2])
    (source.parent / "in/2.png").write_text("not an image")
    cv2.imwrite(str(source.parent / "in/3.png"), np.full((120, 160), 7, np.uint8))
    (source.parent / "in/4.png").write_bytes(b"")

    assert main(["prepare", str(source), "--out", str(tmp_path / "out"), "--size", "64"]) == 0

    told = capsys.readouterr().err.splitlines()
    assert sorted(told[1:]) == [
        "  in/1.png: the file is cut off",
        "  in/2.png: the file is not an image, or not a whole one",
        "  in/3.png: nothing can be seen on the image",
        "  in/4.png: the file is empty",
    ]
    assert told[0] == "4 images were left out:"
    assert len(open_dataset(str(tmp_path / "out")).samples()) == 12


def test_a_source_of_which_no_image_can_be_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"image": "a.png", "patient": "1", "phrase": "x"}))

    assert main(["prepare", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "out")]) == os.EX_DATAERR
    assert "none of 1 images could be read; the first: No such file" in capsys.readouterr().err


def test_a_preparation_that_was_killed_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    source = _source(tmp_path / "source", 20, size=(360, 480))
    command = [sys.executable, "-m", "plugin.cli", "prepare", str(source), "--size", "64"]
    out = tmp_path / "out"
    running = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / "progress.jsonl").exists() or (out / "progress.jsonl").stat().st_size < 2000:
        assert running.poll() is None, "it was done before it could be killed"
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (out / "VERSION.json").exists()
    with (out / "progress.jsonl").open("a") as stream:
        stream.write('{"image": "in/')  # as if killed within a line
    before = {path: path.stat().st_mtime_ns for path in _noted(out)}

    assert main([*command[3:], "--out", str(out)]) == 0

    assert len(before) >= 2
    assert all(path.stat().st_mtime_ns == moment for path, moment in before.items())
    whole = prepare(open_dataset(str(source)), tmp_path / "whole", Settings(size=64))
    assert open_dataset(str(out)).version == open_dataset(str(tmp_path / "whole")).version
    assert (out / "VERSION.json").read_bytes() == (tmp_path / "whole/VERSION.json").read_bytes()
    assert sum(whole.samples.values()) == 120


def _noted(out: Path) -> list[Path]:
    lines = (out / "progress.jsonl").read_text().splitlines()[:-2]
    return [out / name for line in lines for name in json.loads(line)["files"]]


def test_a_file_that_was_lost_is_made_again(tmp_path: Path) -> None:
    source = open_dataset(str(_source(tmp_path / "source", 2)))
    first = prepare(source, tmp_path / "out", Settings(size=64))
    lost = next((tmp_path / "out/images").iterdir())
    lost.unlink()

    assert prepare(source, tmp_path / "out", Settings(size=64)) == first
    assert lost.is_file()


@pytest.mark.parametrize("change", [["--size", "65"], ["--seed", "1"], ["--split", "1,0,0"]])
def test_another_preparation_never_mixes_with_one_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str]
) -> None:
    command = ["prepare", str(_source(tmp_path / "source", 1)), "--out", str(tmp_path / "out")]
    assert main([*command, "--size", "64"]) == 0

    assert main([*command, "--size", "64", *change]) == os.EX_DATAERR
    assert f"not the same {change[0][2:]}" in capsys.readouterr().err


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    source = _source(tmp_path / "source", 1)

    assert main(["prepare", str(source), "--out", str(tmp_path / "source")]) == os.EX_DATAERR


@pytest.mark.parametrize("wrong", [["--size", "10"], ["--split", "0.5,0.5"], ["--split", "0.5,0.1,0.1"]])
def test_settings_that_cannot_be_are_refused(tmp_path: Path, wrong: list[str]) -> None:
    source = _source(tmp_path / "source", 1)

    assert main(["prepare", str(source), "--out", str(tmp_path / "out"), *wrong]) == os.EX_DATAERR


def test_the_contact_sheet_shows_findings_outlined_and_their_phrases(tmp_path: Path) -> None:
    prepare(open_dataset(str(_source(tmp_path / "source", 4))), tmp_path / "out", Settings(size=128))

    sheet = cv2.imread(str(tmp_path / "out/contact-sheet.png"))

    assert sheet.shape == (4 * 292, 6 * 256, 3)
    coloured = (sheet[..., 2].astype(int) - sheet[..., 0]) > 100
    assert coloured[:292, :256].sum() > 100
    assert (sheet[256:292, :256] > 200).any()


def test_deep_images_are_windowed_to_what_they_use(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(1000, 3000, 80).astype(np.uint16), (70, 1))
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (tmp_path / "data.jsonl").write_text(json.dumps({"image": "a.png", "patient": "1", "phrase": "x"}))

    prepare(open_dataset(str(tmp_path / "data.jsonl")), tmp_path / "out", Settings(size=80))

    data = open_dataset(str(tmp_path / "out"))
    np.testing.assert_allclose(data.pixels(data.samples()[0].image)[0], np.linspace(0, 1, 80), atol=0.02)
