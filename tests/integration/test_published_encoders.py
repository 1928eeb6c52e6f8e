"""BioViL, BioViL-T and CXR-BERT against straightforward computations from checkpoints of the published names."""

from __future__ import annotations

import math
import pickle

import checkpoints
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812

from model.encoders.biovil import BioViL, BioViLT
from model.encoders.loading import CheckpointError, fill, published_parameters, read_checkpoint
from model.encoders.names import UNUSED, UnknownNameError, ours, theirs
from model.encoders.text import CxrBert, CxrBertReader, VocabularyError, shape_of, tokenizer_of

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
PHRASES = ("Right pleural effusion.", "Pneumothorax", "Left lower lobe opacity, opacities")


@pytest.fixture(scope="module")
def biovil():
    return exact(checkpoints.biovil())


@pytest.fixture(scope="module")
def biovil_t():
    return exact(checkpoints.biovil_t())


@pytest.fixture(scope="module")
def cxr_bert():
    return checkpoints.cxr_bert()


def exact(published):
    """In double precision, so that the order of sums does not matter."""
    return {name: value.double() if value.is_floating_point() else value for name, value in published.items()}


def reference_batch_norm(x, p, name):
    shape = (1, -1, 1, 1)
    mean, var = p[f"{name}.running_mean"].reshape(shape), p[f"{name}.running_var"].reshape(shape)
    return (x - mean) / torch.sqrt(var + 1e-5) * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(shape)


def reference_trunk(x, p, prefix="encoder.encoder."):
    x = F.conv2d(x, p[f"{prefix}conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(reference_batch_norm(x, p, f"{prefix}bn1")), 3, 2, 1)
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            name = f"{prefix}layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            short = x
            if block == 0:
                short = F.conv2d(x, p[f"{name}.downsample.0.weight"], stride=stride)
                short = reference_batch_norm(short, p, f"{name}.downsample.1")
            y = F.relu(reference_batch_norm(F.conv2d(x, p[f"{name}.conv1.weight"]), p, f"{name}.bn1"))
            y = F.conv2d(y, p[f"{name}.conv2.weight"], stride=stride, padding=1)
            y = F.relu(reference_batch_norm(y, p, f"{name}.bn2"))
            y = reference_batch_norm(F.conv2d(y, p[f"{name}.conv3.weight"]), p, f"{name}.bn3")
            x = F.relu(y + short)
    return x


def reference_projector(x, p):
    x = F.relu(reference_batch_norm(F.conv2d(x, p["projector.model.0.weight"]), p, "projector.model.1"))
    return F.conv2d(x, p["projector.model.3.weight"], p["projector.model.3.bias"])


def reference_positions(rows, columns, channels=256):
    """Cell by cell, with scalar arithmetic."""
    half, place = channels // 2, np.zeros((rows, columns, channels))
    for row in range(rows):
        for column in range(columns):
            for start, at, length in ((0, row, rows), (half, column, columns)):
                for k in range(half):
                    angle = (at + 1) / (length + 1e-6) * 2 * math.pi / 10_000 ** (2 * (k // 2) / half)
                    place[row, column, start + k] = math.cos(angle) if k % 2 else math.sin(angle)
    return torch.tensor(place.reshape(rows * columns, channels), dtype=torch.float32)


def reference_norm(x, p, name, eps):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + eps) * p[f"{name}.weight"] + p[f"{name}.bias"]


def reference_linear(x, p, name):
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", torch.zeros(()))


def reference_pooler(now, before, p):
    batch, channels, rows, columns = now.shape
    flat = [maps.reshape(batch, channels, -1).permute(0, 2, 1) for maps in (now, before)]
    x = torch.cat(flat, dim=1)
    place, kind = reference_positions(rows, columns), p["encoder.vit_pooler.type_embed"]
    where = torch.cat([place + kind[0], place + kind[1]])[None]
    for block in range(3):
        name = f"encoder.vit_pooler.blocks.{block}"
        y = reference_norm(x, p, f"{name}.norm1", 1e-6) + where
        q, k, v = (reference_linear(y, p, f"{name}.attn.proj_{part}") for part in "qkv")
        heads = []
        for head in range(8):
            part = slice(32 * head, 32 * head + 32)
            weight = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(32), dim=-1)
            heads.append(weight @ v[..., part])
        x = x + reference_linear(torch.cat(heads, dim=-1), p, f"{name}.attn.proj")
        y = reference_norm(x, p, f"{name}.norm2", 1e-6)
        y = reference_linear(y, p, f"{name}.mlp.fc1")
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + reference_linear(y, p, f"{name}.mlp.fc2")
    x = reference_norm(x, p, "encoder.vit_pooler.norm_post", 1e-6)[:, : rows * columns]
    return x.permute(0, 2, 1).reshape(batch, channels, rows, columns)


def images(seed, size=96):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, 1, size, size), generator=generator, dtype=torch.float64).repeat(1, 3, 1, 1)


