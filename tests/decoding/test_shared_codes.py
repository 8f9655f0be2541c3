"""Trie, exclusions and beam search where items share their codes, against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding.beam import Wishes, beam_search
from genrec.decoding.rules import BatchRules, RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.errors import DataError
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.table_scorer import TableScorer, brute_force

CPU = torch.device("cpu")


@st.composite
def worlds(draw):
    """An index with crowded tuples, counts with ties, and what two requests exclude."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    n = draw(st.integers(1, 50))
    seed = draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    used = np.minimum(sizes, draw(st.integers(1, 3)))
    codes = generator.integers(0, used, size=(n, len(sizes))).astype(np.int32)
    counts = generator.integers(0, draw(st.sampled_from([1, 3, 1000])), size=n)
    share = draw(st.floats(0, 1))
    excluded = [np.flatnonzero(generator.random(n) < share).astype(np.int32) for _ in range(2)]
    return ItemIndex(codes, sizes, {}, shared=True), counts, excluded, seed


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_a_wide_beam_equals_brute_force(world):
    index, counts, excluded, seed = world
    trie = PrefixTrie.from_index(index, counts)
    exclusions = BatchRules(trie, [RowRules(excluded=out) for out in excluded])
    scorer = TableScorer(index.level_sizes, 2, seed)
    rows, scores = beam_search(trie, scorer, len(index), Wishes(exclusions))
    for request in range(2):
        want, pairs = brute_force(index, scorer, request, set(excluded[request].tolist()), counts)
        assert [row for row in rows[request].tolist() if row >= 0] == want
        found = scores[request][: len(want)].numpy()
        np.testing.assert_allclose(found, [score for score, _ in pairs], rtol=1e-4)
        by_tuple = {}
        for row, score in zip(want, found.tolist(), strict=True):
            assert by_tuple.setdefault(index.codes_of(row), score) == score


@settings(max_examples=200, deadline=None)
@given(worlds(), st.integers(1, 12), st.booleans())
def test_any_beam_returns_as_many_items_as_it_may(world, width, excluding):
    """None excluded, none twice, min(width, eligible) of them, in the order of popularity."""
    index, counts, excluded, seed = world
    trie = PrefixTrie.from_index(index, counts)
    exclusions = (
        BatchRules(trie, [RowRules(excluded=out) for out in excluded]) if excluding else None
    )
    rows, scores = beam_search(
        trie, TableScorer(index.level_sizes, 2, seed), width, Wishes(exclusions)
    )
    for request in range(2):
        out = set(excluded[request].tolist()) if excluding else set()
        got = [row for row in rows[request].tolist() if row >= 0]
        assert len(got) == len(set(got)) == min(width, len(index) - len(out))
        assert not set(got) & out
        assert scores[request].tolist() == sorted(scores[request].tolist(), reverse=True)
        for codes in {index.codes_of(row) for row in got}:
            behind = [row for row in range(len(index)) if index.codes_of(row) == codes]
            allowed = [row for row in behind if row not in out]
            best = sorted(allowed, key=lambda row: (-counts[row], row))
            mine = [row for row in got if index.codes_of(row) == codes]
            assert mine == best[: len(mine)]
            # Only the last tuple of the list may be cut.
            assert len(mine) == len(best) or index.codes_of(got[-1]) == codes


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_a_node_dies_when_all_items_below_it_are_excluded(world):
    index, counts, excluded, _ = world
    trie = PrefixTrie.from_index(index, counts)
    exclusions = BatchRules(trie, [RowRules(excluded=out) for out in [*excluded, excluded[0][:0]]])
    for depth in range(index.levels):
        nodes = torch.arange(len(trie.levels[depth])).expand(3, -1)
        alive = exclusions.allows(depth, nodes)
        prefixes = sorted({index.codes_of(row)[: depth + 1] for row in range(len(index))})
        for request, out in enumerate([*excluded, []]):
            left = {index.codes_of(row)[: depth + 1] for row in set(range(len(index))) - set(out)}
            assert alive[request].tolist() == [prefix in left for prefix in prefixes]


def crowd(items):
    """All items behind one tuple, the later ones more popular, and one item beside them."""
    codes = np.zeros((items + 1, 2), dtype=np.int32)
    codes[-1] = [1, 0]
    index = ItemIndex(codes, (2, 2), {}, shared=True)
    return index, np.append(np.arange(items), 0)


