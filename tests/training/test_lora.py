"""Adapters with trained code rows, and a merge that changes nothing."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from genrec.errors import ConfigError
from genrec.model.code_head import CodeHead
from genrec.semantic_ids.vocabulary import SidVocabulary
from genrec.training.lora import add_lora, merge

WORDS, SIZES = 20, (5, 3)


def tiny(tied):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS + sum(SIZES),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=tied,
        )
    )


def trained(tied):
    """A wrapped model after a few steps on random sequences, and its vocabulary."""
    vocabulary = SidVocabulary(SIZES, WORDS)
    model = tiny(tied)
    before = copy.deepcopy(model.state_dict())
    wrapped = add_lora(model, vocabulary, rank=2, alpha=4, dropout=0.0, targets="all-linear")
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        tokens = torch.randint(0, WORDS + sum(SIZES), (4, 6), generator=generator)
        wrapped(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return wrapped.eval(), vocabulary, before


@pytest.mark.parametrize("tied", [True, False])
def test_merged_logits_equal_the_adapters(tied):
    wrapped, _, _ = trained(tied)
    tokens = torch.arange(WORDS + sum(SIZES)).view(4, 7)
    with torch.no_grad():
        want = wrapped(input_ids=tokens).logits
        got = merge(wrapped)(input_ids=tokens).logits
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_only_code_rows_of_the_embeddings_move(tied):
    wrapped, _, before = trained(tied)
    merged = merge(wrapped)
    after = merged.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        moved = (after[name] != before[name]).any(dim=1)
        assert moved[WORDS:].all()
        assert not moved[:WORDS].any()
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("tied", [True, False])
def test_code_head_is_a_slice_of_the_full_head(tied):
    wrapped, vocabulary, _ = trained(tied)
    head = CodeHead(wrapped.get_base_model(), vocabulary)
    tokens = torch.arange(7).unsqueeze(0)
    with torch.no_grad():
        hidden = wrapped.get_base_model().model(input_ids=tokens).last_hidden_state
        full = wrapped(input_ids=tokens).logits
        for level in range(2):
            codes = vocabulary.level_range(level)
            torch.testing.assert_close(
                head.logits(hidden, level), full[..., codes.start : codes.stop]
            )


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_through_a_folder(tied, tmp_path):
    wrapped, _, _ = trained(tied)
    tokens = torch.arange(7).unsqueeze(0)
    with torch.no_grad():
        want = wrapped(input_ids=tokens).logits
    merge(wrapped).save_pretrained(tmp_path)
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=tokens).logits, want, atol=1e-5, rtol=1e-5)


def test_unknown_layer_names_are_refused():
    with pytest.raises(ConfigError, match="train.lora.targets"):
        add_lora(
            tiny(True),
            SidVocabulary(SIZES, WORDS),
            rank=2,
            alpha=4,
            dropout=0.0,
            targets=["no_such_layer"],
        )
