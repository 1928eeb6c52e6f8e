"""What a training is made of, as frozen values read from one TOML file.

Every key is checked before anything starts, and one that is not known is refused: no misspelt key means its default.
Paths are relative to the file. docs/training.md says what each key does.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from model.config import Config

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
#: First seed, and the one after the last. No other use of the twin may take these.
TRAINING_SEEDS = (100_000, 104_000)
VALIDATION_SEEDS = (104_000, 104_200)
_STRICT = ConfigDict(extra="forbid")


class ConfigError(ValueError):
    """The configuration cannot be used; the message names each key and what was expected."""


@dataclass(frozen=True, slots=True)
class TwinData:
    """Samples of the synthetic twin, rendered once.

    Parameters
    ----------
    weight : share of the images of a batch, relative to the other sources.
    training, validation : first seed, and the one after the last.
    cache : folder for the rendered samples.
    small : how many times as often a sample with a small finding is drawn as another.
    score : weight of this source in the score that chooses the best weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["twin"]
    weight: Weight
    cache: Path
    training: tuple[Count, Count] = TRAINING_SEEDS
    validation: tuple[Count, Count] = VALIDATION_SEEDS
    small: Annotated[float, Field(ge=1)] = 1.0
    score: Weight = 1.0


@dataclass(frozen=True, slots=True)
class LungData:
    """Radiographs with outlined lungs in the form of the Hannover collection; see :mod:`model.lungs`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["lungs"]
    weight: Weight
    folder: Path
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ViewData:
    """Drawn laterals and pictures of no chest: they have no lungs of a frontal chest to outline."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["views"]
    weight: Weight


@dataclass(frozen=True, slots=True)
class PhraseData:
    """A data set of phrases and regions.

    Parameters
    ----------
    open : which one, as :func:`model.data.open_dataset` takes it.
    validation_open : a set of its own to validate on; without it, patients are split by ``[split]``.
    optional : go on without it when it is not there.
    cache : folder for the letterboxed images; in memory when empty.
    balance : traits of an image ("present", "view", "finding") whose combinations are drawn equally often.
    swap_sides : how often the other side of a one-sided finding is asked as absent.
    reword : how often another wording of the same finding replaces the phrase.
    mirror : how often picture and words are mirrored.
    phrases : at most so many of one image at a time.
    prior : learn from it where findings lie by the words alone (:mod:`model.prior`).
    score : weight of this source in the score that chooses the best weights.
    faults : "stop" before training when the data has faults, or "skip" the samples that have one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["phrases"]
    weight: Weight
    open: Annotated[str, Field(min_length=1)]
    validation_open: str = ""
    optional: bool = False
    cache: Path | None = None
    balance: tuple[Literal["present", "view", "finding"], ...] = ()
    swap_sides: Share = 0.4
    reword: Share = 0.3
    mirror: Share = 0.5
    phrases: Positive = 6
    prior: bool = True
    score: Weight = 1.0
    faults: Literal["stop", "skip"] = "stop"


@dataclass(frozen=True, slots=True)
class LabelData:
    """Images of which only a label is known: present or absent, but not where.

    Parameters
    ----------
    table : CSV with a header, beside the images that it names.
    suffix : added to the names of the images.
    image, patient, labels, view : its columns; ``labels`` holds names between bars. An empty *view* says frontal.
    findings : labels that are asked; those of an image are present, all others absent. Images without any are left out.
    without : a data set, as :func:`model.data.open_dataset` takes it, whose patients are left out.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["labels"]
    weight: Weight
    table: Path
    findings: Annotated[tuple[str, ...], Field(min_length=1)]
    image: str = "image"
    suffix: str = ""
    patient: str = "patient"
    labels: str = "labels"
    view: str = ""
    without: str = ""
    optional: bool = False
    cache: Path | None = None
    balance: tuple[Literal["present", "view", "finding"], ...] = ()
    reword: Share = 0.3
    mirror: Share = 0.5
    phrases: Positive = 3
    score: Weight = 0.0
    faults: Literal["stop", "skip"] = "stop"


