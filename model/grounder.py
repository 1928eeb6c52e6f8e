"""Looks at images once, answers every phrase asked of them, and says why where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.anatomy import THIRDS, Lungs, lungs_of, named_area, third_of
from model.calibration import calibrated
from model.engines.choice import cores, engine_of
from model.engines.engine import Asked, Engine, Seen
from model.engines.pytorch import TorchEngine
from model.geometry import Letterbox, Orientation, letterbox_of
from model.network import GroundingNetwork
from model.prior import EVIDENCE_ALONE, Joint
from model.recent import Recent, RecentImages
from model.regions import regions_of
from model.suitability.judge import Judge, load_judge
from model.values import (
    PHRASES_AT_ONCE,
    Grounding,
    Heatmap,
    ModelCard,
    Query,
    Question,
    State,
    Suitability,
    View,
)
from model.weights import SHIPPED, Manifest, WeightsError, load_joint, load_weights
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
#: Phrases whose vectors are kept; a vector is a quarter of a kilobyte.
KEPT_PHRASES = 4096
#: Images whose verdict and encoding are kept while the images are there: a few megabytes each.
KEPT_IMAGES = 16
#: Images encoded, and parts of PHRASES_AT_ONCE phrases located, in one go at most by an engine that batches.
_IMAGES, _PARTS = 8, 8


@dataclass(slots=True, eq=False)
class _Sight:
    """What is known of an image: whether it suits, where its square lies, and, once it was encoded, what was seen."""

    suits: Suitability
    box: Letterbox
    seen: tuple[Seen, Lungs] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some phrases of one question, at most PHRASES_AT_ONCE; *answers* are filled in."""

    queries: tuple[Query, ...]
    sight: _Sight
    answers: list[Grounding] = field(default_factory=list)


