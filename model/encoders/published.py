"""Take over a published pair of encoders: from the files of its repository to a folder that SIGHTLINE_MODEL_DIR names.

Nothing is downloaded unless an address of a hub or bucket is given. docs/encoders.md has the whole way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.encoders.loading import CheckpointError, published_parameters
from model.encoders.similarity import pair_config, pair_of
from model.encoders.text import VocabularyError
from model.sources import Pinned, fetch, sha256_of
from model.weights import FILE_NAME, VERSION, Manifest

#: Middle of the thresholds .1 to .5 at which the pair was scored when it was published; tuned on nothing.
THRESHOLD = 0.3
TEXT, VOCABULARY = "pytorch_model.bin", "vocab.txt"


@dataclass(frozen=True, slots=True)
class Published:
    """Where a pair was published, and the digest that its authors give for the image encoder."""

    repository: str
    revision: str
    image: str
    md5: str


PUBLISHED = {
    "biovil": Published(
        repository="microsoft/BiomedVLP-CXR-BERT-specialized",
        revision="v1.1",
        image="biovil_image_resnet50_proj_size_128.pt",
        md5="02ce6ee460f72efd599295f440dbb453",
    ),
    "biovil-t": Published(
        repository="microsoft/BiomedVLP-BioViL-T",
        revision="v1.0",
        image="biovil_t_image_model_proj_size_128.pt",
        md5="a83080e2f23aa584a4f2b24c39b1bb64",
    ),
}


def adopt(
    source: str, encoder: str, out: Path, *, pinned: tuple[Pinned, ...] = (), cache: Path, offline: bool = False
) -> Manifest:
    """Write manifest and weights of a pair into *out*, checked, by our names, in one safetensors file.

    Parameters
    ----------
    source : folder, or address of a folder, that holds the image encoder, ``pytorch_model.bin`` and ``vocab.txt``.
    encoder : ``biovil`` or ``biovil-t``.
    pinned : SHA-256 of those files; needed for files that are not on this machine. An image encoder without one must
        have the MD5 that its authors published.

    Raises
    ------
    model.sources.SourceError
        If a file cannot be had, or is not the pinned one.
    model.encoders.loading.CheckpointError
        If a file is not the published one, or not a checkpoint of this pair.
    """
    published = PUBLISHED[encoder]
    digests = {file.name: file.sha256 for file in pinned}
    image, text, vocabulary = (
        fetch(f"{source.rstrip('/')}/{name}", sha256=digests.get(name), cache=cache, offline=offline)
        for name in (published.image, TEXT, VOCABULARY)
    )
    if published.image not in digests and _md5_of(image) != published.md5:
        raise CheckpointError(f"{published.image} is not the published file (MD5 differs from {published.md5})")
    parameters = {
        **{f"image.{name}": value for name, value in published_parameters(image, encoder).items()},
        **{f"phrase.text.{name}": value for name, value in published_parameters(text, "cxr-bert").items()},
        "phrase._extra_state": _bytes_of(vocabulary),
    }
    _check(encoder, parameters)
    files = dict(zip((published.image, TEXT, VOCABULARY), map(sha256_of, (image, text, vocabulary)), strict=True))
    return _write(encoder, parameters, out, files=files)


def _check(encoder: str, parameters: dict[str, Tensor]) -> None:
    """Build the pair once, so that what does not fit is told now and not when the service starts."""
    try:
        pair_of(pair_config(encoder), parameters)
    except (VocabularyError, KeyError, IndexError) as error:
        raise CheckpointError(f"the files are not those of one pair: {error}") from error


def _write(encoder: str, parameters: dict[str, Tensor], out: Path, *, files: dict[str, str]) -> Manifest:
    published = PUBLISHED[encoder]
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in parameters.items()}, out / FILE_NAME)
    manifest = Manifest(
        name=f"{encoder}-similarity",
        version=VERSION,
        sha256=sha256_of(out / FILE_NAME),
        config=json.loads(pair_config(encoder).to_json()),
        threshold=THRESHOLD,
        presence_threshold=THRESHOLD,
        data={"repository": published.repository, "revision": published.revision, "sha256": files},
        recipe={"training": "none here", "map": "cosine of patch and phrase, smoothed"},
        figures={},
    )
    (out / "manifest.json").write_text(f"{json.dumps(asdict(manifest), indent=1)}\n", encoding="utf-8")
    return manifest


def _bytes_of(path: Path) -> Tensor:
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def _md5_of(path: Path) -> str:
    with path.open("rb") as stream:
        # What the authors published; a stronger digest is taken where one is given.
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
