"""Histories that are reused: the same lists as without, whoever asked before."""

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from genrec.decoding.prefix_cache import PrefixCache
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.reusing_reader import ReusingReader, _parts
from genrec.decoding.rules import Bound, RowRules
from genrec.decoding.tree_decoder import TreeDecoder
from genrec.errors import RequestError
from tests.decoding.test_language_model_scorer import ITEMS, generative

ROOM = 2**20


def rows(*items):
    return np.asarray(items, dtype=np.int32)


def prompts_of(model, histories):
    return model.prompts.encode(histories, model.vocabulary.tokens(model.index.codes))


def assert_same(ranker, other, histories, k=5, **options):
    """Both give the same lists."""
    pairs = zip(
        ranker.rank(histories, k, **options), other.rank(histories, k, **options), strict=True
    )
    for one, two in pairs:
        assert one.items.tolist() == two.items.tolist()
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)


def some_rules(random):
    """Rules of one request; one in four has a bound, for which the search is asked again."""
    groups = np.arange(ITEMS) % 4
    return RowRules(
        excluded=np.flatnonzero(random.random(ITEMS) < 0.2),
        boosts={int(random.integers(ITEMS)): 0.5} if random.random() < 0.5 else {},
        bounds=(Bound(groups, 2),) if random.random() < 0.25 else (),
    )


