"""Soft tokens against embeddings put together by hand and read by transformers' own forward."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from genrec.decoding.cached_reader import CachedReader
from genrec.decoding.prefix_cache import PrefixCache
from genrec.decoding.reusing_reader import ReusingReader
from genrec.decoding.tree_decoder import TreeDecoder
from genrec.errors import ConfigError, DataError, RequestError
from genrec.model.soft_tokens import SoftRegistry, SoftTable, SoftTokens
from genrec.semantic_ids.vocabulary import SidVocabulary
from genrec.training.lora import add_lora, merge

WORDS, HIDDEN, ITEMS, WIDTH = 20, 16, 5, 3
RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(ITEMS, WIDTH)).astype(np.float32)
USERS = RANDOM.normal(size=(2, 4)).astype(np.float32)


def language_model(tied=True):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=HIDDEN,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    ).eval()


def soft_tokens(beside=None):
    torch.manual_seed(1)
    return SoftTokens(
        WORDS,
        {
            "items": SoftTable(VECTORS, nn.Linear(WIDTH, HIDDEN), beside),
            "users": SoftRegistry(4, nn.Linear(4, HIDDEN)),
        },
    )


def by_hand(model, soft, parts):
    """Put embeddings together: a part is a word, ("item", row), ("user", row) or a list of these
    that lie on each other."""

    def one(part):
        if isinstance(part, list):
            return sum(one(each) for each in part)
        if isinstance(part, tuple):
            kind, row = part
            vectors = VECTORS if kind == "item" else USERS
            layer = soft.source(f"{kind}s").projection
            return nn.functional.linear(torch.from_numpy(vectors[row]), layer.weight, layer.bias)
        return model.get_input_embeddings().weight[part]

    return torch.stack([one(part) for part in parts]).unsqueeze(0)


@pytest.mark.parametrize("tied", [True, False])
def test_soft_ids_are_read_like_embeddings_put_together_by_hand(tied):
    model, soft = language_model(tied), soft_tokens()
    inputs = by_hand(model, soft, [1, ("item", 4), 7, ("user", 1), ("item", 0)])
    expected = model(inputs_embeds=inputs).logits
    written = model.generate(inputs_embeds=inputs, max_new_tokens=4, do_sample=False)
    soft.attach(model)
    user = soft.register("users", USERS)[1]
    items = soft.ids("items", np.asarray([4, 0]))
    tokens = torch.tensor([[1, items[0], 7, user, items[1]]])
    torch.testing.assert_close(model(input_ids=tokens).logits, expected)
    assert expected.shape[-1] == WORDS
    found = model.generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=4, do_sample=False
    )
    assert found[0, 5:].tolist() == written[0].tolist()
    padded = torch.cat([torch.zeros(1, 2, dtype=torch.int64), tokens], 1)
    real = torch.tensor([[False] * 2 + [True] * 5])
    states = model.base_model(inputs_embeds=inputs).last_hidden_state[:, -1]
    for reader in (CachedReader(model, padded, real), TreeDecoder(model).start(padded, real, 2)):
        torch.testing.assert_close(reader.prompt(), states, rtol=1e-4, atol=1e-5)


def test_a_soft_token_on_another_token_is_their_sum():
    beside = np.asarray([3, 4, 5, 6, 7])
    model, soft = language_model(), soft_tokens(beside)
    inputs = by_hand(
        model, soft, [1, [3, ("item", 0)], [6, ("item", 3), ("user", 1)], [2, ("user", 0)]]
    )
    soft.attach(model)
    item = soft.ids("items", np.asarray([0, 3]))
    first = soft.register("users", USERS[1:], np.asarray([item[1]]))[0]
    second = soft.register("users", USERS[:1], np.asarray([2]))[0]
    tokens = torch.tensor([[1, item[0], first, second]])
    torch.testing.assert_close(model(input_ids=tokens).logits, model(inputs_embeds=inputs).logits)


def test_adapters_train_with_soft_tokens_and_merge_to_the_same(tmp_path):
    model, soft = language_model(), soft_tokens(np.arange(15, 20))
    vocabulary = SidVocabulary((3, 2), 15)
    wrapped = add_lora(model, vocabulary, rank=2, alpha=4, dropout=0.0, targets="all-linear")
    soft.attach(model)
    names = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    assert sum("soft_tokens" in name for name in names) == 4
    user = soft.register("users", USERS)[0]
    tokens = torch.tensor([[1, 16, *soft.ids("items", np.asarray([2, 0])), user, 17]])
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.1)
    before = [layer.weight.detach().clone() for layer in _projections(soft)]
    for _ in range(3):
        logits = wrapped(input_ids=tokens).logits[0, :-1, 15:]
        nn.functional.cross_entropy(logits, torch.tensor([1, 0, 4, 2, 3])).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(
        not torch.equal(old, layer.weight)
        for old, layer in zip(before, _projections(soft), strict=True)
    )
    with torch.no_grad():
        expected = wrapped(input_ids=tokens).logits
    soft.detach_from(model)
    merged = merge(wrapped)
    merged.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "soft" in name]
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    for each in (merged, again):
        soft.attach(each)
        with torch.no_grad():
            torch.testing.assert_close(each(input_ids=tokens).logits, expected)
        soft.detach_from(each)


def _projections(soft):
    return [source.projection for source in soft.sources]


def test_the_prefix_cache_never_takes_one_user_for_another():
    model, soft = language_model(), soft_tokens()
    soft.attach(model)
    cache = PrefixCache(TreeDecoder(model), 2, 2**20)
    for user in (0, 1, 0):
        own = soft.register("users", USERS[user : user + 1])[0]
        prompt = np.asarray([own, 1, 2, 3, 4])
        reader = ReusingReader(TreeDecoder(model), cache, [prompt], pad=0, multiple=2, beams=2)
        with torch.no_grad():
            found = reader.prompt()
            inputs = by_hand(model, soft, [("user", user), 1, 2, 3, 4])
            expected = model.base_model(inputs_embeds=inputs).last_hidden_state[:, -1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # The second user shares nothing with the first; the third request is the first one again.
    assert (cache.stats.hits, cache.stats.tokens_reused) == (1, 4)


def test_numbers_of_a_registry_are_never_used_again():
    registry = SoftRegistry(1, nn.Identity(), kept=2)

    def vectors(*values):
        return np.asarray(values, dtype=np.float32)[:, None]

    assert registry.register(vectors(5, 6, 5)).tolist() == [0, 1, 0]
    # Three at once are more than it keeps; all of a call are kept.
    assert registry.register(vectors(7, 8, 6)).tolist() == [2, 3, 1]
    found, beside = registry.look_up(torch.tensor([2, 1, 3]))
    assert found[:, 0].tolist() == [7, 6, 8]
    assert beside.tolist() == [-1, -1, -1]
    assert registry.register(vectors(5)).tolist() == [4]
    with pytest.raises(RequestError, match="soft token 2 is not kept"):
        registry.look_up(torch.tensor([2]))


def test_clear_errors():
    model, soft = language_model(), soft_tokens()
    with pytest.raises(DataError, match="finite"):
        SoftTable(np.full((2, 3), np.nan, dtype=np.float32), nn.Identity())
    with pytest.raises(DataError, match="one token for each"):
        SoftTable(VECTORS, nn.Identity(), np.asarray([1]))
    with pytest.raises(DataError, match=r"\[m, 4\]"):
        soft.register("users", VECTORS)
    with pytest.raises(ConfigError, match="come last"):
        SoftTokens(
            WORDS,
            {"users": SoftRegistry(4, nn.Identity()), "items": SoftTable(VECTORS, nn.Identity())},
        )
    with pytest.raises(ConfigError, match="20 words"):
        SoftTokens(19, {}).attach(model)
    soft.attach(model)
    with pytest.raises(ConfigError, match="attached already"):
        soft_tokens().attach(model)
    with soft.detached_from(model):
        assert not hasattr(model, "soft_tokens")
        assert "forward" not in vars(model.get_input_embeddings())
    assert model.soft_tokens is soft
