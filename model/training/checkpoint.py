"""What a training needs to go on after any interruption, in one file that is either whole or not there.

No state of random numbers is kept: every number drawn is a function of seed and step.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

FILE_NAME = "checkpoint.pt"


class CheckpointError(ValueError):
    """There is a checkpoint, but not of this training."""


@dataclass(slots=True)
class State:
    """A training between two steps.

    Parameters
    ----------
    step : the last one done.
    best, best_step, best_state : the highest score so far, when, and with which weights.
    stopped : ended early.
    average : running mean of the weights, which is scored and kept in place of the network's own.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False
    average: AveragedModel | None = None

    @property
    def scored(self) -> nn.Module:
        """The network whose score counts."""
        return self.network if self.average is None else self.average.module


def begin(network: nn.Module, optimiser: torch.optim.Optimizer, *, average: float) -> State:
    """Before the first step; *average* is the decay of the running mean, 0 for none."""
    if not average:
        return State(network, optimiser)
    mean = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)  # type: ignore[no-untyped-call]
    return State(network, optimiser, average=mean)


def learnt(network: nn.Module) -> dict[str, Tensor]:
    """A copy of what training changes: parameters that are not frozen, and running statistics."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: value.detach().clone() for name, value in network.state_dict().items() if name not in frozen}


def restore(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Put what :func:`learnt` gave back."""
    network.load_state_dict(state, strict=False)


def mixed(one: dict[str, Tensor], other: dict[str, Tensor], *, share: float) -> dict[str, Tensor]:
    """*share* of *one* and the rest of *other*; what is counted, not measured, as in *other*."""
    return {
        name: share * one[name] + (1 - share) * value if value.is_floating_point() else value
        for name, value in other.items()
    }


def save(state: State, folder: Path, *, identity: dict[str, Any]) -> None:
    """Write the checkpoint of *folder* anew; *identity* says of which training it is."""
    content = io.BytesIO()
    kept = {
        "identity": json.dumps(identity, sort_keys=True),
        "network": learnt(state.network),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "best": state.best,
        "best_step": state.best_step,
        "best_state": state.best_state,
        "stopped": state.stopped,
        "average": {} if state.average is None else state.average.state_dict(),
    }
    torch.save(kept, content)
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f"{FILE_NAME}.part"
    with staged.open("wb") as stream:
        stream.write(content.getbuffer())
        stream.flush()
        os.fsync(stream.fileno())
    staged.replace(folder / FILE_NAME)


def resume(state: State, folder: Path, *, identity: dict[str, Any]) -> bool:
    """Go on from the checkpoint of *folder*, if there is one.

    Raises
    ------
    CheckpointError
        If it is damaged, or of a training with another configuration or other data.
    """
    try:
        content = (folder / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return False
    try:
        kept = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        before = json.loads(kept["identity"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(f"{folder / FILE_NAME} is damaged: delete it to begin anew") from error
    changed = _differing(before, json.loads(json.dumps(identity)))
    if changed:
        raise CheckpointError(
            f"{folder / FILE_NAME} is of another training, which differs in {', '.join(changed)}: "
            "delete it to begin anew, or choose another folder"
        )
    restore(state.network, kept["network"])
    state.optimiser.load_state_dict(kept["optimiser"])
    state.step, state.best, state.best_step = kept["step"], kept["best"], kept["best_step"]
    state.best_state, state.stopped = kept["best_state"], kept["stopped"]
    if state.average is not None:
        state.average.load_state_dict(kept["average"])
    return True


def _differing(one: Any, other: Any, place: str = "") -> list[str]:
    """Dotted names of what differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(set(one) | set(other))
        return [said for key in keys for said in _differing(one.get(key), other.get(key), f"{place}.{key}".strip("."))]
    return [] if one == other else [place]
