"""CXR-BERT (Boecking et al. 2022, arXiv:2204.09817): a phrase as a vector of the space that BioViL's patches lie in.

Plain ``BertModel`` and a projection of its first token; the published code of its own is not needed, nor is its head
for guessing masked words. P phrases of at most L word pieces.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)
from transformers import BertConfig, BertModel

from model.config import Config
from model.encoders.biovil import JOINT

HEAD = 64  # dimensions of an attention head, in every published size of BERT
LONGEST = 512
UNKNOWN = "[UNK]"


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes of a BERT; the defaults are those of CXR-BERT."""

    words: int = 30_522
    hidden: int = 768
    inner: int = 3072
    layers: int = 12
    joint: int = JOINT


class VocabularyError(ValueError):
    """The list of word pieces is missing or not one of BERT's."""


class CxrBert(nn.Module):
    """*Shape:* word pieces (P, L), mask (P, L) -> (P, 128), of length 1."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=shape.words,
            hidden_size=shape.hidden,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.hidden // HEAD,
            max_position_embeddings=LONGEST,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = nn.Sequential(
            nn.Linear(shape.hidden, shape.joint),
            nn.GELU(),
            nn.LayerNorm(shape.joint, eps=1e-12),
            nn.Linear(shape.joint, shape.joint),
        )

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Apply."""
        hidden = self.bert(input_ids=pieces, attention_mask=mask).last_hidden_state
        return F.normalize(self.head(hidden[:, 0]), dim=1)


def shape_of(parameters: dict[str, Tensor]) -> BertShape:
    """The sizes of a checkpoint, by our names.

    Raises
    ------
    KeyError
        If a parameter is missing.
    """
    words, hidden = parameters["bert.embeddings.word_embeddings.weight"].shape
    layers = {name.split(".")[3] for name in parameters if name.startswith("bert.encoder.layer.")}
    return BertShape(
        words=words,
        hidden=hidden,
        inner=len(parameters["bert.encoder.layer.0.intermediate.dense.weight"]),
        layers=len(layers),
        joint=len(parameters["head.3.weight"]),
    )


def tokenizer_of(vocabulary: str) -> Tokenizer:
    """WordPiece in lower case, as CXR-BERT was trained with.

    Parameters
    ----------
    vocabulary : text of ``vocab.txt``: one piece per line, the line's number is the token.

    Raises
    ------
    VocabularyError
        If one of BERT's own marks is not in the list.
    """
    numbers = {piece: number for number, piece in enumerate(vocabulary.splitlines())}
    missing = [mark for mark in ("[PAD]", UNKNOWN, "[CLS]", "[SEP]") if mark not in numbers]
    if missing:
        raise VocabularyError(f"the vocabulary has no {', '.join(missing)}; expected vocab.txt of CXR-BERT")
    tokenizer = Tokenizer(WordPiece(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"]))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(pad_id=numbers["[PAD]"])
    return tokenizer


class CxrBertReader(nn.Module):
    """CXR-BERT with its list of word pieces, which travels with the weights.

    *Shape:* tokens (T,) UTF-8 bytes of all phrases, offsets (P,) the start of each -> (P, 128), of length 1.
    """

    def __init__(self, shape: BertShape | None = None) -> None:
        super().__init__()
        self.text = CxrBert(shape or BertShape())
        self._vocabulary = ""
        self._tokenizer: Tokenizer | None = None

    def read_vocabulary(self, vocabulary: str) -> None:
        """Take over the text of ``vocab.txt``.

        Raises
        ------
        VocabularyError
            If it is not a list of BERT's, or not as long as the table of this network.
        """
        pieces, rows = len(vocabulary.splitlines()), self.text.bert.config.vocab_size
        if pieces != rows:
            raise VocabularyError(f"the vocabulary has {pieces} pieces where the checkpoint has {rows}")
        self._tokenizer = tokenizer_of(vocabulary)
        self._vocabulary = vocabulary

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Encode P phrases, given as one flat list of bytes and the start of each phrase in it."""
        if self._tokenizer is None:
            raise VocabularyError("no vocabulary has been read; load the weights that it belongs to")
        like = next(self.text.parameters())
        if not len(offsets):
            return like.new_zeros(0, JOINT)
        encodings = self._tokenizer.encode_batch(phrases_of(tokens, offsets))
        pieces = torch.tensor([each.ids for each in encodings], device=like.device)
        mask = torch.tensor([each.attention_mask for each in encodings], device=like.device)
        vectors: Tensor = self.text(pieces, mask)
        return vectors

    def get_extra_state(self) -> Tensor:
        """The vocabulary as bytes, which goes where the weights go."""
        return torch.tensor(list(self._vocabulary.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Read the vocabulary that came with the weights, if one did."""
        if len(state):
            self.read_vocabulary(bytes(state.tolist()).decode())


def phrases_of(tokens: Tensor, offsets: Tensor) -> list[str]:
    """The P phrases that the bytes spell."""
    spelt = bytes(tokens.tolist())
    ends = [*offsets.tolist()[1:], len(spelt)]
    return [spelt[start:end].decode() for start, end in zip(offsets.tolist(), ends, strict=True)]


class CxrBertEncoder(nn.Module):
    """A site's CXR-BERT as the phrase encoder of the grounding network.

    *Shape:* tokens (T,) UTF-8 bytes, offsets (P,) -> (P, embedding).
    """

    def __init__(self, config: Config, shape: BertShape | None = None) -> None:
        super().__init__()
        self.frozen = config.frozen
        self.published = CxrBertReader(shape)
        if self.frozen:
            self.published.requires_grad_(requires_grad=False)
        self.mix = nn.Sequential(nn.Linear(JOINT, config.embedding), nn.LayerNorm(config.embedding))

    def train(self, mode: bool = True) -> Self:
        """As every module, but what is frozen goes on as it is."""
        super().train(mode)
        if self.frozen:
            self.published.eval()
        return self

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Encode P phrases."""
        with torch.no_grad() if self.frozen else nullcontext():
            vectors = self.published(tokens, offsets)
        phrases: Tensor = self.mix(vectors)
        return phrases