def test_excluded_items_are_skipped_and_the_next_move_up():
    index, counts = crowd(500)
    trie = PrefixTrie.from_index(index, counts)
    excluded = [np.array([499, 497], dtype=np.int32), np.arange(500, dtype=np.int32)]
    exclusions = BatchRules(trie, [RowRules(excluded=out) for out in excluded])
    rows, _ = beam_search(trie, TableScorer((2, 2), 2, 0), 3, Wishes(exclusions))
    behind = [row for row in rows[0].tolist() if row != 500]
    assert behind == [498, 496, 495][: len(behind)]
    assert len(behind) >= 2
    assert rows[1].tolist() == [500, -1, -1]


def test_no_more_items_of_a_tuple_are_opened_than_can_be_needed():
    index, counts = crowd(500)
    trie = PrefixTrie.from_index(index, counts)
    leaf = trie.nodes_of_leaves(1, trie.leaf_of_item[:1])
    leaves, real = trie.children(2, leaf, most=5)
    assert leaves.shape == (1, 5)
    assert real.all()
    assert trie.item_of_leaf[leaves[0]].tolist() == [499, 498, 497, 496, 495]
    assert trie.children(2, leaf)[0].shape == (1, 500)


def test_without_counts_the_smaller_row_comes_first():
    codes = np.array([[1], [0], [1], [0]], dtype=np.int32)
    index = ItemIndex(codes, (2,), {}, shared=True)
    for counts in (None, np.array([7, 7, 7, 7])):
        assert PrefixTrie.from_index(index, counts).item_of_leaf.tolist() == [1, 3, 0, 2]


def test_an_index_that_shares_nothing_is_searched_like_one_to_one():
    codes = np.random.default_rng(0).permutation(60)[:, None] // [12, 3, 1] % [5, 4, 3]
    codes = codes.astype(np.int32)
    counts = np.arange(60)
    tries = [
        PrefixTrie.from_index(ItemIndex(codes, (5, 4, 3), {}, shared=shared), counts)
        for shared in (False, True)
    ]
    for trie in tries:
        assert trie.sharing is None
        assert trie.steps == trie.levels
    found = [beam_search(trie, TableScorer((5, 4, 3), 2, 1), 7) for trie in tries]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_copy_on_a_device_keeps_the_items_of_a_tuple():
    index, counts = crowd(4)
    trie = PrefixTrie.from_index(index, counts)
    moved = trie.to(torch.device("meta"))
    assert len(moved.steps) == len(trie.steps) == 3
    assert {step.code.device.type for step in moved.steps} == {"meta"}


def test_counts_of_another_catalogue_are_refused():
    index, counts = crowd(4)
    with pytest.raises(DataError, match="there are 4 item counts for 5 items"):
        PrefixTrie.from_index(index, counts[:4])


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    shared=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_padded_tuples_of_several_lengths_decode_right(lengths, shared, seed):
    """An ID that ended has the last code of each level that is left, and nothing else follows."""
    sizes = (3, 4, 4, 4)
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, [3, 3, 3, 3], size=(len(lengths), 4)).astype(np.int32)
    for row, length in enumerate(lengths):
        codes[row, length:] = 3
    if not shared:
        codes = np.unique(codes, axis=0)[generator.permutation(len(np.unique(codes, axis=0)))]
    counts = generator.integers(0, 5, size=len(codes))
    index = ItemIndex(codes, sizes, {}, shared)
    trie = PrefixTrie.from_index(index, counts)
    for depth in range(1, 4):
        ended = np.flatnonzero(trie.levels[depth - 1].code.numpy() == 3) if depth > 1 else []
        for node in ended:
            children, real = trie.children(depth, torch.tensor([node]))
            assert trie.levels[depth].code[children[real]].tolist() == [3]
    scorer = TableScorer(sizes, 1, seed)
    excluded = generator.permutation(len(codes))[: len(codes) // 3].astype(np.int32)
    exclusions = BatchRules(trie, [RowRules(excluded=out) for out in [excluded]])
    rows, _ = beam_search(trie, scorer, len(codes), Wishes(exclusions))
    want, _ = brute_force(index, scorer, 0, set(excluded.tolist()), counts)
    assert [row for row in rows[0].tolist() if row >= 0] == want
