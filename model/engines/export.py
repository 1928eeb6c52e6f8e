"""The network as two ONNX graphs, made at start by tracing and kept in a folder under the hash of what they are.

``encode.onnx`` takes one image, ``locate.onnx`` what the first gives, any number of phrases, and the number of the
image of each (0). Embedding phrases stays with PyTorch: it happens once per wording.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.engines.engine import EngineError
from model.engines.pytorch import embedded
from model.network import Encoded, GroundingNetwork

_OPSET = 18
_PHRASES = 3  # any number but 0 and 1, which tracing takes for constants


class _Encode(nn.Module):
    """*Shape:* (1, 1, s, s) -> anatomy as probabilities, then every tensor of :class:`model.network.Encoded`."""

    def __init__(self, network: GroundingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        encoded = self.network.encode(images)
        return encoded.anatomy.sigmoid(), *tensors_of(encoded)


class _Locate(nn.Module):
    """*Shape:* tensors of Encoded, image (P,), asked (P, ...) each -> probabilities (P, h, h), presence (P,)."""

    def __init__(self, network: GroundingNetwork, form: Encoded) -> None:
        super().__init__()
        self.network, self.form = network, form

    def forward(self, seen: tuple[Tensor, ...], image: Tensor, asked: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        encoded = refilled(self.form, iter(seen))
        logits, presence = self.network.locate(encoded, asked[0], image, *asked[1:])
        return logits.sigmoid(), presence.sigmoid()


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors of a dataclass of tensors and such dataclasses, in the order of their fields."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))


def refilled(form: Any, tensors: Iterator[Tensor]) -> Any:
    """A dataclass like *form* with *tensors* in the places of its own."""
    if isinstance(form, Tensor):
        return next(tensors)
    if is_dataclass(form):
        kind: Any = type(form)
        return kind(*(refilled(getattr(form, field.name), tensors) for field in fields(form)))
    return form


def exported(network: GroundingNetwork, *, weights_sha256: str, cache: Path) -> Path:
    """The folder with both graphs, made when it is not there.

    Parameters
    ----------
    cache : where such folders are kept; one is never changed once it is there.

    Raises
    ------
    EngineError
        If the packages for exporting are missing, or the folder cannot be written.
    """
    folder = cache / _key(weights_sha256)
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            _export(network, Path(made))
            Path(made).rename(folder)
            Path(made).mkdir()  # for the context manager to remove
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed: pip install 'sightline-cxr[onnx]' or [openvino]") from error
    except OSError as error:
        if not folder.is_dir():  # another process was not faster
            raise EngineError(f"the network cannot be exported to {cache} ({error.strerror})") from error
    return folder


def _key(weights_sha256: str) -> str:
    """Weights, the code that runs them, and what exports them."""
    code = hashlib.sha256(f"{torch.__version__} {_OPSET}".encode())
    for file in [*sorted(Path(__file__).parents[1].glob("*.py")), Path(__file__)]:
        code.update(file.read_bytes())
    return f"{weights_sha256[:16]}-{code.hexdigest()[:16]}"


def _export(network: GroundingNetwork, folder: Path) -> None:
    size = network.config.size
    image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    several = (torch.from_numpy(embedded(network, [(ord("a"),)] * _PHRASES)),)
    with torch.no_grad():
        encoded = network.encode(image)
    seen = tuple(tensors_of(encoded))
    phrases = torch.export.Dim("phrases", min=1, max=4096)
    numbers = torch.zeros(_PHRASES, dtype=torch.long)
    many = {0: phrases}
    shapes = (tuple(None for _ in seen), many, tuple(many for _ in several))
    _write(_Encode(network), (image,), None, folder / "encode.onnx")
    _write(_Locate(network, encoded), (seen, numbers, several), shapes, folder / "locate.onnx")


def _write(module: nn.Module, example: tuple[Any, ...], shapes: tuple[Any, ...] | None, file: Path) -> None:
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of every operator of torchvision that is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own use of what it calls deprecated
            program = torch.export.export(module.eval(), example, dynamic_shapes=shapes)
            made = torch.onnx.export(program, dynamo=True, opset_version=_OPSET, verbose=False, optimize=True)
            if made is None:
                raise EngineError("PyTorch exported nothing")
            made.save(file)
    finally:
        log.setLevel(level)
