"""Weights on disk: a safetensors file and the manifest that says what it is. No pickle, nothing that runs code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from model.config import Config
from model.network import GroundingNetwork

SHIPPED = Path(__file__).parent / "weights"
FILE_NAME = "phrase-grounder.safetensors"
VERSION = "1"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the weights are, bound to them by their hash.

    Parameters
    ----------
    sha256 : of the weights file.
    threshold : a cell belongs to a region from this probability on.
    presence_threshold : a finding counts as found from this probability on.
    data, recipe, figures : what they were trained on, how, and the figures on validation samples.
    """

    name: str
    version: str
    sha256: str
    config: dict[str, Any]
    threshold: float
    presence_threshold: float
    data: dict[str, Any]
    recipe: dict[str, Any]
    figures: dict[str, float]


class WeightsError(ValueError):
    """The weights are missing, damaged, or not those of the manifest."""


def save_weights(
    network: GroundingNetwork,
    folder: Path,
    *,
    figures: dict[str, float],
    recipe: dict[str, Any],
    data: dict[str, Any],
    name: str = "sightline-twin",
) -> Manifest:
    """Write weights (half precision) and manifest into *folder*."""
    content = save({name: value.half() if value.is_floating_point() else value for name, value in _state(network)})
    manifest = Manifest(
        name=name,
        version=VERSION,
        sha256=hashlib.sha256(content).hexdigest(),
        config=json.loads(network.config.to_json()),
        threshold=figures["threshold"],
        presence_threshold=figures["presence_threshold"],
        data=data,
        recipe=recipe,
        figures={name: round(value, 4) for name, value in figures.items()},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(content)
    (folder / "manifest.json").write_text(f"{json.dumps(asdict(manifest), indent=1)}\n", encoding="utf-8")
    return manifest


def _state(network: GroundingNetwork) -> list[tuple[str, torch.Tensor]]:
    return [(name, value.contiguous()) for name, value in network.state_dict().items()]


def load_manifest(folder: Path) -> Manifest:
    """What the weights of *folder* are.

    Raises
    ------
    WeightsError
        If the manifest is missing or damaged.
    """
    try:
        return Manifest(**json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except OSError as error:
        raise WeightsError(f"weights or manifest cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise WeightsError("manifest.json is not a manifest of this version") from error


def load_weights(folder: Path) -> tuple[GroundingNetwork, Manifest]:
    """The network of *folder*, ready to answer.

    Raises
    ------
    WeightsError
        If a file is missing or damaged, or the weights are not those of the manifest.
    """
    manifest = load_manifest(folder)
    try:
        content = (folder / FILE_NAME).read_bytes()
    except OSError as error:
        raise WeightsError(f"weights or manifest cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise WeightsError("the weights are not those of the manifest (SHA-256 differs)")
    network = GroundingNetwork(Config.from_json(json.dumps(manifest.config)))
    try:
        network.load_state_dict({name: _single(value) for name, value in load(content).items()})
    except (RuntimeError, SafetensorError) as error:
        raise WeightsError("the weights do not fit the network of the manifest") from error
    return network.eval(), manifest


def _single(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value