@pytest.mark.parametrize("form", ["stream", "instruction"])
@pytest.mark.parametrize("room", [ROOM, 60, 7], ids=["roomy", "few", "less than a prompt"])
def test_answers_do_not_depend_on_who_asked_before(form, room):
    """Random users come back with more items, sometimes others, alone or together, with rules."""
    model, random = generative(form), np.random.default_rng(3)
    plain = GenerativeRanker(model, beam=6, batch_size=4)
    block = model.index.levels + len(model.prompts.between)
    one = PrefixCache(TreeDecoder(model.language_model), block, ROOM).block_bytes
    limit = ROOM if room == ROOM else room * one
    ranker = GenerativeRanker(model, beam=6, batch_size=4, prefix_cache_bytes=limit)
    users = [rows() for _ in range(8)]
    for _ in range(60):
        asked = random.integers(0, len(users), random.integers(1, 7)).tolist()
        for user in set(asked):
            if random.random() < 0.2:
                users[user] = users[user][: random.integers(0, 3)]
            more = random.integers(0, ITEMS, random.integers(0, 3))
            users[user] = np.append(users[user], more).astype(np.int32)
        histories = [users[user] for user in asked]
        rules = [some_rules(random) for _ in histories] if random.random() < 0.5 else None
        before = ranker.prefix_cache_stats
        assert_same(ranker, plain, histories, int(random.integers(1, 9)), rules=rules)
        after = ranker.prefix_cache_stats
        assert after.bytes_used <= limit
        if rules is None:
            read, reused = (
                after.tokens_read - before.tokens_read,
                after.tokens_reused - before.tokens_reused,
            )
            assert read + reused == sum(map(len, prompts_of(model, histories)))
    assert after.hits > (5 if room == 7 else 60)
    # All but the slot of zeros is in use where there was too little room.
    assert (after.bytes_used == (limit // one - 1) * one) == (room != ROOM)


def test_what_is_kept_is_what_the_library_makes_of_the_prompt():
    """Blocks come back in order, from a cache into which other prompts were put meanwhile."""
    model = generative()
    decoder = TreeDecoder(model.language_model)
    cache = PrefixCache(decoder, 3, ROOM)
    grown = [rows(5, 1, 9), rows(2, 2), rows(5, 1, 9, 4), rows(5, 7), rows(5, 1, 9, 4, 8)]
    for prompt in prompts_of(model, grown):
        ReusingReader(decoder, cache, [prompt], pad=0, multiple=1, beams=1).prompt()
    [prompt] = prompts_of(model, grown[-1:])
    slots = cache.find(prompt)
    assert len(slots) == 5
    shape = (len(decoder.layers), 1, decoder.key_heads, 18, decoder.head_size)
    keys, values = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    cache.load([slots], keys, values)
    theirs = DynamicCache()
    with torch.no_grad():
        tokens = torch.from_numpy(prompt).unsqueeze(0)
        model.language_model(input_ids=tokens, past_key_values=theirs, use_cache=True)
    # One block more than is known was asked for: the first one is of zeros.
    assert not keys[:, :, :, :3].any() and not values[:, :, :, :3].any()
    for number, layer in enumerate(theirs.layers):
        torch.testing.assert_close(keys[number, :, :, 3:], layer.keys[:, :, :15], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            values[number, :, :, 3:], layer.values[:, :, :15], atol=1e-5, rtol=0
        )


def watched(model):
    """Return the shapes of all tokens that a model is given from now on."""
    shapes = []
    model.language_model.base_model.embed_tokens.register_forward_hook(
        lambda module, given, output: shapes.append(tuple(given[0].shape))
    )
    return shapes


def test_only_new_tokens_are_read():
    """A prompt of 1 + 3 x 7 tokens after one of 1 + 3 x 6: six blocks are known, four are left."""
    model = generative()
    ranker = GenerativeRanker(model, beam=4, prefix_cache_bytes=ROOM)
    shapes = watched(model)
    ranker.rank([rows(*range(6))], 3)
    ranker.rank([rows(*range(7))], 3)
    beams = [(1, 4), (1, 4)]
    # Widths are rounded up to multiples of 4 x 3.
    assert shapes == [(1, 24), *beams, (1, 12), *beams]
    stats = ranker.prefix_cache_stats
    assert (stats.prompts, stats.hits) == (2, 1)
    assert (stats.tokens_read, stats.tokens_reused) == (19 + 4, 18)


def test_a_batch_is_read_in_two_parts_where_some_are_known():
    model = generative()
    ranker = GenerativeRanker(model, beam=4, prefix_cache_bytes=ROOM)
    known = [rows(*range(start, start + 7)) for start in range(6)]
    ranker.rank(known, 3)
    shapes = watched(model)
    grown = [np.append(each, 29).astype(np.int32) for each in known]
    asked = [*grown[:3], rows(*range(20, 28)), *grown[3:]]
    assert_same(ranker, GenerativeRanker(model, beam=4), asked)
    # Widths are rounded up to multiples of 4 x 3; the plain ranker reads all seven prompts whole.
    assert shapes[:2] == [(6, 12), (1, 36)]
    assert (7, 36) in shapes


def test_parts_are_made_where_they_halve_what_is_read():
    assert _parts([4, 4, 128, 4], 4) == [[0, 1, 3], [2]]
    assert _parts([128, 128, 128, 4], 4) == [[0, 1, 2, 3]]
    assert _parts([60, 64, 50], 4) == [[0, 1, 2]]
    assert _parts([7], 4) == [[0]]


def test_equal_beginnings_are_kept_once():
    """Of 1 + 3 x 4 tokens four blocks of three are whole; the last history shares two of them."""
    model = generative()
    ranker = GenerativeRanker(model, beam=4, prefix_cache_bytes=ROOM)
    block = 2 * 2 * 2 * 3 * 8 * 4  # keys and values, layers, heads, tokens, head size, float32
    ranker.rank([rows(1, 2, 3, 4), rows(1, 2, 3, 4)], 3)
    assert ranker.prefix_cache_stats.bytes_used == 4 * block
    ranker.rank([rows(1, 2, 3, 4), rows(1, 2, 9, 9)], 3)
    assert ranker.prefix_cache_stats.bytes_used == (4 + 2) * block


def test_the_longest_unused_goes_first_and_ends_go_before_beginnings():
    model = generative()
    decoder = TreeDecoder(model.language_model)
    cache = PrefixCache(decoder, 3, ROOM)
    small = PrefixCache(decoder, 3, (6 + 1) * cache.block_bytes)
    first, second, third = prompts_of(model, [rows(1, 2, 3), rows(4, 5, 6), rows(7, 8)])

    def read(prompt):
        ReusingReader(decoder, small, [prompt], pad=0, multiple=1, beams=1).prompt()

    def known(prompt):
        return len(small.find(np.append(prompt, 0)))

    for prompt in (first, second, first, third):
        read(prompt)
    # Room for six blocks; of the second, which was used longest ago, the last two made way.
    assert len(small._blocks) == 6
    assert [known(prompt) for prompt in (first, third, second)] == [3, 2, 1]


def test_a_block_whose_beginning_is_gone_is_not_kept():
    """Another thread may take the room of what was found before the rest is read."""
    model = generative()
    cache = PrefixCache(TreeDecoder(model.language_model), 3, ROOM)
    [prompt] = prompts_of(model, [rows(1, 2, 3)])
    nothing = torch.zeros(2, 2, 4, 8)
    cache.keep(prompt, 2, nothing, nothing)
    assert cache.stats.bytes_used == 0


def test_a_prompt_that_could_not_be_stored_is_not_known(monkeypatch):
    model = generative()
    ranker = GenerativeRanker(model, beam=4, prefix_cache_bytes=ROOM)
    history = [rows(1, 2, 3, 4, 5)]

    def fails(*arguments):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(PrefixCache, "_store", fails)
        with pytest.raises(MemoryError):
            ranker.rank(history, 3)
    assert ranker.prefix_cache_stats.bytes_used == 0
    for _ in range(2):
        assert_same(ranker, GenerativeRanker(model, beam=4), history)
    assert ranker.prefix_cache_stats.hits == 1


def test_another_model_knows_nothing_of_what_was_read():
    model, other = generative(), generative()
    for parameter in other.language_model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    history = [rows(1, 2, 3, 4, 5)]
    GenerativeRanker(model, prefix_cache_bytes=ROOM).rank(history, 3)
    ranker = GenerativeRanker(other, prefix_cache_bytes=ROOM)
    assert_same(ranker, GenerativeRanker(other), history)
    assert ranker.prefix_cache_stats.hits == 0


def test_threads_may_share_a_ranker():
    """Each follows its own users through a cache that is too small for all of them."""
    model = generative()
    plain = GenerativeRanker(model, beam=4)
    ranker = GenerativeRanker(model, beam=4, prefix_cache_bytes=2**15)
    wrong = []

    def follow(seed):
        random = np.random.default_rng(seed)
        for _ in range(4):
            items = random.integers(0, ITEMS, 8).astype(np.int32)
            for length in range(3, 9):
                try:
                    assert_same(ranker, plain, [items[:length], items[: length - 1]])
                except AssertionError as error:
                    wrong.append(error)

    threads = [threading.Thread(target=follow, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert ranker.prefix_cache_stats.hits > 40


def test_in_bfloat16_it_is_as_near_to_float32_as_reading_all_is():
    """Eight visits, each of which goes on from what the one before it left."""
    model = generative()
    history = rows(5, 1, 9, 4, 8, 2, 7, 3)
    prompts = prompts_of(model, [history[:length] for length in range(1, 9)])
    whole = torch.from_numpy(prompts[-1]).unsqueeze(0)
    real = torch.ones_like(whole, dtype=torch.bool)
    with torch.no_grad():
        truth = model.language_model.base_model(input_ids=whole).last_hidden_state[:, -1]
        decoder = TreeDecoder(model.language_model.to(torch.bfloat16))
        cache = PrefixCache(decoder, 3, ROOM)
        for prompt in prompts:
            reader = ReusingReader(decoder, cache, [prompt], pad=0, multiple=1, beams=1)
            reused = reader.prompt().float()
        fresh = decoder.start(whole, real, 1).prompt().float()
    assert cache.stats.hits == 7
    assert (reused - truth).norm() < 2 * (fresh - truth).norm() + 1e-3


def test_a_cut_history_is_read_anew_and_a_repeated_one_is_not():
    """Eight items are read at most; with a ninth the prompt begins with another item."""
    ranker = GenerativeRanker(generative(), beam=4, prefix_cache_bytes=ROOM)
    hits = []
    for length in (8, 9, 9):
        ranker.rank([rows(*range(length))], 3)
        hits.append(ranker.prefix_cache_stats.hits)
    assert [after - before for before, after in pairwise([0, *hits])] == [0, 0, 1]


@pytest.mark.parametrize(("limit", "words"), [(1, "room for two"), (-1, "must be 0 or more")])
def test_a_limit_that_holds_nothing_is_refused(limit, words):
    with pytest.raises(RequestError, match=words):
        GenerativeRanker(generative(), prefix_cache_bytes=limit)


def test_a_model_that_is_left_to_the_library_reads_all(monkeypatch):
    model = generative()
    plain = GenerativeRanker(model, beam=4)
    monkeypatch.setattr("genrec.decoding.engine.supports", lambda model: False)
    ranker = GenerativeRanker(model, beam=4, prefix_cache_bytes=ROOM)
    assert ranker.prefix_cache_stats is None
    assert_same(ranker, plain, [rows(1, 2, 3)])


def test_keys_that_change_with_the_length_are_not_reused():
    """Dynamic rotary scaling turns all keys anew once a sequence is longer than its maximum."""
    shape = {"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    kinds = {"default": True, "linear": True, "dynamic": False}
    for kind, reusable in kinds.items():
        rope = {"rope_type": kind, "rope_theta": 10_000.0, "factor": 2.0}
        config = LlamaConfig(**shape, intermediate_size=8, rope_parameters=rope)
        assert TreeDecoder(LlamaForCausalLM(config).eval()).reusable is reusable
