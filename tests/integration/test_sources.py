"""Fetching by address and digest, from a folder, a real S3 server, and a server that speaks a model hub's form."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import fsspec.config
import pytest
import stores

from model.sources import Pinned, SourceError, cached_path, fetch, fetch_folder, sha256_of

CONTENT = b"weights of a site"
DIGEST = sha256(CONTENT).hexdigest()
OTHER = sha256(b"other").hexdigest()


@pytest.fixture
def hub(monkeypatch):
    with stores.run_hub() as server:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.endpoint, "token": False})
        yield server


@pytest.fixture(params=["", "file://"], ids=["path", "file"])
def local(request, tmp_path):
    path = tmp_path / "site" / "net.safetensors"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path, f"{request.param}{path}"


def test_a_local_file_is_used_where_it_lies(local, tmp_path):
    path, address = local

    assert fetch(address, sha256=DIGEST, cache=tmp_path / "cache", offline=True) == path
    assert fetch(address, sha256=None, cache=tmp_path / "cache") == path
    assert not (tmp_path / "cache").exists()


def test_a_local_file_that_is_another_is_refused(local, tmp_path):
    with pytest.raises(SourceError, match="not the expected file"):
        fetch(local[1], sha256=OTHER, cache=tmp_path)


def test_a_missing_local_file_is_told_with_its_place(tmp_path):
    with pytest.raises(SourceError, match=r"there is no file .*absent\.pt; put it there"):
        fetch(str(tmp_path / "absent.pt"), sha256=DIGEST, cache=tmp_path)


def test_a_file_of_a_bucket_is_fetched_once_and_then_needs_no_network(bucket, tmp_path):
    address = bucket.put("once/net.safetensors", CONTENT)

    first = fetch(address, sha256=DIGEST, cache=tmp_path)
    bucket.client.delete_object(Bucket=bucket.name, Key="once/net.safetensors")

    assert first.read_bytes() == CONTENT
    assert first == cached_path(address, sha256=DIGEST, cache=tmp_path)
    assert fetch(address, sha256=DIGEST, cache=tmp_path) == first
    assert fetch(address, sha256=DIGEST, cache=tmp_path, offline=True) == first


def test_what_is_damaged_in_the_cache_is_fetched_again(bucket, tmp_path):
    address = bucket.put("damaged/net.safetensors", CONTENT)
    kept = fetch(address, sha256=DIGEST, cache=tmp_path)
    kept.write_bytes(CONTENT[:5])

    with pytest.raises(SourceError, match="not in the cache"):
        fetch(address, sha256=DIGEST, cache=tmp_path, offline=True)
    assert fetch(address, sha256=DIGEST, cache=tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_not_the_expected_one_never_enters_the_cache(bucket, tmp_path):
    address = bucket.put("other/net.safetensors", b"tampered")

    with pytest.raises(SourceError, match="not the expected file"):
        fetch(address, sha256=DIGEST, cache=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_many_readers_at_once_get_the_same_whole_file(bucket, tmp_path):
    address = bucket.put("crowd/net.safetensors", CONTENT)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: fetch(address, sha256=DIGEST, cache=tmp_path), range(16)))

    assert [path.read_bytes() for path in found] == [CONTENT]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == list(found)


def test_a_missing_file_of_a_bucket_is_told_by_its_address(bucket, tmp_path):
    with pytest.raises(SourceError, match="there is no file s3://films/absent"):
        fetch("s3://films/absent", sha256=DIGEST, cache=tmp_path)


def test_a_server_that_is_down_is_told_with_the_place_for_the_file(monkeypatch, tmp_path):
    refused = {
        "endpoint_url": "http://127.0.0.1:1",
        "key": "a",
        "secret": "b",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", refused)

    with pytest.raises(SourceError, match=r"cannot be fetched .*put the file at .*\.safetensors"):
        fetch("s3://films/net.safetensors", sha256=DIGEST, cache=tmp_path)


def test_offline_a_missing_file_is_told_with_its_place_in_the_cache(tmp_path):
    with pytest.raises(SourceError, match="not in the cache") as told:
        fetch("s3://films/net.safetensors", sha256=DIGEST, cache=tmp_path, offline=True)
    assert str(cached_path("s3://films/net.safetensors", sha256=DIGEST, cache=tmp_path)) in str(told.value)


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_a_file_of_a_hub_is_fetched_at_its_revision(hub, revision, tmp_path):
    hub.files["vocab.txt"] = CONTENT

    found = fetch(f"hf://owner/name{revision}/vocab.txt", sha256=DIGEST, cache=tmp_path)

    assert found.read_bytes() == CONTENT
    assert f"/owner/name/resolve/{revision[1:] or 'main'}/vocab.txt" in hub.asked


def test_a_missing_file_of_a_hub_is_told_by_its_address(hub, tmp_path):
    with pytest.raises(SourceError, match="there is no file hf://owner/name/absent"):
        fetch("hf://owner/name/absent.txt", sha256=DIGEST, cache=tmp_path)


@pytest.mark.parametrize("source", ["https://example.org/net.pt", "ftp://a/b"])
def test_addresses_of_other_kinds_are_refused(source, tmp_path):
    with pytest.raises(SourceError, match="is not supported; use a path, file://, gs://, hf:// or s3://"):
        fetch(source, sha256=DIGEST, cache=tmp_path)


def test_what_is_not_on_this_machine_needs_a_digest(tmp_path):
    with pytest.raises(SourceError, match="only with its SHA-256"):
        fetch("s3://films/net.pt", sha256=None, cache=tmp_path)


@pytest.mark.parametrize("digest", ["", "abc", DIGEST.upper(), f"sha256:{DIGEST}"])
def test_a_digest_that_cannot_be_one_is_refused(digest, tmp_path):
    with pytest.raises(SourceError, match="64 hexadecimal digits"):
        fetch("s3://films/net.pt", sha256=digest, cache=tmp_path)


def test_a_folder_comes_from_a_bucket_file_by_file_and_then_needs_no_network(bucket, tmp_path):
    files = {"manifest.json": b"{}", "text/vocab.txt": b"[PAD]"}
    for name, content in files.items():
        bucket.put(f"pair/{name}", content)
    pinned = tuple(Pinned(name, sha256(content).hexdigest()) for name, content in files.items())

    folder = fetch_folder(f"s3://{bucket.name}/pair/", pinned, cache=tmp_path)

    assert {name: (folder / name).read_bytes() for name in files} == files
    assert fetch_folder(f"s3://{bucket.name}/pair", pinned, cache=tmp_path, offline=True) == folder


def test_a_local_folder_is_used_where_it_lies_when_its_files_are_the_pinned_ones(local, tmp_path):
    path, address = local
    folder = address.removesuffix("/net.safetensors")

    assert fetch_folder(folder, (Pinned(path.name, DIGEST),), cache=tmp_path) == path.parent
    with pytest.raises(SourceError, match="not the expected file"):
        fetch_folder(folder, (Pinned(path.name, OTHER),), cache=tmp_path)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../net.pt", "a/../../b", "a\\..\\b"])
def test_a_pinned_name_stays_within_its_folder(name):
    with pytest.raises(SourceError, match="within its folder"):
        Pinned(name, DIGEST)


def test_a_package_that_is_not_installed_is_named(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)

    with pytest.raises(SourceError, match="needs a package that is not installed: Install gcsfs"):
        fetch("gs://films/net.pt", sha256=DIGEST, cache=tmp_path)


def test_the_digest_is_that_of_the_bytes(local):
    assert sha256_of(Path(local[0])) == DIGEST
