"""Looks at images once, answers every phrase asked of them, and says why where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from model.recent import Recent
from model.regions import regions_of
from model.suitability.judge import Judge, load_judge
from model.values import Grounding, Heatmap, ModelCard, Query, Question, State, Suitability, View
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
#: Images encoded, and phrases located, in one go at most: sixteen phrases share what is made once for their image, and
#: their maps nearly stay in the processor's cache, thirty do not.
_IMAGES, _PHRASES = 8, 16


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
        if self._judge is None:
            return Suitability(View.FRONTAL, orientation)
        return self._judge.look(pixels, orientation)

    def lungs(self, pixels: Pixels, orientation: Orientation) -> Lungs:
        """Both lungs as the network outlines them, on the heatmap's grid; ask :attr:`Lungs.plausible` first."""
        square = letterbox_of(pixels, orientation).image(pixels, self._network.config.size)
        return lungs_of(self._engine.encode(square[None]).anatomy[0, :2])

    def ground(self, pixels: Pixels, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        """One answer per query, in order, on one image; see :meth:`ground_all`."""
        return self.ground_all((Question(pixels, orientation, queries),))[0]

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        """For each image one answer per query, in order. Every image is encoded once, whatever is asked of it."""
        answers: list[tuple[Grounding, ...]] = [()] * len(questions)
        fit: list[int] = []
        for number, question in enumerate(questions):
            reason = self.suitability(question.pixels, question.orientation).reason if question.queries else None
            if reason is not None:
                answers[number] = _refused(question.queries, reason)
            elif question.queries:
                fit.append(number)
        for start in range(0, len(fit), _IMAGES):
            some = fit[start : start + _IMAGES]
            for number, answer in zip(some, self._ground([questions[each] for each in some]), strict=True):
                answers[number] = answer
        return tuple(answers)

    def _ground(self, questions: Sequence[Question]) -> Iterator[tuple[Grounding, ...]]:
        size = self._network.config.size
        boxes = [letterbox_of(each.pixels, each.orientation) for each in questions]
        seen = self._engine.encode(
            np.stack([box.image(each.pixels, size) for box, each in zip(boxes, questions, strict=True)])
        )
        lungs = [lungs_of(anatomy[:2]) for anatomy in seen.anatomy]
        pairs = [
            (number, query)
            for number, question in enumerate(questions)
            for query in question.queries
            if lungs[number].plausible
        ]
        located = self._located(seen, pairs)
        for number, question in enumerate(questions):
            if not lungs[number].plausible:
                yield _refused(question.queries, NO_LUNGS)
                continue
            yield tuple(
                self._answer(query, *next(located), lungs=lungs[number], box=boxes[number])
                for query in question.queries
            )

    def _located(self, seen: Seen, pairs: Sequence[tuple[int, Query]]) -> Iterator[tuple[Pixels, float]]:
        """Map and presence of each pair of image and query."""
        for start in range(0, len(pairs), _PHRASES):
            some = pairs[start : start + _PHRASES]
            asked = self._asked([query for _, query in some])
            maps, presence = self._engine.locate(seen, asked, np.array([number for number, _ in some], np.int64))
            yield from zip(maps, presence.tolist(), strict=True)

    def _asked(self, queries: Sequence[Query]) -> Asked:
        """What the network is asked about *queries*; words are embedded once for as long as they are kept."""
        rows = [tokens_of(_as_learnt(query), self._network.config) for query in queries]
        return (np.stack(self._vectors.of(rows, self._engine.embed)),)

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
