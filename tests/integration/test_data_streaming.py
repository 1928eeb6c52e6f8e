"""Data streamed from a real object store: pinned, cached within a limit, and whole in spite of a bad line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import stores
from mscxr import write_miniature

from model.data.opening import open_dataset
from model.data.pins import DataError, write_pins
from model.data.prefetch import prefetched
from model.data.store import BucketStore

COUNT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four noisy images with a label each, pinned."""
    made = tmp_path_factory.mktemp("data")
    (made / "images").mkdir()
    rng = np.random.Generator(np.random.PCG64(5))
    rows = []
    for number in range(COUNT):
        cv2.imwrite(str(made / f"images/{number}.png"), rng.integers(0, 256, (64, 64), np.uint8))
        row = {"image": f"images/{number}.png", "patient": f"patient-{number}", "phrase": "opacity"}
        rows.append(json.dumps(row | {"boxes": [[number, 2, 10, 10]]}))
    (made / "data.jsonl").write_text("\n".join(rows))
    write_pins(made)
    return made


@pytest.fixture
def line(bucket: stores.Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[stores.Line]:
    """A line to the bucket that can be made bad."""
    with stores.run_bad_line(bucket.endpoint) as bad:
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": bad.endpoint})
        yield bad


@pytest.fixture
def place(bucket: stores.Bucket, folder: Path, tmp_path: Path) -> str:
    """Address of the folder in the bucket, one for each test."""
    _upload(bucket, folder, tmp_path.name)
    return f"s3://{bucket.name}/{tmp_path.name}"


def _upload(bucket: stores.Bucket, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def _store(place: str, cache: Path, **given: object) -> BucketStore:
    return BucketStore(place, cache=cache, pause=lambda _: None, **given)


def test_a_bucket_gives_what_the_folder_gives(place: str, folder: Path, tmp_path: Path) -> None:
    local = open_dataset(str(folder))

    for where in (place, f"{place}/", f"{place}/data.jsonl"):
        remote = open_dataset(where, cache=tmp_path / "cache", version=local.version)
        assert remote.samples() == local.samples()
        for sample in remote.samples():
            np.testing.assert_array_equal(remote.pixels(sample.image), local.pixels(sample.image))
            np.testing.assert_array_equal(remote.mask(sample), local.mask(sample))


def test_a_folder_may_be_named_as_a_file_address(folder: Path) -> None:
    assert open_dataset(f"file://{folder}").version == open_dataset(str(folder)).version


def test_any_file_system_of_fsspec_that_is_pinned_can_be_read(folder: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/pinned", recursive=True)

    assert open_dataset("memory://pinned", cache=tmp_path).version == open_dataset(str(folder)).version


def test_an_image_is_fetched_when_it_is_read_and_only_once(place: str, line: stores.Line, tmp_path: Path) -> None:
    data = open_dataset(place, cache=tmp_path / "cache")
    image = data.samples()[0].image
    assert not any("images/" in path for path in line.asked)

    data.pixels(image)
    before = len(line.asked)
    data.pixels(image)

    assert any("images/0.png" in path for path in line.asked)
    assert len(line.asked) == before


def test_threads_read_ahead_from_a_bucket(place: str, folder: Path, tmp_path: Path) -> None:
    data, local = open_dataset(place, cache=tmp_path / "cache"), open_dataset(str(folder))

    for image, pixels in prefetched(data.pixels, [row.image for row in data.samples()] * 3, threads=4, ahead=3):
        np.testing.assert_array_equal(pixels, local.pixels(image))


@pytest.mark.parametrize("fault", ["cut", "short"])
def test_a_body_that_arrives_cut_off_is_fetched_again(
    place: str, folder: Path, line: stores.Line, tmp_path: Path, fault: str
) -> None:
    store = _store(place, tmp_path / "cache")
    setattr(line, fault, 2)

    assert store.read("images/1.png") == (folder / "images/1.png").read_bytes()
    assert getattr(line, fault) == 0


def test_a_line_that_stays_bad_is_given_up_with_nothing_half_in_the_cache(
    place: str, line: stores.Line, tmp_path: Path
) -> None:
    store = _store(place, tmp_path / "cache")
    line.short = 99

    with pytest.raises(DataError, match="tried 4 times"):
        store.read("images/1.png")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "pins"]


def test_a_missing_object_is_named_at_once(
    place: str, bucket: stores.Bucket, line: stores.Line, tmp_path: Path
) -> None:
    store = BucketStore(place, cache=tmp_path / "cache", pause=lambda _: pytest.fail("nothing to wait for"))
    bucket.client.delete_object(Bucket=bucket.name, Key=f"{tmp_path.name}/images/2.png")

    with pytest.raises(DataError, match=r"there is no file s3://.*/images/2.png"):
        store.read("images/2.png")


def test_an_object_that_was_changed_is_refused(place: str, bucket: stores.Bucket, folder: Path, tmp_path: Path) -> None:
    changed = bytearray((folder / "images/3.png").read_bytes())
    changed[-20] ^= 1
    bucket.put(f"{tmp_path.name}/images/3.png", bytes(changed))
    store = _store(place, tmp_path / "cache")

    with pytest.raises(DataError, match="not the expected file"):
        store.read("images/3.png")


def test_labels_of_another_version_are_refused_by_the_version_asked_for(
    place: str, bucket: stores.Bucket, folder: Path, tmp_path: Path
) -> None:
    version = open_dataset(place, cache=tmp_path / "a").version
    other = tmp_path / "other"
    other.mkdir()
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "VERSION.json":
            (other / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (other / path.relative_to(folder)).write_bytes(path.read_bytes() + b"\n")
    write_pins(other)
    _upload(bucket, other, tmp_path.name)

    with pytest.raises(DataError, match=f"and {version} was asked for"):
        open_dataset(place, cache=tmp_path / "b", version=version)


def test_what_was_read_once_needs_no_network_afterwards(place: str, line: stores.Line, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never opened with this cache"):
        open_dataset(place, cache=tmp_path / "cache", offline=True)
    online = open_dataset(place, cache=tmp_path / "cache")
    online.pixels("images/0.png")
    asked = len(line.asked)

    data = open_dataset(place, cache=tmp_path / "cache", offline=True)

    assert data.pixels("images/0.png").shape == (64, 64)
    with pytest.raises(DataError, match="not in the cache and the network is not to be used"):
        data.pixels("images/1.png")
    assert len(line.asked) == asked


def test_the_cache_stays_within_its_limit_and_keeps_what_was_used_last(
    place: str, folder: Path, tmp_path: Path
) -> None:
    size = (folder / "images/0.png").stat().st_size
    store = _store(place, tmp_path / "cache", limit_bytes=int(2.5 * size))

    for number in (0, 1, 2, 3, 3, 2, 3):
        assert store.read(f"images/{number}.png")
        kept = list((tmp_path / "cache").rglob("*.png"))
        assert sum(path.stat().st_size for path in kept) <= 2.5 * size

    assert {path.stem for path in kept} == {store.sha256("images/2.png"), store.sha256("images/3.png")}


def test_a_bucket_that_is_not_pinned_is_refused_with_the_way_out(bucket: stores.Bucket, tmp_path: Path) -> None:
    bucket.put(f"{tmp_path.name}/data.jsonl", b"{}")

    with pytest.raises(DataError, match=r"has no VERSION.json and no SHA256SUMS.txt.*python -m model.data.pins"):
        open_dataset(f"s3://{bucket.name}/{tmp_path.name}", cache=tmp_path / "cache")


def test_a_file_that_is_not_in_the_pinned_version_is_refused(place: str, bucket: stores.Bucket, tmp_path: Path) -> None:
    bucket.put(f"{tmp_path.name}/more.jsonl", b"{}")

    with pytest.raises(DataError, match=r"more.jsonl is not in the pinned version"):
        open_dataset(f"{place}/more.jsonl", cache=tmp_path / "cache")


def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = {
        "endpoint_url": "http://127.0.0.1:1",
        "key": "a",
        "secret": "b",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", gone)

    with pytest.raises(DataError, match=r"cannot be read .*: check its name, network and credentials"):
        _store("s3://films/x", tmp_path)


def test_physionets_own_list_of_digests_pins_a_bucket(bucket: stores.Bucket, tmp_path: Path) -> None:
    made = tmp_path / "ms-cxr"
    made.mkdir()
    write_miniature(made, 1, 2, size=96)
    pins = json.loads((write_pins(made), (made / "VERSION.json").read_text())[1])["files"]
    (made / "SHA256SUMS.txt").write_text("".join(f"{digest}  {name}\n" for name, digest in pins.items()))
    (made / "VERSION.json").unlink()
    _upload(bucket, made, "physionet")

    data = open_dataset(
        f"s3://{bucket.name}/physionet", cache=tmp_path / "cache", version=open_dataset(str(made)).version
    )

    assert data.mask(data.samples()[0]).any()
