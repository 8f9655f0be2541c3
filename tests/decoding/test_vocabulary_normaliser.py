"""The sum over a vocabulary against doubles, also where exponentials leave float32."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from genrec.decoding import vocabulary_normaliser
from genrec.decoding.vocabulary_normaliser import VocabularyNormaliser


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=False,
        )
    )  # fmt: skip


@pytest.mark.parametrize("largest", [1.0, 30.0, 60.0, 150.0, 1000.0])
@pytest.mark.parametrize("sign", [1, -1])
@torch.no_grad()
def test_equals_doubles(model, monkeypatch, largest, sign):
    """With all logits shifted by a large number, up or down, and in one row of two."""
    monkeypatch.setattr(vocabulary_normaliser, "WORDS_AT_ONCE", 64)
    layer = model.get_output_embeddings()
    torch.nn.init.normal_(layer.weight, std=0.3)
    layer.weight[:, 0] = sign
    hidden = torch.randn(2, 3, 16)
    hidden[:, :, 0] = 0.5
    hidden[1, :, 0] = largest
    found = VocabularyNormaliser(model)(hidden)
    wanted = torch.logsumexp(hidden.double() @ layer.weight.double().T, -1, keepdim=True)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)


@torch.no_grad()
def test_capped_logits_are_summed_capped(model):
    hidden = 100 * torch.randn(4, 16)
    logits = hidden.double() @ model.get_output_embeddings().weight.double().T
    found = VocabularyNormaliser(model, softcap=5.0)(hidden)
    wanted = torch.logsumexp(5 * torch.tanh(logits / 5), -1, keepdim=True)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)