@dataclass(frozen=True, slots=True)
class LesionData:
    """Lesions put into the normal radiographs of a data set (:mod:`model.data.lesions`); they only train.

    Parameters
    ----------
    open : the data set; its images without any region are the normal ones.
    outlines : folder of weights that outline the lungs; the shipped ones when empty.
    rounds : lesions put into each image, one at a time.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["lesions"]
    weight: Weight
    open: Annotated[str, Field(min_length=1)]
    outlines: Path | None = None
    rounds: Positive = 1
    optional: bool = False
    cache: Path | None = None
    reword: Share = 0.3
    mirror: Share = 0.5


Data = Annotated[TwinData | LungData | ViewData | PhraseData | LabelData | LesionData, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Split:
    """Who trains and who validates; the fifth of patients kept for measuring (:mod:`model.data.split`) does neither.

    Parameters
    ----------
    held_out : leave out those kept for measuring.
    validation : share of the others to validate on, where there are no folds.
    folds : 2 or more fit what belongs to the weights on answers of networks that never saw the patient: one network
        more for each fold of patients, trained without it, and one on all of them, which is kept (cross-fitting).
    fold : train the network of this fold alone, which validates; -1 for all of the above.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    held_out: bool = True
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    folds: Count = 0
    fold: Annotated[int, Field(ge=-1)] = -1

    def __post_init__(self) -> None:
        if self.folds == 1 or self.fold >= self.folds:
            raise ValueError("there are no folds, or 2 or more, and fold is one of them, from 0, or -1 for all")

    @property
    def crossed(self) -> bool:
        """Whether every fold in turn is left out."""
        return bool(self.folds) and self.fold < 0


@dataclass(frozen=True, slots=True)
class Loss:
    """Weights of the parts of the loss; *alpha* and *gamma* of the focal loss (Lin et al. 2017).

    Parameters
    ----------
    small : how much more of the focal loss a small finding has: a twentieth of the picture over its share, to this
        power; 0 for no more.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    alpha: Share = 0.6
    gamma: Weight = 2.0
    focal: Weight = 10.0
    dice: Weight = 1.0
    presence: Weight = 0.5
    anatomy: Weight = 2.0
    outlines: Weight = 0.2
    small: Weight = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    steps, epochs : batches in all, or times that every training image is seen; one of them.
    batch : images in a batch.
    schedule : "cosine" warms up over *warm_up* of the steps and falls to zero; "constant" warms up and stays.
    clip : largest norm of the gradient.
    check_every : steps between looks at the validation samples.
    checkpoint_every : steps between checkpoints.
    patience : looks without a better score before stopping early; 0 never stops.
    average : decay of the running mean of the weights that is scored and kept (Tarvainen and Valpola 2017); 0 for none.
    minutes : stop after so many of them; 0 for no limit. A run stopped so depends on the machine's speed.
    presence_score : share of the presence AUC in the score; the rest is the average precision of cells.
    keep : the weights with the "best" score, or the "last", for what the score does not count, as the lungs.
    mix : share of the weights that training began from in what is kept: less is forgotten (Wortsman et al. 2022).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    steps: Count = 0
    epochs: Annotated[float, Field(ge=0)] = 0.0
    batch: Positive = 11
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Weight = 0.02
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: Share = 0.08
    clip: Annotated[float, Field(gt=0)] = 2.0
    check_every: Positive = 100
    checkpoint_every: Positive = 50
    patience: Count = 0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    minutes: Weight = 0.0
    presence_score: Share = 0.0
    keep: Literal["best", "last"] = "best"
    mix: Share = 0.0

    def __post_init__(self) -> None:
        if bool(self.steps) == bool(self.epochs):
            raise ValueError("give either steps or epochs, above zero")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to train; the same configuration serves all of them.

    Parameters
    ----------
    device : "auto" takes CUDA where it is.
    precision : "bf16" computes the forward pass in mixed precision; the weights stay in single precision.
    threads : of PyTorch on the CPU; 0 for all cores.
    workers : threads that make batches ahead.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: Count = 0
    workers: Positive = 1


@dataclass(frozen=True, slots=True)
class Tracking:
    """Where the figures go besides the local files.

    Parameters
    ----------
    to : "local" connects nowhere; "wandb" and "mlflow" need the extra of that name.
    offline : Weights & Biases writes a run folder to send later; with false it connects to the site's server.
    uri : MLflow's store; a folder beside the results when empty.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    to: Literal["local", "wandb", "mlflow"] = "local"
    project: str = "sightline"
    offline: bool = True
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Distil:
    """Teachers whose maps and presence a smaller network learns.

    Parameters
    ----------
    teachers : weights folders; several answer with the mean of their logits.
    temperature : softens the teachers' probabilities (Hinton et al. 2015).
    weight : of the teachers' part in the loss.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    teachers: Annotated[tuple[Path, ...], Field(min_length=1)]
    temperature: Annotated[float, Field(gt=0)] = 2.0
    weight: Weight = 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """One training, whole.

    Parameters
    ----------
    out : folder for weights and manifest.
    start : folder of weights to begin from, of a network with these measures, or of an adopted pair of encoders that
        the network names; random ones when empty.
    run : folder for the log and the checkpoint; ``training`` in *out* when empty.
    name : of the weights, in their manifest.
    network : measures that differ from those of :class:`model.config.Config`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    out: Path
    recipe: Recipe
    data: Annotated[tuple[Data, ...], Field(min_length=1)]
    start: Path | None = None
    run: Path | None = None
    name: str = "sightline-twin"
    seed: Count = 1
    network: dict[str, Any] = field(default_factory=dict)
    split: Split = Split()
    loss: Loss = Loss()
    machine: Machine = Machine()
    tracking: Tracking = Tracking()
    distil: Distil | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.network) - {each.name for each in fields(Config)})
        if unknown:
            raise ValueError(f"network has no {', '.join(unknown)}; known are {_names(Config)}")
        if not sum(each.weight for each in self.data):
            raise ValueError("no data has a weight above zero")
        if self.split.folds and (self.recipe.keep != "last" or self.recipe.patience):
            raise ValueError('folds need keep = "last" and no patience: who is measured must not choose the weights')
        if self.split.folds and any(isinstance(each, PhraseData) and each.validation_open for each in self.data):
            raise ValueError("folds validate on everyone: leave validation_open out")
        self.measures()

    def measures(self) -> Config:
        """The network's measures."""
        try:
            return Config.from_json(json.dumps({**json.loads(Config().to_json()), **self.network}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"network: {error}") from error

    @property
    def run_folder(self) -> Path:
        """Where log and checkpoint go."""
        return self.run or self.out / "training"

    def recipe_of(self) -> dict[str, Any]:
        """Everything that decides about the weights, as JSON values; no folders, and nothing about this machine."""
        said: dict[str, Any] = _ADAPTER.dump_python(
            self, mode="json", exclude={"out", "run", "start", "machine", "tracking"}
        )
        said["precision"] = self.machine.precision
        said["network"] = json.loads(self.measures().to_json())
        said["data"] = [{key: each[key] for key in each if key not in (*_PATHS, *_OPENED)} for each in said["data"]]
        if said["distil"]:
            del said["distil"]["teachers"]
        return said


_ADAPTER = TypeAdapter(Training)
_ADDRESS = re.compile(r"[a-z0-9]+://|twin:")
#: Local files or addresses of data sets.
_OPENED = ("open", "validation_open", "without")
_PATHS = ("out", "run", "start", "cache", "folder", "table", "outlines")


def read_training(file: Path, overrides: Sequence[str] = ()) -> Training:
    """The training that *file* describes.

    Parameters
    ----------
    overrides : ``key=value`` each, the key with dots ("recipe.steps=100", "data.0.weight=3"), the value as in TOML.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key is missing, unknown, or not what it should be.
    """
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file.name} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{file.name} is not TOML: {error}") from error
    for override in overrides:
        _put(raw, override)
    _anchor(raw, file.parent)
    try:
        return _ADAPTER.validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        said = "; ".join(_said(each) for each in error.errors(include_url=False, include_context=False))
        raise ConfigError(f"{file.name}: {said}") from error


