"""Published checkpoints from disk. Only tensors are read: nothing in a file can run."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.encoders.names import UnknownNameError, ours


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or not the published one."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Every tensor of a ``.safetensors`` file or a PyTorch file, by its published name, on the CPU.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or holds anything else than tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: a file with any other object, or code, is refused before anything of it runs
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path.name} is not a file of tensors, or is damaged; nothing of it was run") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise CheckpointError(f"{path.name} holds something else than tensors by name")
    return stored


def published_parameters(path: Path, encoder: str) -> dict[str, Tensor]:
    """The checkpoint of *encoder* (``biovil``, ``biovil-t``, ``cxr-bert``) by our names.

    Raises
    ------
    CheckpointError
        As :func:`read_checkpoint`, or if it has names that the published one does not have.
    """
    try:
        return ours(read_checkpoint(path), encoder)
    except UnknownNameError as error:
        raise CheckpointError(f"{path.name} is not a checkpoint of {encoder}: {error}") from error


def fill(network: nn.Module, parameters: dict[str, Tensor], *, name: str) -> None:
    """Put *parameters* into *network*, all of them.

    Raises
    ------
    CheckpointError
        If names or shapes are not those of the network; *name* says of which checkpoint.
    """
    try:
        network.load_state_dict(parameters)
    except RuntimeError as error:
        raise CheckpointError(f"{name} does not fit the encoder: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