class EngineGrounder:
    """Answers with the network that *engine* runs. Deterministic for a number of threads; for one thread at a time.

    Parameters
    ----------
    engine : by default PyTorch in single precision, to which the others are held.
    judge : says which images cannot be grounded; None asks every image, as measuring does with scrambled ones.
    """

    def __init__(
        self,
        network: GroundingNetwork,
        manifest: Manifest,
        joint: Joint = EVIDENCE_ALONE,
        *,
        engine: Engine | None = None,
        judge: Judge | None = None,
    ) -> None:
        self._joint = joint
        self._scalings = manifest.presence_scalings
        self._network, self._manifest = network, manifest
        self._engine = engine or TorchEngine(network)
        self._judge = judge
        self._vectors: Recent[tuple[int, ...], npt.NDArray[np.float32]] = Recent(KEPT_PHRASES)
        self._sights: RecentImages[Orientation, _Sight] = RecentImages(KEPT_IMAGES)

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
            judge_sha256="" if self._judge is None else self._judge.sha256,
        )

    @property
    def engine(self) -> str:
        """What runs the network; a name of :data:`model.engines.choice.ENGINES`."""
        return self._engine.name

    def suitability(self, pixels: Pixels, orientation: Orientation) -> Suitability:
        """Whether the image can be grounded as *orientation* turns it, and if not, why not."""
        return self._sight(pixels, orientation).suits

    def lungs(self, pixels: Pixels, orientation: Orientation) -> Lungs:
        """Both lungs as the network outlines them, on the heatmap's grid; ask :attr:`Lungs.plausible` first."""
        square = letterbox_of(pixels, orientation).image(pixels, self._network.config.size)
        return lungs_of(self._engine.encode(square[None])[0].anatomy[:2])

    def ground(self, pixels: Pixels, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        """One answer per query, in order, on one image; see :meth:`ground_all`."""
        return self.ground_all((Question(pixels, orientation, queries),))[0]

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        """For each image one answer per query, in order.

        An image is judged and encoded once, whatever is asked of it and when, while it is there and cannot be written.
        On an engine that does not batch, no answer depends on what else is asked.
        """
        parts = [self._parts(each) for each in questions]
        wanted = [
            (question.pixels, part.sight) for question, some in zip(questions, parts, strict=True) for part in some
        ]
        self._encode([(pixels, sight) for pixels, sight in wanted if sight.suits.fault is None])
        self._locate([part for some in parts for part in some])
        return tuple(tuple(answer for part in some for answer in part.answers) for some in parts)

    def _parts(self, question: Question) -> list[_Part]:
        queries = question.queries
        sight = self._sight(question.pixels, question.orientation) if queries else None
        starts = range(0, len(queries), PHRASES_AT_ONCE)
        return [_Part(queries[start : start + PHRASES_AT_ONCE], sight) for start in starts if sight is not None]

    def _sight(self, pixels: Pixels, orientation: Orientation) -> _Sight:
        def look() -> _Sight:
            suits = Suitability(View.FRONTAL, orientation)
            if self._judge is not None:
                suits = self._judge.look(pixels, orientation)
            return _Sight(suits, letterbox_of(pixels, orientation))

        return self._sights.of(pixels, orientation, look)

    def _encode(self, wanted: Sequence[tuple[Pixels, _Sight]]) -> None:
        new = list({id(sight): (pixels, sight) for pixels, sight in wanted if sight.seen is None}.values())
        at_once = _IMAGES if self._engine.batches else 1
        for start in range(0, len(new), at_once):
            some = new[start : start + at_once]
            squares = np.stack([sight.box.image(pixels, self._network.config.size) for pixels, sight in some])
            for (_, sight), seen in zip(some, self._engine.encode(squares), strict=True):
                sight.seen = seen, lungs_of(seen.anatomy[:2])

    def _locate(self, parts: Sequence[_Part]) -> None:
        """Fill in the answers of *parts*."""
        plausible = []
        for part in parts:
            if part.sight.seen is None:
                part.answers.extend(_refused(part.queries, part.sight.suits.reason or ""))
            elif not part.sight.seen[1].plausible:
                part.answers.extend(_refused(part.queries, NO_LUNGS))
            else:
                plausible.append((part, *part.sight.seen))
        together = _PARTS if self._engine.batches else 1
        for start in range(0, len(plausible), together):
            some = plausible[start : start + together]
            asked = self._asked([query for part, _, _ in some for query in part.queries])
            image = np.repeat(np.arange(len(some)), [len(part.queries) for part, _, _ in some])
            maps, presence = self._engine.locate([seen for _, seen, _ in some], asked, image)
            located = zip(maps, presence.tolist(), strict=True)
            for part, _, lungs in some:
                for query in part.queries:
                    part.answers.append(self._answer(query, *next(located), lungs=lungs, box=part.sight.box))

    def _asked(self, queries: Sequence[Query]) -> Asked:
        """What the network is asked about *queries*; words are embedded once for as long as they are kept."""
        rows = [tokens_of(_as_learnt(query), self._network.config) for query in queries]
        return (np.stack(self._vectors.of(rows, self._embedded)),)

    def _embedded(self, rows: Sequence[tuple[int, ...]]) -> Iterator[npt.NDArray[np.float32]]:
        """One by one: see :attr:`model.engines.engine.Engine.batches`."""
        return (self._engine.embed([row])[0] for row in rows)

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


def _refused(queries: Sequence[Query], reason: str) -> tuple[Grounding, ...]:
    return tuple(Grounding(query, State.NOT_GROUNDABLE, 0.0, reason=reason) for query in queries)


def _learnt_as(finding: str) -> str | None:
    """The name under which the network learnt *finding*, or None."""
    name = ALIKE.get(finding, finding)
    return name if name in LEARNT else None


def _as_learnt(query: Query) -> Query:
    """*query* in the names that the network learnt."""
    third = third_of(query)
    sites = () if third is None else (THIRDS[third][0],)
    return replace(query, finding=_learnt_as(query.finding) or query.finding, sites=sites)


def _working_at(operating_point: str | None, manifest: Manifest) -> Manifest:
    """*manifest* with the threshold of *operating_point*."""
    if operating_point is None:
        return manifest
    if operating_point not in manifest.operating_points:
        raise WeightsError(f"the weights have no operating point {operating_point!r}; unset it, or choose others")
    return replace(manifest, threshold=manifest.operating_points[operating_point])


def load_grounder(
    folder: Path | None = None,
    *,
    threads: int | None = None,
    engine: str = "torch",
    cache: Path | None = None,
    operating_point: str | None = None,
    judged: bool = True,
) -> EngineGrounder:
    """The grounder with the weights of *folder*, or with the shipped ones.

    Parameters
    ----------
    threads : that the engine may use; by default all cores that this process may use.
    engine : what runs the network; a name of :data:`model.engines.choice.ENGINES`.
    cache : folder that keeps the graphs of engines that need an exported one.
    operating_point : a name among those of the manifest; by default its tuned threshold holds.
    judged : whether images that cannot be grounded are refused; False asks every image.

    Raises
    ------
    model.weights.WeightsError
        If the weights are missing, damaged, or not those of their manifest, or it has no such operating point.
    model.suitability.judge.SuitabilityError
        Likewise of those that judge images.
    model.engines.engine.EngineError
        If the engine cannot run here.
    """
    threads = cores() if threads is None else max(1, threads)
    torch.set_num_threads(threads)
    folder = folder or SHIPPED
    network, manifest = load_weights(folder)
    manifest = _working_at(operating_point, manifest)
    runner = engine_of(engine, network, weights_sha256=manifest.sha256, cache=cache, threads=threads)
    return EngineGrounder(network, manifest, load_joint(folder), engine=runner, judge=load_judge() if judged else None)
