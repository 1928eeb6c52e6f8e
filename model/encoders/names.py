"""Names of parameters in published checkpoints, and ours: one table, read both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

#: Beginnings of names: published, ours. What follows a beginning is the same on both sides.
_IMAGE = (
    ("encoder.encoder.", "trunk."),
    ("encoder.backbone_to_vit.", "reduce."),
    ("encoder.missing_previous_emb", "no_previous"),
    ("encoder.vit_pooler.type_embed", "compare.kind"),
    ("encoder.vit_pooler.norm_post.", "compare.norm."),
    *(
        (f"encoder.vit_pooler.blocks.{block}.{theirs}.", f"compare.blocks.{block}.{ours}.")
        for block in range(3)
        for theirs, ours in (
            ("norm1", "norm1"),
            ("norm2", "norm2"),
            ("attn.proj_q", "attention.query"),
            ("attn.proj_k", "attention.key"),
            ("attn.proj_v", "attention.value"),
            ("attn.proj", "attention.out"),
            ("mlp.fc1", "mix.0"),
            ("mlp.fc2", "mix.2"),
        )
    ),
    ("projector.model.", "projector."),
)
_TEXT = (
    ("bert.", "bert."),
    ("cls_projection_head.dense_to_hidden.", "head.0."),
    ("cls_projection_head.LayerNorm.", "head.2."),
    ("cls_projection_head.dense_to_output.", "head.3."),
)
TABLES = {"biovil": _IMAGE, "biovil-t": _IMAGE, "cxr-bert": _TEXT}

#: Beginnings of published names that nothing here has a use for: ImageNet's classes, the guessing of masked words,
#: a pooler that was never trained, and numbers that count up from 0.
UNUSED = ("encoder.encoder.fc.", "cls.predictions.", "bert.pooler.", "bert.embeddings.position_ids")


class UnknownNameError(ValueError):
    """A checkpoint has a name that the published ones do not have."""


def ours(published: Mapping[str, Value], encoder: str) -> dict[str, Value]:
    """The parameters of a published checkpoint of *encoder* by our names, without what is not used.

    Raises
    ------
    UnknownNameError
        If a name is not one of that encoder.
    """
    used = {name: value for name, value in published.items() if not name.startswith(UNUSED)}
    return _renamed(used, TABLES[encoder])


def theirs(parameters: Mapping[str, Value], encoder: str) -> dict[str, Value]:
    """The inverse of :func:`ours`.

    Raises
    ------
    UnknownNameError
        If a name is not one of ours for that encoder.
    """
    return _renamed(parameters, tuple((mine, other) for other, mine in TABLES[encoder]))


def _renamed(parameters: Mapping[str, Value], table: Iterable[tuple[str, str]]) -> dict[str, Value]:
    pairs = tuple(table)
    return {_rename(name, pairs): value for name, value in parameters.items()}


def _rename(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for before, after in table:
        if name.startswith(before):
            return after + name.removeprefix(before)
    raise UnknownNameError(f"the checkpoint has a parameter {name}, which the published ones do not have")
