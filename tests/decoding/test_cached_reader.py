"""Causal models that the fast path does not know: read right, or refused."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from genrec.decoding.cached_reader import CachedReader, check_readable
from genrec.errors import ArtifactError

READ = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    ),
    "gpt_neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=32,
        )
    ),
    "mistral with a window that is wide enough": lambda: windowed(20),
}  # fmt: skip
REFUSED = {
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2)
    ),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2)
    ),
    "mistral with a narrow window": lambda: windowed(19),
}


def windowed(window):
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, intermediate_size=32, sliding_window=window,
        )
    )  # fmt: skip


def made(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


@pytest.mark.parametrize("name", READ)
def test_models_whose_beams_see_what_they_should_are_read(name):
    model = made(READ[name]())
    check_readable(model, longest=20)
    assert model.training


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused(name):
    with pytest.raises(ArtifactError, match="which the search cannot read"):
        check_readable(made(REFUSED[name]()), longest=20)


def test_beams_that_see_each_other_are_noticed(monkeypatch):
    """A model that ignores the mask gives states, only not the right ones."""
    monkeypatch.setattr(CachedReader, "_mask", lambda reader, seen: None)
    with pytest.raises(ArtifactError, match="do not see what they should"):
        check_readable(made(READ["gpt2"]()), longest=20)
