"""Beam search against brute force over every item."""

import itertools

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


def random_index(seed, items, level_sizes):
    generator = np.random.default_rng(seed)
    every = np.asarray(list(itertools.product(*[range(size) for size in level_sizes])))
    rows = generator.permutation(len(every))[: min(items, len(every))]
    return ItemIndex(every[rows].astype(np.int32), tuple(level_sizes), {})


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 40),
    level_sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    batch=st.integers(1, 3),
    share=st.floats(0, 1),
)
def test_wide_beam_equals_brute_force(seed, items, level_sizes, batch, share):
    index = random_index(seed, items, level_sizes)
    trie = PrefixTrie.from_index(index)
    generator = np.random.default_rng(seed + 1)
    excluded = [
        np.flatnonzero(generator.random(len(index)) < share).astype(np.int32) for _ in range(batch)
    ]
    exclusions = BatchRules(trie, [RowRules(excluded=out) for out in excluded])
    scorer = TableScorer(level_sizes, batch, seed)
    rows, scores = beam_search(trie, scorer, len(index), Wishes(exclusions))
    for request in range(batch):
        want, pairs = brute_force(index, scorer, request, set(excluded[request].tolist()))
        got = [row for row in rows[request].tolist() if row >= 0]
        assert got == want
        np.testing.assert_allclose(
            scores[request][: len(want)].numpy(), [score for score, _ in pairs], rtol=1e-4
        )


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 60),
    level_sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    width=st.integers(1, 12),
    share=st.floats(0, 1),
)
def test_any_beam_returns_as_many_items_as_it_may(seed, items, level_sizes, width, share):
    """Never an excluded item, none twice, and min(width, eligible) of them."""
    index = random_index(seed, items, level_sizes)
    trie = PrefixTrie.from_index(index)
    generator = np.random.default_rng(seed + 1)
    excluded = np.flatnonzero(generator.random(len(index)) < share).astype(np.int32)
    exclusions = BatchRules(trie, [RowRules(excluded=out) for out in [excluded]])
    rows, scores = beam_search(trie, TableScorer(level_sizes, 1, seed), width, Wishes(exclusions))
    got = [row for row in rows[0].tolist() if row >= 0]
    assert len(got) == len(set(got)) == min(width, len(index) - len(excluded))
    assert not set(got) & set(excluded.tolist())
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)


def test_trie_children_equal_a_dictionary():
    index = random_index(3, 50, [4, 5, 6])
    trie = PrefixTrie.from_index(index)
    follow: dict[tuple[int, ...], set[int]] = {}
    for row in range(len(index)):
        codes = index.codes_of(row)
        for depth in range(3):
            follow.setdefault(codes[:depth], set()).add(codes[depth])
    prefixes = {0: (0, ())}
    for level in range(3):
        following = {}
        for node, (_, prefix) in prefixes.items():
            children, real = trie.children(level, torch.tensor([node]))
            nodes = children[0][real[0]].tolist()
            codes = trie.levels[level].code[nodes].tolist()
            assert set(codes) == follow[prefix]
            assert len(codes) == len(follow[prefix])
            following.update({n: (n, (*prefix, c)) for n, c in zip(nodes, codes, strict=True)})
        prefixes = following
    for node, (_, prefix) in prefixes.items():
        assert index.codes_of(int(trie.item_of_leaf[node])) == prefix


def test_empty_index_is_refused():
    with pytest.raises(DataError, match="at least one item"):
        PrefixTrie.from_index(ItemIndex(np.zeros((0, 2), dtype=np.int32), (4, 4), {}))
