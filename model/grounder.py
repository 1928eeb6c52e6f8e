"""The reference engine: loads weights, looks at an image once, and answers every phrase asked of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.anatomy import THIRDS, Lungs, lungs_of, named_area, third_of
from model.calibration import calibrated
from model.geometry import Letterbox, Orientation, letterbox_of
from model.network import VIEWS, Encoded, GroundingNetwork
from model.prior import EVIDENCE_ALONE, Joint
from model.regions import regions_of
from model.values import Grounding, Heatmap, ModelCard, Query, State, View
from model.weights import SHIPPED, Manifest, load_joint, load_weights
from model.words import tokens_of

Pixels = npt.NDArray[np.float32]

#: Findings that the shipped weights were trained on. Of others the network says nothing.
LEARNT = frozenset(
    {
        "atelectasis",
        "cardiomegaly",
        "central venous line",
        "consolidation",
        "endotracheal tube",
        "mass",
        "opacity",
        "pacemaker",
        "pleural effusion",
        "pneumothorax",
        "pulmonary edema",
        "pulmonary nodule",
    }
)
#: Findings of the lexicon that look like one that was learnt.
ALIKE = {
    "PICC": "central venous line",
    "airspace disease": "opacity",
    "aspiration": "consolidation",
    "blunted costophrenic angle": "pleural effusion",
    "calcified nodule": "pulmonary nodule",
    "density": "opacity",
    "granuloma": "pulmonary nodule",
    "ground glass opacity": "opacity",
    "implantable defibrillator": "pacemaker",
    "infiltrate": "opacity",
    "nodular opacity": "pulmonary nodule",
    "pacemaker lead": "pacemaker",
    "plate-like atelectasis": "atelectasis",
    "pneumonia": "consolidation",
    "pulmonary infection": "consolidation",
    "pulmonary vascular congestion": "pulmonary edema",
}
NO_LUNGS = "the two lungs of a frontal chest were not found in the image"


class TorchGrounder:
    """Answers by PyTorch on the CPU. Deterministic for a number of threads; safe to use from one thread at a time."""

    def __init__(self, network: GroundingNetwork, manifest: Manifest, joint: Joint = EVIDENCE_ALONE) -> None:
        self._joint = joint
        self._scalings = manifest.presence_scalings
        self._network = network
        self._manifest = manifest
        self._phrases: dict[Query, torch.Tensor] = {}

    @property
    def card(self) -> ModelCard:
        """Which model this is."""
        said = self._manifest
        return ModelCard(
            name=said.name,
            version=said.version,
            weights_sha256=said.sha256,
            threshold=said.threshold,
            presence_threshold=said.presence_threshold,
        )

    def view(self, pixels: Pixels, orientation: Orientation) -> View:
        """What kind of image the pixels show; FRONTAL only where both lungs are found as well."""
        encoded = self._encode(pixels, orientation)
        likely = encoded.view.softmax(dim=1)[0]
        seen = View(VIEWS[int(likely.argmax())])
        if seen is View.FRONTAL:
            return seen if self._lungs(encoded).plausible else View.UNKNOWN
        return seen

    def lungs(self, pixels: Pixels, orientation: Orientation) -> Lungs:
        """Both lungs as the network outlines them, on the heatmap's grid; ask :attr:`Lungs.plausible` first."""
        return self._lungs(self._encode(pixels, orientation))

    def ground(self, pixels: Pixels, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        """One answer per query, in order.

        Parameters
        ----------
        pixels : float32 (rows, columns) in [0, 1], bright is dense.
        orientation : how *pixels* are turned upright.
        """
        if not queries:
            return ()
        encoded = self._encode(pixels, orientation)
        lungs = self._lungs(encoded)
        if not lungs.plausible:
            return tuple(Grounding(query, State.NOT_GROUNDABLE, 0.0, reason=NO_LUNGS) for query in queries)
        box = letterbox_of(pixels, orientation)
        maps, presence = self._locate(encoded, queries)
        return tuple(
            self._answer(query, values, float(there), lungs=lungs, box=box)
            for query, values, there in zip(queries, maps, presence, strict=True)
        )

    def _answer(self, query: Query, values: Pixels, presence: float, *, lungs: Lungs, box: Letterbox) -> Grounding:
        learnt = _as_learnt(query)
        presence = calibrated(presence, learnt.finding, self._scalings)
        joined = self._joint(values, learnt, lungs)
        heatmap = Heatmap(np.where(box.inside(len(joined)), joined, np.float32(0)), box)
        known = self._network.config.decoder == "similarity" or _learnt_as(query.finding) is not None
        regions = regions_of(heatmap, self._manifest.threshold) if known else ()
        if regions and presence >= self._manifest.presence_threshold:
            return Grounding(query, State.FOUND, presence, regions, heatmap)
        area = named_area(lungs, query)
        if area is not None:
            named = regions_of(Heatmap(area.astype(np.float32), box), 0.5)
            reason = "the model does not know this finding" if not known else "the model does not see it"
            if named:
                said = f"{reason}; shown is the area that the report names"
                return Grounding(query, State.REGION_ONLY, presence if known else 0.0, named, heatmap, said)
        if not known:
            return Grounding(query, State.NOT_GROUNDABLE, 0.0, reason="the model does not know this finding")
        return Grounding(query, State.NOT_FOUND, presence, (), heatmap, "the model does not see it in this image")

    def _encode(self, pixels: Pixels, orientation: Orientation) -> Encoded:
        size = self._network.config.size
        square = letterbox_of(pixels, orientation).image(pixels, size)
        with torch.inference_mode():
            encoded: Encoded = self._network.encode(torch.from_numpy(square)[None, None])
        return encoded

    def _lungs(self, encoded: Encoded) -> Lungs:
        return lungs_of(encoded.anatomy[0, :2].sigmoid().numpy())

    def _locate(self, encoded: Encoded, queries: Sequence[Query]) -> tuple[Pixels, Pixels]:
        with torch.inference_mode():
            phrases = torch.stack([self._phrase(query) for query in queries])
            image = torch.zeros(len(queries), dtype=torch.long)
            logits, presence = self._network.locate(encoded, phrases, image)
            return logits.sigmoid().numpy(), presence.sigmoid().numpy()

    def _phrase(self, query: Query) -> torch.Tensor:
        if query not in self._phrases:
            tokens = torch.tensor(tokens_of(_as_learnt(query), self._network.config))
            self._phrases[query] = self._network.phrase(tokens, torch.tensor([0]))[0]
        return self._phrases[query]


def _learnt_as(finding: str) -> str | None:
    """The name under which the network learnt *finding*, or None."""
    name = ALIKE.get(finding, finding)
    return name if name in LEARNT else None


def _as_learnt(query: Query) -> Query:
    """*query* in the names that the network learnt."""
    third = third_of(query)
    sites = () if third is None else (THIRDS[third][0],)
    return replace(query, finding=_learnt_as(query.finding) or query.finding, sites=sites)


def load_grounder(folder: Path | None = None, *, threads: int | None = None) -> TorchGrounder:
    """The grounder with the weights of *folder*, or with the shipped ones.

    Parameters
    ----------
    threads : that PyTorch may use; all cores at hand by default.

    Raises
    ------
    model.weights.WeightsError
        If the weights are missing, damaged, or not those of their manifest.
    """
    if threads is not None:
        torch.set_num_threads(max(1, math.floor(threads)))
    folder = folder or SHIPPED
    network, manifest = load_weights(folder)
    return TorchGrounder(network, manifest, load_joint(folder))
