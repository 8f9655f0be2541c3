"""Rules inside the search against brute force over every item."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding.beam import Wishes, beam_search
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.rules import BatchRules, RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.table_scorer import TableScorer, brute_force


def random_catalogue(rng, items, level_sizes, shared, ragged):
    """Tuples of codes; where they are of several lengths, code 0 fills them up."""
    codes = np.stack([rng.integers(0, size, items) for size in level_sizes], axis=1)
    if ragged:
        length = rng.integers(1, len(level_sizes) + 1, items)
        codes = np.where(np.arange(len(level_sizes)) < length[:, None], np.maximum(codes, 1), 0)
        codes = np.minimum(codes, np.asarray(level_sizes) - 1)
    if not shared:
        codes = rng.permutation(np.unique(codes, axis=0))
    return ItemIndex(codes.astype(np.int32), tuple(level_sizes), {}, shared=shared)


def random_rules(rng, trie, masks):
    n = trie.items
    excluded = np.flatnonzero(
        rng.random(n) < rng.choice([0, 0.1, 0.6, 1.0], p=[0.4, 0.3, 0.2, 0.1])
    )
    allowed = np.flatnonzero(rng.random(n) < rng.random()) if rng.random() < 0.3 else None
    chosen = tuple(mask for mask in masks if rng.random() < 0.4)
    return RowRules(excluded.astype(np.int32), allowed, chosen)


def eligible(rules, n):
    left = set(range(n)) - set(rules.excluded.tolist())
    if rules.allowed is not None:
        left &= set(rules.allowed.tolist())
    for mask in rules.masks:
        left &= set(torch.nonzero(mask.allowed).flatten().tolist())
    return left


@st.composite
def worlds(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    level_sizes = draw(st.lists(st.integers(2, 6), min_size=1, max_size=4))
    items = draw(st.integers(1, 40))
    index = random_catalogue(rng, items, level_sizes, draw(st.booleans()), draw(st.booleans()))
    counts = rng.integers(0, 4, len(index))
    trie = PrefixTrie.from_index(index, counts)
    masks = [ItemMask.of(trie, rng.random(len(index)) < rng.random()) for _ in range(2)]
    rules = [random_rules(rng, trie, masks) for _ in range(draw(st.integers(1, 4)))]
    return index, counts, trie, rules, int(rng.integers(10**6))


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_a_wide_beam_equals_brute_force(world):
    index, counts, trie, rules, seed = world
    scorer = TableScorer(index.level_sizes, len(rules), seed)
    rows, _ = beam_search(trie, scorer, len(index), Wishes(BatchRules(trie, rules)))
    for request, each in enumerate(rules):
        out = set(range(len(index))) - eligible(each, len(index))
        want, _ = brute_force(index, scorer, request, out, counts)
        assert [row for row in rows[request].tolist() if row >= 0] == want


@settings(max_examples=200, deadline=None)
@given(worlds(), st.integers(1, 8))
def test_any_beam_returns_as_many_allowed_items_as_there_are(world, width):
    index, _, trie, rules, seed = world
    scorer = TableScorer(index.level_sizes, len(rules), seed)
    rows, scores = beam_search(trie, scorer, width, Wishes(BatchRules(trie, rules)))
    for request, each in enumerate(rules):
        got = [row for row in rows[request].tolist() if row >= 0]
        left = eligible(each, len(index))
        assert len(got) == len(set(got)) == min(width, len(left))
        assert set(got) <= left
        found = scores[request][: len(got)].tolist()
        assert found == sorted(found, reverse=True)


@settings(max_examples=100, deadline=None)
@given(worlds(), st.integers(0, 10**6))
def test_a_mask_changed_in_place_is_the_one_made_anew(world, seed):
    index, _, trie, _, _ = world
    rng = np.random.default_rng(seed)
    flags = rng.random(len(index)) < 0.5
    mask = ItemMask.of(trie, flags)
    for _ in range(3):
        rows = rng.integers(0, len(index), rng.integers(0, 6))
        allowed = bool(rng.random() < 0.5)
        mask.set(rows, allowed)
        flags[rows] = allowed
    anew = ItemMask.of(trie, flags)
    assert torch.equal(mask.allowed, anew.allowed)
    assert all(torch.equal(one, other) for one, other in zip(mask.counts, anew.counts, strict=True))
    assert mask.items == flags.sum()


def test_counts_are_the_allowed_items_below_each_node():
    index = ItemIndex(np.array([[0, 0], [0, 1], [1, 1], [2, 0]], np.int32), (3, 2), {})
    trie = PrefixTrie.from_index(index)
    mask = ItemMask.of(trie, np.array([True, True, False, True]))
    assert [counts.tolist() for counts in mask.counts] == [[2, 0, 1], [1, 1, 0, 1]]


def test_a_mask_of_another_catalogue_is_refused():
    index = ItemIndex(np.array([[0], [1]], np.int32), (2,), {})
    with pytest.raises(RequestError, match=r"shape \(3,\), expected one flag for each of the 2"):
        ItemMask.of(PrefixTrie.from_index(index), np.ones(3, dtype=bool))


def test_a_long_list_is_as_good_as_a_short_one():
    """Lists beyond a share of the catalogue are turned into masks."""
    rng = np.random.default_rng(0)
    index = random_catalogue(rng, 400, (6, 6, 6), False, False)
    trie = PrefixTrie.from_index(index)
    for share in (0.005, 0.5):
        out = np.flatnonzero(rng.random(len(index)) < share)
        scorer = TableScorer(index.level_sizes, 1, 1)
        rows, _ = beam_search(trie, scorer, len(index), Wishes(BatchRules(trie, [RowRules(out)])))
        want, _ = brute_force(index, scorer, 0, set(out.tolist()))
        assert [row for row in rows[0].tolist() if row >= 0] == want


def test_requests_with_long_lists_of_their_own_are_told_apart():
    """Masks made for one request must not be taken for those of another."""
    rng = np.random.default_rng(0)
    index = random_catalogue(rng, 60, (6, 6), False, False)
    trie = PrefixTrie.from_index(index)
    shared = tuple(ItemMask.of(trie, rng.random(len(index)) < 0.8) for _ in range(2))
    rules = [
        RowRules(np.flatnonzero(rng.random(len(index)) < 0.6), masks=shared) for _ in range(200)
    ]
    batch = BatchRules(trie, rules)
    every = torch.arange(len(trie.steps[-1])).expand(len(rules), -1)
    allowed = batch.allows(len(trie.steps) - 1, every)
    for request, each in enumerate(rules):
        rows = trie.item_of_leaf[allowed[request]].tolist()
        assert set(rows) == eligible(each, len(index))


def test_the_model_reads_no_more_beams_than_the_rules_leave():
    rng = np.random.default_rng(0)
    index = random_catalogue(rng, 40, [4, 5, 6], shared=False, ragged=False)
    trie = PrefixTrie.from_index(index)
    scorer = TableScorer(index.level_sizes, 2, seed=0)
    widths = []
    real = scorer.next
    scorer.next = lambda level, codes, parents: (
        widths.append(codes.shape[1]) or real(level, codes, parents)
    )
    rules = [RowRules(allowed=np.array([3, 8])), RowRules(allowed=np.array([5, 9, 30]))]
    rows, _ = beam_search(trie, scorer, 20, Wishes(BatchRules(trie, rules)))
    assert [sorted(row for row in each if row >= 0) for each in rows.tolist()] == [
        [3, 8], [5, 9, 30],
    ]  # fmt: skip
    assert len(widths) == 2 and max(widths) <= 3