def _names(kind: type[Config]) -> str:
    return ", ".join(each.name for each in fields(kind))


def _said(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    shown = f", not {error['input']!r}" if isinstance(error["input"], str | int | float | bool) else ""
    return f"{place}: {message}{shown}" if place else message


def _put(raw: dict[str, Any], override: str) -> None:
    """Set one key of nested tables and lists."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes key=value, not {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    table: Any = raw
    for part in parents:
        table = _inside(table, part, key)
    if isinstance(table, list):
        _inside(table, last, key)
        table[int(last)] = value
    else:
        table[last] = value


def _inside(table: Any, part: str, key: str) -> Any:
    if isinstance(table, list):
        if not part.isdigit() or int(part) >= len(table):
            raise ConfigError(f"--set {key}: {part} is not one of 0 to {len(table) - 1}")
        return table[int(part)]
    found = table.setdefault(part, {})
    if not isinstance(found, dict | list):
        raise ConfigError(f"--set {key}: {part} is a value, not a table")
    return found


def _anchor(raw: dict[str, Any], folder: Path) -> None:
    """Make relative paths start at the file's folder."""
    tables = [raw, *(each for each in _listed(raw.get("data")) if isinstance(each, dict))]
    for table in tables:
        for name in _PATHS:
            if isinstance(table.get(name), str) and table[name]:
                table[name] = str((folder / table[name]).resolve())
        for name in _OPENED:
            # An address keeps its form; a local file is relative to the configuration.
            if isinstance(table.get(name), str) and table[name] and not _ADDRESS.match(table[name]):
                table[name] = str((folder / table[name]).resolve())
    distil = raw.get("distil")
    if isinstance(distil, dict):
        distil["teachers"] = [str((folder / str(each)).resolve()) for each in _listed(distil.get("teachers"))]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
