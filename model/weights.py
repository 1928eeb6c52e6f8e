"""Weights on disk: a safetensors file and the manifest that says what it is. No pickle, nothing that runs code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from model.calibration import Scaling
from model.config import Config
from model.encoders.loading import CheckpointError
from model.network import GroundingNetwork
from model.prior import EVIDENCE_ALONE, Fusion, Joint, Key, Maps, Prior
from model.sources import Pinned, fetch, fetch_folder, sha256_of

SHIPPED = Path(__file__).parent / "weights"
FILE_NAME = "phrase-grounder.safetensors"
VERSION = "6"
_PRIOR = "prior/"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the weights are, bound to them by their hash.

    Parameters
    ----------
    sha256 : of the weights file.
    threshold : a cell belongs to a region from this probability on.
    presence_threshold : a finding counts as found from this probability on.
    fusion : weight of :class:`model.prior.Fusion`; empty where the weights hold no prior.
    shifts : of the log-odds of maps by finding (:class:`model.prior.Joint`).
    scalings : slope and offset of presence by finding, "" for all others (:class:`model.calibration.Scaling`).
    operating_points : threshold by name, for a promised pixel recall (:mod:`model.calibration`).
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
    fusion: dict[str, float] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)
    scalings: dict[str, list[float]] = field(default_factory=dict)
    operating_points: dict[str, float] = field(default_factory=dict)

    @property
    def presence_scalings(self) -> dict[str, Scaling]:
        """*scalings* as values."""
        return {name: Scaling(*each) for name, each in self.scalings.items()}


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
    joint: Joint = EVIDENCE_ALONE,
    scalings: Mapping[str, Scaling] | None = None,
    operating_points: Mapping[str, float] | None = None,
) -> Manifest:
    """Write weights (half precision), with the tables of the prior, and manifest into *folder*."""
    tables = {f"{_PRIOR}{'/'.join(key)}": torch.from_numpy(table) for key, table in joint.prior.tables.items()}
    state = {**network.state_dict(), **tables}
    content = save({name: _half(value).contiguous() for name, value in state.items()})
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
        fusion=asdict(joint.fusion) if tables else {},
        shifts={name: round(shift, 4) for name, shift in joint.shifts.items()},
        scalings={name: [each.slope, each.offset] for name, each in (scalings or {}).items()},
        operating_points=dict(operating_points or {}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(content)
    (folder / "manifest.json").write_text(f"{json.dumps(asdict(manifest), indent=1)}\n", encoding="utf-8")
    return manifest


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


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
    manifest, tensors = _read(folder)
    parameters = {name: each for name, each in tensors.items() if not name.startswith(_PRIOR)}
    config = Config.from_json(json.dumps(manifest.config))
    try:
        if config.decoder == "similarity":
            return _similarity(config, parameters, manifest)
        network = GroundingNetwork(config)
        network.load_state_dict(parameters)
    except (RuntimeError, KeyError, CheckpointError) as error:
        raise WeightsError("the weights do not fit the network of the manifest") from error
    return network.eval(), manifest


def load_joint(folder: Path) -> Joint:
    """Prior, fusion and shifts of *folder*; the evidence alone where it holds no prior.

    Raises
    ------
    WeightsError
        As :func:`load_weights`.
    """
    manifest = load_manifest(folder)
    if not manifest.fusion:
        return replace(EVIDENCE_ALONE, shifts=manifest.shifts) if manifest.shifts else EVIDENCE_ALONE
    manifest, tensors = _read(folder)
    tables: dict[Key, Maps] = {}
    for name, table in tensors.items():
        if name.startswith(_PRIOR):
            finding, side, third = name.removeprefix(_PRIOR).split("/")
            tables[finding, side, third] = table.numpy()
    return Joint(Prior(tables), Fusion(**manifest.fusion), manifest.shifts)


def _read(folder: Path) -> tuple[Manifest, dict[str, torch.Tensor]]:
    manifest = load_manifest(folder)
    try:
        content = (folder / FILE_NAME).read_bytes()
    except OSError as error:
        raise WeightsError(f"weights or manifest cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise WeightsError("the weights are not those of the manifest (SHA-256 differs)")
    try:
        return manifest, {name: _single(value) for name, value in load(content).items()}
    except SafetensorError as error:
        raise WeightsError("the weights do not fit the network of the manifest") from error


def _similarity(
    config: Config, parameters: dict[str, torch.Tensor], manifest: Manifest
) -> tuple[GroundingNetwork, Manifest]:
    """A site's pair of encoders; the shipped network finds the lungs for it, and is part of what answers."""
    from model.encoders.similarity import SimilarityNetwork, pair_of

    body, shipped = load_weights(SHIPPED)
    network = SimilarityNetwork(config, pair_of(config, parameters), body)
    return network.eval(), replace(manifest, sha256=_both(manifest.sha256, shipped.sha256))


def _both(own: str, shipped: str) -> str:
    return hashlib.sha256(f"{own} {shipped}".encode()).hexdigest()


def digests_of(path: Path) -> frozenset[str]:
    """What results may name as the weights at *path*, a file or its folder: they alone, or with the shipped ones.

    Raises
    ------
    WeightsError
        If there are none.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        own = sha256_of(file)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from error
    return frozenset({own, _both(own, load_manifest(SHIPPED).sha256)})


def fetch_weights(source: str, *, manifest_sha256: str | None, cache: Path, offline: bool = False) -> Path:
    """The folder of weights at *source*, on this machine.

    Parameters
    ----------
    source : a folder, or the address of one (:mod:`model.sources`).
    manifest_sha256 : of its ``manifest.json``, which has that of the weights; needed for what is not on this machine.

    Raises
    ------
    model.sources.SourceError
        If a file cannot be had, or is not the expected one.
    WeightsError
        If the manifest is none.
    """
    path = fetch(f"{source.rstrip('/')}/manifest.json", sha256=manifest_sha256, cache=cache, offline=offline)
    try:
        weights = Pinned(FILE_NAME, str(json.loads(path.read_text(encoding="utf-8"))["sha256"]))
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError("manifest.json is not a manifest of this version") from error
    return fetch_folder(source, (Pinned("manifest.json", sha256_of(path)), weights), cache=cache, offline=offline)


def _single(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value