def built(network, published, encoder):
    fill(network.double(), ours(published, encoder), name=encoder)
    return network.eval()


@torch.inference_mode()
def test_biovil_computes_what_its_checkpoint_says(biovil):
    network = built(BioViL(), biovil, "biovil")

    stages, patches = network(images(1))

    torch.testing.assert_close(stages.layer4, reference_trunk(images(1), biovil), **CLOSE)
    torch.testing.assert_close(patches, reference_projector(reference_trunk(images(1), biovil), biovil), **CLOSE)
    assert patches.shape == (2, 128, 3, 3)


@torch.inference_mode()
def test_biovil_t_without_a_previous_image_computes_what_its_checkpoint_says(biovil_t):
    network = built(BioViLT(), biovil_t, "biovil-t")

    _, patches = network(images(1))

    now = F.conv2d(reference_trunk(images(1), biovil_t), biovil_t["encoder.backbone_to_vit.weight"])
    missing = biovil_t["encoder.missing_previous_emb"].repeat(2, 1, 3, 3)
    torch.testing.assert_close(patches, reference_projector(torch.cat([now, missing], 1), biovil_t), **CLOSE)


@torch.inference_mode()
def test_biovil_t_with_a_previous_image_computes_what_its_checkpoint_says(biovil_t):
    network = built(BioViLT(), biovil_t, "biovil-t")

    _, patches = network(images(1), images(2))

    now, before = (
        F.conv2d(reference_trunk(images(seed), biovil_t), biovil_t["encoder.backbone_to_vit.weight"]) for seed in (1, 2)
    )
    change = reference_pooler(now, before, biovil_t)
    torch.testing.assert_close(patches, reference_projector(torch.cat([now, change], 1), biovil_t), **CLOSE)
    assert not torch.allclose(patches, network(images(1))[1], atol=1e-2)


@torch.inference_mode()
def test_cxr_bert_computes_what_transformers_own_model_computes(cxr_bert, tmp_path):
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    (tmp_path / "vocab.txt").write_text(checkpoints.vocabulary(60))
    config = BertConfig(
        vocab_size=60, hidden_size=128, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2
    )
    config._attn_implementation = "eager"
    reference = BertForMaskedLM(config).eval()
    backbone = {k: v for k, v in cxr_bert.items() if not k.startswith(("cls_projection", "bert.embeddings.position_i"))}
    reference.load_state_dict(backbone)
    read = BertTokenizer(str(tmp_path / "vocab.txt"))(list(PHRASES), padding=True, return_tensors="pt")
    first = reference(**read, output_hidden_states=True).hidden_states[-1][:, 0]
    hidden = F.gelu(reference_linear(first, cxr_bert, "cls_projection_head.dense_to_hidden"))
    hidden = reference_norm(hidden, cxr_bert, "cls_projection_head.LayerNorm", 1e-12)
    projected = reference_linear(hidden, cxr_bert, "cls_projection_head.dense_to_output")

    network = CxrBertReader(shape_of(ours(cxr_bert, "cxr-bert")))
    fill(network.text, ours(cxr_bert, "cxr-bert"), name="cxr-bert")
    network.read_vocabulary(checkpoints.vocabulary(60))
    vectors = network.eval()(*spelt(PHRASES))

    torch.testing.assert_close(vectors, projected / projected.norm(dim=1, keepdim=True), **CLOSE)


def spelt(phrases):
    lengths = [len(phrase.encode()) for phrase in phrases]
    return torch.tensor(list("".join(phrases).encode())), torch.tensor(np.cumsum([0, *lengths])[:-1])


