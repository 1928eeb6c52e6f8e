"""A site's encoders inside the grounding network: chosen by configuration, frozen or trained with the rest."""

from __future__ import annotations

from dataclasses import replace

import checkpoints
import pytest
import torch

from model.config import Config
from model.encoders.loading import fill
from model.encoders.names import ours
from model.encoders.text import BertShape, CxrBertEncoder
from model.network import GroundingNetwork, seeded_network
from model.values import Query
from model.words import tokens_of

TINY = Config(size=64, widths=(8, 8, 8, 8, 8), pyramid=8, embedding=8, buckets=128, image_encoder="biovil")
ASKED = (Query("Right pleural effusion.", "pleural effusion", "right"), Query("Épaississement", "pleural thickening"))


def spelt(config, queries=ASKED):
    rows = [tokens_of(query, config) for query in queries]
    starts = [sum(map(len, rows[:number])) for number in range(len(rows))]
    return torch.tensor([token for row in rows for token in row]), torch.tensor(starts)


def answer(network, config):
    encoded = network.encode(torch.rand((2, 1, config.size, config.size), generator=torch.Generator().manual_seed(4)))
    return network.locate(encoded, network.phrase(*spelt(config)), torch.tensor([0, 1]))


@pytest.mark.parametrize("encoder", ["biovil", "biovil-t"])
def test_a_sites_image_encoder_gives_what_the_small_one_gives(encoder):
    config = replace(TINY, image_encoder=encoder)
    pictures = torch.rand(2, 1, 64, 64)

    features = seeded_network(config, 1).encode(pictures).features

    small = seeded_network(replace(TINY, image_encoder="small"), 1).encode(pictures).features
    for name in ("fine", "middle", "coarse", "whole"):
        assert getattr(features, name).shape == getattr(small, name).shape


def trained_a_step(config, *, seed=1):
    network = seeded_network(config, seed)
    fill(network.image.published, ours(checkpoints.biovil(), "biovil"), name="biovil")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learnt, 0.1)
    logits, presence = answer(network, config)
    (logits.square().mean() + presence.square().mean()).backward()
    optimiser.step()
    after = network.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_a_frozen_trunk_keeps_every_number_while_the_rest_is_trained():
    changed = trained_a_step(TINY)

    assert not [name for name in changed if name.startswith("image.published.")]
    assert {"image.lateral.0.weight", "image.stem.weight", "decoder.film.weight"} <= changed


def test_a_trunk_that_is_not_frozen_is_trained_with_the_rest():
    changed = trained_a_step(replace(TINY, frozen=False))

    assert {"image.published.trunk.conv1.weight", "image.published.trunk.bn1.running_mean"} <= changed


def test_a_sites_phrase_encoder_reads_the_phrase_itself():
    config = replace(TINY, image_encoder="small", text_encoder="cxr-bert")

    assert bytes(tokens_of(ASKED[1], config)).decode() == ASKED[1].text


@pytest.mark.parametrize("wrong", [{"image_encoder": "vgg"}, {"text_encoder": "word2vec"}])
def test_an_encoder_that_does_not_exist_is_told(wrong):
    with pytest.raises(ValueError, match=r"is one of small, .*, not"):
        Config(**wrong)


def test_the_configuration_of_older_weights_names_the_small_encoders():
    assert Config.from_json('{"widths": [16, 32, 64, 128, 192]}') == Config()


def test_a_network_with_a_sites_text_encoder_is_stored_with_its_vocabulary_and_answers_the_same():
    config = replace(TINY, image_encoder="small", text_encoder="cxr-bert")
    tiny = BertShape(words=60, hidden=64, inner=64, layers=1)
    network, again = (seeded_network(replace(config, text_encoder="small"), seed) for seed in (1, 2))
    network.phrase, again.phrase = CxrBertEncoder(config, tiny), CxrBertEncoder(config, tiny)
    network.phrase.published.read_vocabulary(checkpoints.vocabulary(60))

    again.load_state_dict(network.eval().state_dict())

    with torch.inference_mode():
        expected, answered = answer(network, config), answer(again.eval(), config)
        nothing = again.phrase(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert torch.equal(answered[0], expected[0])
    assert torch.equal(answered[1], expected[1])
    assert nothing.shape == (0, 8)
    assert not any(parameter.requires_grad for parameter in network.phrase.published.parameters())
    assert not network.train().phrase.published.training


def test_the_configuration_chooses_bert_base_for_phrases():
    with torch.device("meta"):
        network = GroundingNetwork(replace(TINY, image_encoder="small", text_encoder="cxr-bert"))

    assert network.phrase.published.text.bert.embeddings.word_embeddings.weight.shape == (30_522, 768)
