"""Checkpoints with the names and shapes of the published ones, and random numbers; made anew by each test session."""

from __future__ import annotations

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("right", "left", "lower", "lobe", "pleural", "effusion", "opacity", "##s", "pneumo", "##thorax", ".", ",")


def _normal(*shape: int) -> Tensor:
    fan_in = max(1, torch.Size(shape[1:]).numel())
    return torch.randn(shape) * (2 / fan_in) ** 0.5


def _norm(name: str, channels: int) -> Parameters:
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels) * 0.1,
    }


def _batch_norm(name: str, channels: int) -> Parameters:
    return {
        **_norm(name, channels),
        f"{name}.running_mean": torch.randn(channels) * 0.1,
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def _resnet50(prefix: str) -> Parameters:
    made = {f"{prefix}conv1.weight": _normal(64, 3, 7, 7), **_batch_norm(f"{prefix}bn1", 64)}
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for block in range(blocks):
            name = f"{prefix}layer{stage}.{block}"
            made[f"{name}.conv1.weight"] = _normal(width, inputs, 1, 1)
            made |= _batch_norm(f"{name}.bn1", width)
            made[f"{name}.conv2.weight"] = _normal(width, width, 3, 3)
            made |= _batch_norm(f"{name}.bn2", width)
            made[f"{name}.conv3.weight"] = _normal(4 * width, width, 1, 1) * 0.3
            made |= _batch_norm(f"{name}.bn3", 4 * width)
            if block == 0:
                made[f"{name}.downsample.0.weight"] = _normal(4 * width, inputs, 1, 1)
                made |= _batch_norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    return {**made, f"{prefix}fc.weight": _normal(1000, 2048) * 0.1, f"{prefix}fc.bias": torch.zeros(1000)}


def _projector(inputs: int) -> Parameters:
    return {
        "projector.model.0.weight": _normal(128, inputs, 1, 1),
        **_batch_norm("projector.model.1", 128),
        "projector.model.3.weight": _normal(128, 128, 1, 1),
        "projector.model.3.bias": torch.randn(128) * 0.1,
    }


def biovil(seed: int = 1) -> Parameters:
    """Every parameter of ``biovil_image_resnet50_proj_size_128.pt``."""
    torch.manual_seed(seed)
    return {**_resnet50("encoder.encoder."), **_projector(2048)}


def biovil_t(seed: int = 2) -> Parameters:
    """Every parameter of ``biovil_t_image_model_proj_size_128.pt``."""
    torch.manual_seed(seed)
    pooler: Parameters = {"encoder.vit_pooler.type_embed": torch.randn(2, 1, 256)}
    for block in range(3):
        name = f"encoder.vit_pooler.blocks.{block}"
        pooler |= _norm(f"{name}.norm1", 256) | _norm(f"{name}.norm2", 256)
        for part in ("attn.proj_q", "attn.proj_k", "attn.proj_v", "attn.proj", "mlp.fc1", "mlp.fc2"):
            pooler[f"{name}.{part}.weight"] = _normal(256, 256)
            if part in ("attn.proj", "mlp.fc1", "mlp.fc2"):
                pooler[f"{name}.{part}.bias"] = torch.randn(256) * 0.1
    return {
        "encoder.missing_previous_emb": torch.randn(1, 256, 1, 1),
        **_resnet50("encoder.encoder."),
        "encoder.backbone_to_vit.weight": _normal(256, 2048, 1, 1),
        **pooler,
        **_norm("encoder.vit_pooler.norm_post", 256),
        **_projector(512),
    }


def vocabulary(words: int) -> str:
    """Text of a ``vocab.txt`` with *words* pieces."""
    known = (*MARKS, *WORDS, *"abcdefghijklmnopqrstuvwxyz")
    return "\n".join([*known, *(f"[unused{number}]" for number in range(words - len(known)))]) + "\n"


def cxr_bert(*, words: int = 60, hidden: int = 128, inner: int = 96, layers: int = 2, seed: int = 3) -> Parameters:
    """Every parameter of CXR-BERT's ``pytorch_model.bin``, by default of a tiny one with two attention heads."""
    torch.manual_seed(seed)

    def linear(name: str, inputs: int, outputs: int) -> Parameters:
        return {f"{name}.weight": _normal(outputs, inputs), f"{name}.bias": torch.randn(outputs) * 0.1}

    made: Parameters = {
        "bert.embeddings.position_ids": torch.arange(512)[None],
        "bert.embeddings.word_embeddings.weight": torch.randn(words, hidden),
        "bert.embeddings.position_embeddings.weight": torch.randn(512, hidden) * 0.1,
        "bert.embeddings.token_type_embeddings.weight": torch.randn(2, hidden) * 0.1,
        **_norm("bert.embeddings.LayerNorm", hidden),
    }
    for layer in range(layers):
        name = f"bert.encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            made |= linear(f"{name}.{part}", hidden, hidden)
        made |= _norm(f"{name}.attention.output.LayerNorm", hidden) | _norm(f"{name}.output.LayerNorm", hidden)
        made |= linear(f"{name}.intermediate.dense", hidden, inner) | linear(f"{name}.output.dense", inner, hidden)
    return {
        **made,
        "cls.predictions.bias": torch.zeros(words),
        **linear("cls.predictions.transform.dense", hidden, hidden),
        **_norm("cls.predictions.transform.LayerNorm", hidden),
        "cls.predictions.decoder.weight": made["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": torch.zeros(words),
        **linear("cls_projection_head.dense_to_hidden", hidden, 128),
        **_norm("cls_projection_head.LayerNorm", 128),
        **linear("cls_projection_head.dense_to_output", 128, 128),
    }