@pytest.mark.parametrize("text", [*PHRASES, "", "ÉPANCHEMENT pleural 12 mm?", "right  left\tlobe", "effusion " * 600])
def test_phrases_split_as_berts_own_tokenizer_splits_them(text, tmp_path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text(checkpoints.vocabulary(60))
    reference = BertTokenizer(str(tmp_path / "vocab.txt"))

    assert (
        tokenizer_of(checkpoints.vocabulary(60)).encode(text).ids
        == reference(text, truncation=True, max_length=512).input_ids
    )


@pytest.mark.parametrize("encoder", ["biovil", "biovil_t", "cxr_bert"])
def test_published_names_become_ours_and_come_back(encoder, request):
    published = request.getfixturevalue(encoder)
    name = encoder.replace("_", "-")

    renamed = ours(published, name)

    kept = {key: value for key, value in published.items() if not key.startswith(UNUSED)}
    assert theirs(renamed, name).keys() == kept.keys()
    assert all(theirs(renamed, name)[key] is value for key, value in kept.items())
    assert len(renamed) == len(kept)


@pytest.mark.parametrize(("network", "encoder"), [(BioViL, "biovil"), (BioViLT, "biovil-t")])
def test_every_name_of_ours_has_a_published_one(network, encoder):
    with torch.device("meta"):
        mine = network().state_dict()

    assert ours(theirs(mine, encoder), encoder).keys() == mine.keys()


def test_every_text_name_of_ours_has_a_published_one(cxr_bert):
    with torch.device("meta"):
        mine = CxrBert(shape_of(ours(cxr_bert, "cxr-bert"))).state_dict()

    assert set(theirs(mine, "cxr-bert")) == {key for key in cxr_bert if not key.startswith(UNUSED)}


def test_a_name_that_no_published_checkpoint_has_is_refused(biovil):
    with pytest.raises(UnknownNameError, match=r"student\.conv"):
        ours({**biovil, "student.conv": torch.zeros(1)}, "biovil")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_checkpoint_is_read_from_either_form(suffix, biovil, tmp_path):
    path = tmp_path / f"biovil.{suffix}"
    save_file(biovil, path) if suffix == "safetensors" else torch.save(biovil, path)

    read = published_parameters(path, "biovil")

    assert torch.equal(read["trunk.conv1.weight"], biovil["encoder.encoder.conv1.weight"])


class Malicious:
    """Unpickling this writes a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (exec, (f"open({str(self.proof)!r}, 'w').close()",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("wrapped", ["torch", "pickle"])
def test_a_malicious_checkpoint_is_refused_and_does_not_run(wrapped, tmp_path):
    path, proof = tmp_path / "net.pt", tmp_path / "proof"
    if wrapped == "torch":
        torch.save({"encoder.encoder.conv1.weight": Malicious(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(proof)))

    with pytest.raises(CheckpointError, match=r"nothing of it was run"):
        read_checkpoint(path)

    assert not proof.exists()
    with path.open("rb") as stream:
        torch.load(stream, weights_only=False) if wrapped == "torch" else pickle.load(stream)
    assert proof.exists()  # so it would have run


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_damaged_checkpoint_is_refused(content, suffix, tmp_path):
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_a_checkpoint_of_something_else_than_tensors_by_name_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")

    with pytest.raises(CheckpointError, match="something else"):
        read_checkpoint(tmp_path / "list.pt")


def test_a_checkpoint_of_another_encoder_is_told(biovil, cxr_bert, tmp_path):
    torch.save(cxr_bert, tmp_path / "bert.pt")

    with pytest.raises(CheckpointError, match="is not a checkpoint of biovil"):
        published_parameters(tmp_path / "bert.pt", "biovil")
    with pytest.raises(CheckpointError, match="does not fit"):
        fill(BioViLT(), ours(biovil, "biovil"), name="biovil.pt")


def test_a_vocabulary_that_is_not_berts_is_refused(cxr_bert):
    network = CxrBertReader(shape_of(ours(cxr_bert, "cxr-bert")))

    with pytest.raises(VocabularyError, match="59 pieces where the checkpoint has 60"):
        network.read_vocabulary("\n".join("x" * 59))
    with pytest.raises(VocabularyError, match=r"has no \[PAD\]"):
        network.read_vocabulary("\n".join("x" * 60))
    with pytest.raises(VocabularyError, match="no vocabulary"):
        network(*spelt(PHRASES))
