"""The decoder for beams against the library's own forward pass."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from genrec.decoding.cached_reader import CachedReader
from genrec.decoding.packed_linear import PackedLinear
from genrec.decoding.prefix_cache import PrefixCache
from genrec.decoding.reusing_reader import ReusingReader
from genrec.decoding.tree_decoder import TreeDecoder, TreeState, supports

SHAPE: Any = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama, every head its keys": lambda: LlamaForCausalLM(
        LlamaConfig(**SHAPE | {"num_key_value_heads": 4, "attention_bias": True})
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=10)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
}


def reusing(model, tokens, real):
    """A reader that knows the prompts but for their last tokens."""
    decoder = TreeDecoder(model)
    cache = PrefixCache(decoder, 2, 2**20)
    prompts = [row[own].numpy() for row, own in zip(tokens, real, strict=True)]
    options = {"pad": 0, "multiple": 1, "beams": 6}
    ReusingReader(decoder, cache, [prompt[:-1] for prompt in prompts], **options).prompt()
    reader = ReusingReader(decoder, cache, prompts, **options)
    assert cache.stats.tokens_reused >= 4
    return reader


READERS = {
    "tree": lambda model, tokens, real: TreeDecoder(model).start(tokens, real, 6),
    "cached": CachedReader,
    "reusing": reusing,
}


def made(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("reader", ["tree", "cached", "reusing"])
@torch.no_grad()
def test_beams_see_the_prompt_and_their_own_path(name, padded, reader):
    """Every beam's hidden state is that of its whole sequence read alone."""
    model = made(name)
    assert supports(model)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 50, (2, 6), generator=generator)
    real = torch.ones(2, 6, dtype=torch.bool)
    if padded:
        real[1, :4] = False
    run = READERS[reader](model, tokens, real)

    def alone(request, path):
        whole = torch.cat([tokens[request][real[request]], torch.tensor(path, dtype=torch.int64)])
        return model.base_model(input_ids=whole.unsqueeze(0)).last_hidden_state[0, -1]

    first = run.prompt()
    for request in range(2):
        torch.testing.assert_close(
            first[request], alone(request, []).to(first), atol=1e-5, rtol=1e-4
        )
    codes = torch.tensor([[3, 7, 9], [1, 2, 3]])
    second = run.beams(codes, 0, torch.eye(3, dtype=torch.bool).expand(2, -1, -1))
    # Of the second level two beams extend the last of the first, one the first of it.
    parents = torch.tensor([[2, 0, 2], [1, 1, 0]])
    more = torch.tensor([[11, 12, 13], [14, 15, 16]])
    above = torch.nn.functional.one_hot(parents, 3).bool()
    seen = torch.cat([above, torch.eye(3, dtype=torch.bool).expand(2, -1, -1)], dim=2)
    third = run.beams(more, 1, seen)
    for request in range(2):
        for beam in range(3):
            one = [int(codes[request, beam])]
            torch.testing.assert_close(
                second[request, beam], alone(request, one), atol=1e-5, rtol=1e-4
            )
            two = [int(codes[request, parents[request, beam]]), int(more[request, beam])]
            torch.testing.assert_close(
                third[request, beam], alone(request, two), atol=1e-5, rtol=1e-4
            )


@torch.no_grad()
def test_in_bfloat16_it_is_as_near_to_float32_as_the_library_is():
    model = made("qwen3")
    tokens = torch.randint(0, 50, (2, 8), generator=torch.Generator().manual_seed(1))
    real = torch.ones_like(tokens, dtype=torch.bool)
    truth = model.base_model(input_ids=tokens).last_hidden_state[:, -1]
    half = model.to(torch.bfloat16)
    theirs = half.base_model(input_ids=tokens).last_hidden_state[:, -1].float()
    ours = TreeDecoder(half).start(tokens, real, 1).prompt().float()
    assert (ours - truth).norm() < 2 * (theirs - truth).norm() + 1e-3


def test_other_blocks_are_left_to_the_library():
    small = GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1, n_positions=32)
    assert not supports(GPT2LMHeadModel(small))
    assert not supports(LlamaForCausalLM(LlamaConfig(**SHAPE | {"hidden_act": "gelu"})))
    assert not supports(MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=4)))
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    assert not supports(Qwen2ForCausalLM(Qwen2Config(**SHAPE, **windows)))


def test_a_model_with_adapters_is_left_to_the_library():
    """Its layers hold more than a weight, which would be lost here."""
    model = made("llama")
    assert supports(model)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert not supports(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biases", [(False, False), (True, False), (True, True)])
def test_joined_layers_give_the_outputs_side_by_side(dtype, biases):
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(16, size, bias=bias) for size, bias in zip((3, 5), biases, strict=True)
    ]
    layers = [layer.to(dtype) for layer in layers]
    x = torch.randn(4, 7, 16).to(dtype)
    with torch.no_grad():
        joined = PackedLinear.joined(*layers)(x)
        want = torch.cat([layer(x) for layer in layers], dim=-1)
    torch.testing.assert_close(joined, want, atol=2e-2 if dtype == torch.bfloat16 else 1e-6, rtol=0)


@torch.no_grad()
def test_a_level_is_one_graph_with_static_shapes():
    """No read of a value on the way: the compiler takes a level whole, or raises."""
    model = made("llama")
    tokens = torch.randint(50, (2, 8))
    real = torch.ones_like(tokens, dtype=torch.bool)
    codes = torch.randint(50, (2, 3))
    seen = torch.eye(3, dtype=torch.bool).expand(2, -1, -1)
    decoder = TreeDecoder(model)
    plain = decoder.start(tokens, real, 3)
    plain.prompt()
    wanted = plain.beams(codes, 0, seen)
    compiled = torch.compile(TreeState.beams, fullgraph=True, dynamic=False, backend="eager")
    state = decoder.start(tokens, real, 3)
    state.prompt()
    torch.testing.assert_close(compiled(state, codes, 0, seen), wanted)
