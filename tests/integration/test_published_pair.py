"""A published pair without training: taken over into a folder, and answering as a grounder."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from hashlib import sha256
from io import StringIO

import checkpoints
import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from model.config import Config
from model.encoders.loading import CheckpointError
from model.encoders.published import PUBLISHED, adopt
from model.encoders.similarity import SIGMA, blur_matrix
from model.geometry import UPRIGHT
from model.grounder import EngineGrounder
from model.network import GroundingNetwork
from model.sources import Pinned, SourceError
from model.training.run import begun_from
from model.twin.sample import sample
from model.values import Query, State
from model.weights import FILE_NAME, SHIPPED, WeightsError, fetch_weights, load_weights
from model.words import tokens_of
from plugin.cli import main
from plugin.errors import InputError
from plugin.settings import Settings
from plugin.wiring import make_grounder, model_folder

ENCODER = "biovil-t"
ASKED = (
    Query("Right pleural effusion.", "pleural effusion", "right"),
    Query("rib fracture", "rib fracture"),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder with the files of the published repository, and random numbers in them."""
    folder = tmp_path_factory.mktemp("repository")
    torch.save(checkpoints.biovil_t(), folder / PUBLISHED[ENCODER].image)
    torch.save(checkpoints.cxr_bert(), folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text(checkpoints.vocabulary(60))
    return folder


@pytest.fixture(scope="module")
def pinned(repository):
    return tuple(Pinned(path.name, sha256(path.read_bytes()).hexdigest()) for path in sorted(repository.iterdir()))


@pytest.fixture(scope="module")
def adopted(repository, pinned, tmp_path_factory):
    """What ``sightline adopt`` writes, and beside it what it says."""
    folder = tmp_path_factory.mktemp("adopted")
    listing, said = folder / "SHA256SUMS", StringIO()
    listing.write_text("".join(f"{file.sha256} *./{file.name}\n" for file in pinned))
    command = ["adopt", str(repository), "--encoder", ENCODER, "--out", str(folder), "--sha256", str(listing)]
    with redirect_stdout(said):
        assert main(command) == 0
    (folder / "said").write_text(said.getvalue().replace("\n", ""))
    return folder


@pytest.fixture(scope="module")
def pair(adopted):
    return load_weights(adopted)


def film():
    return sample(7, size=256).pixels


def cosines(network, query):
    tokens = torch.tensor(tokens_of(query, network.config))
    with torch.inference_mode():
        encoded = network.encode(
            torch.from_numpy(np.array(film()))[None, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
        )
        phrase = network.phrase(tokens, torch.tensor([0]))
        return encoded, phrase, network.locate(encoded, phrase, torch.tensor([0]))


def test_a_pair_is_taken_over_with_where_it_came_from(adopted, pinned):
    manifest = json.loads((adopted / "manifest.json").read_text())

    assert manifest["name"] == "biovil-t-similarity"
    assert manifest["data"]["repository"] == "microsoft/BiomedVLP-BioViL-T"
    assert manifest["data"]["sha256"] == {file.name: file.sha256 for file in pinned}
    assert manifest["figures"] == {}  # nothing was measured
    assert manifest["sha256"] == sha256((adopted / FILE_NAME).read_bytes()).hexdigest()


def test_the_map_is_the_smoothed_cosine_raised_to_the_heatmap(pair):
    network, _ = pair

    encoded, phrase, (logits, presence) = cosines(network, ASKED[0])

    patches = encoded.features.coarse[0].numpy()
    cosine = np.einsum("chw,c->hw", patches, phrase[0].numpy())
    assert np.allclose(np.linalg.norm(patches, axis=0), 1, atol=1e-5)
    assert cosine.shape == (16, 16)  # the whole film, where hi-ml sees the centre
    raised = F.interpolate(torch.from_numpy(smoothed(cosine))[None, None], (256, 256), mode="bilinear")[0, 0]
    expected = raised.clamp(1e-4, 1 - 1e-4)
    torch.testing.assert_close(logits[0].sigmoid(), expected.float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(presence[0].sigmoid(), expected.max().float(), atol=1e-5, rtol=0)


def smoothed(values):
    """A Gaussian filter spelt out: the border is mirrored, four standard deviations are taken."""
    reach, size = int(4 * SIGMA + 0.5), len(values)
    mirrored = np.pad(values.astype(np.float64), reach, mode="symmetric")
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    return np.array(
        [
            [
                (mirrored[row : row + 2 * reach + 1, column : column + 2 * reach + 1] * weights).sum()
                for column in range(size)
            ]
            for row in range(size)
        ]
    )


def test_smoothing_keeps_the_mean():
    for side in (2, 7, 16):
        assert torch.allclose(blur_matrix(side).sum(dim=1), torch.ones(side))
        assert torch.allclose(blur_matrix(side).sum(dim=0), torch.ones(side))


def test_lungs_come_from_the_shipped_network(pair):
    network, manifest = pair
    body, shipped = load_weights(SHIPPED)

    encoded, _, _ = cosines(network, ASKED[0])
    with torch.inference_mode():
        doubled = torch.from_numpy(np.array(film()))[None, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
        alone = body.encode(F.interpolate(doubled, size=(body.config.size,) * 2, mode="area"))

    assert encoded.anatomy.shape == (1, 3, 256, 256)
    assert torch.allclose(F.avg_pool2d(encoded.anatomy.sigmoid(), 2), alone.anatomy.sigmoid(), atol=0.2)
    assert manifest.sha256 != shipped.sha256  # what answers is both, and so is its digest


def test_a_region_is_given_where_the_cosine_reaches_the_threshold(pair):
    network, manifest = pair
    sure = replace(manifest, threshold=0.999, presence_threshold=0.999)
    _, _, (_, presence) = cosines(network, ASKED[1])
    unsure = replace(manifest, threshold=1e-3, presence_threshold=1e-3)
    assert presence.sigmoid() > 1e-3

    refused = EngineGrounder(network, sure).ground(film(), UPRIGHT, ASKED)
    found = EngineGrounder(network, unsure).ground(film(), UPRIGHT, ASKED)

    assert [answer.state for answer in refused] == [State.NOT_FOUND, State.NOT_FOUND]
    assert found[1].state is State.FOUND  # a finding that the shipped model does not know
    assert found[1].probability == pytest.approx(float(presence.sigmoid()), abs=1e-4)


def test_an_image_encoder_that_is_not_the_published_one_is_refused_unless_it_is_pinned(repository, tmp_path):
    with pytest.raises(CheckpointError, match="MD5 differs from a83080e2f23aa584a4f2b24c39b1bb64"):
        adopt(str(repository), ENCODER, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_belong_together_are_refused(repository, pinned, tmp_path):
    for path in repository.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.txt").write_text(checkpoints.vocabulary(61))
    others = tuple(file for file in pinned if file.name != "vocab.txt")

    with pytest.raises(CheckpointError, match="61 pieces where the checkpoint has 60"):
        adopt(str(tmp_path), ENCODER, tmp_path / "out", pinned=others, cache=tmp_path / "cache")


def test_a_pair_that_is_not_on_this_machine_needs_its_digests(bucket, tmp_path):
    with pytest.raises(SourceError, match="only with its SHA-256"):
        adopt(f"s3://{bucket.name}/pair", ENCODER, tmp_path / "out", cache=tmp_path / "cache")


def test_weights_come_from_a_bucket_by_the_digest_of_their_manifest_and_then_need_no_network(bucket, tmp_path):
    weights = b"weights"
    manifest = json.dumps({"sha256": sha256(weights).hexdigest()}).encode()
    for name, content in (("manifest.json", manifest), (FILE_NAME, weights)):
        bucket.put(f"site/{name}", content)
    site, digest = f"s3://{bucket.name}/site", sha256(manifest).hexdigest()

    folder = fetch_weights(site, manifest_sha256=digest, cache=tmp_path)

    assert (folder / FILE_NAME).read_bytes() == weights
    assert (folder / "manifest.json").read_bytes() == manifest
    assert fetch_weights(site, manifest_sha256=digest, cache=tmp_path, offline=True) == folder


def test_weights_in_a_local_folder_are_used_where_they_lie(adopted, tmp_path):
    assert fetch_weights(str(adopted), manifest_sha256=None, cache=tmp_path, offline=True) == adopted


def test_a_folder_without_a_manifest_is_told(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")

    with pytest.raises(WeightsError, match="not a manifest"):
        fetch_weights(str(tmp_path), manifest_sha256=None, cache=tmp_path)


def test_weights_of_another_pair_are_told(adopted, tmp_path):
    said = json.loads((adopted / "manifest.json").read_text())
    said["config"]["image_encoder"] = "biovil"
    (tmp_path / "manifest.json").write_text(json.dumps(said))
    (tmp_path / FILE_NAME).symlink_to(adopted / FILE_NAME)

    with pytest.raises(WeightsError, match="do not fit"):
        load_weights(tmp_path)


SMALL = Config(size=64, widths=(8, 8, 8, 8, 8), pyramid=8, embedding=8, buckets=128)


def test_training_starts_from_the_encoders_of_a_pair(adopted, pair):
    network = GroundingNetwork(replace(SMALL, image_encoder=ENCODER))

    started = begun_from(network, adopted)

    published = network.image.published.state_dict()
    assert all(torch.equal(value, published[name]) for name, value in pair[0].image.state_dict().items())
    assert started == pair[1].sha256


def test_training_without_the_encoders_of_the_pair_is_refused(adopted):
    with pytest.raises(WeightsError, match="none of the encoders biovil-t and cxr-bert"):
        begun_from(GroundingNetwork(SMALL), adopted)


def test_the_command_says_how_to_use_the_folder(adopted):
    digest = sha256((adopted / "manifest.json").read_bytes()).hexdigest()

    said = (adopted / "said").read_text()

    assert f"SIGHTLINE_MODEL_DIR={adopted}" in said
    assert f"SIGHTLINE_MODEL_SHA256={digest}" in said
    assert model_folder(Settings(model_dir=str(adopted), model_sha256=digest)) == adopted
    assert model_folder(Settings()) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["absent"], "there is no file"),
        (["absent", "--sha256", "absent"], "absent cannot be read"),
        (["https://example.org/pair"], "is not supported"),
    ],
)
def test_the_command_says_what_is_missing(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    status = main(["adopt", *arguments, "--encoder", ENCODER, "--out", "pair"])

    assert status == 65
    assert told in capsys.readouterr().err


def test_a_model_that_cannot_be_had_names_its_setting(tmp_path):
    settings = Settings(model_dir="s3://bucket/pair", model_sha256="0" * 64, offline=True, data_dir=tmp_path)

    with pytest.raises(InputError, match=r"not in the cache .* mend SIGHTLINE_MODEL_DIR"):
        make_grounder(settings)


def test_a_similarity_map_needs_a_published_pair_and_no_training():
    with pytest.raises(ValueError, match="needs a published pair"):
        Config(decoder="similarity")
    with pytest.raises(ValueError, match="decoder is one of"):
        Config(decoder="magic")
    with pytest.raises(ValueError, match="nothing to train"):
        GroundingNetwork(Config(image_encoder="biovil", text_encoder="cxr-bert", decoder="similarity"))
