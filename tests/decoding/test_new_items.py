"""Items the model never saw: their even share of the longest known prefix, written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding.beam import beam_search
from genrec.decoding.new_items import NewItemShares
from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.table_scorer import TableScorer
from tests.decoding.test_beam import random_index


def by_hand(index, scorer, counts, weight, row):
    """Return the score of one item, from the definition."""
    codes = index.codes_of(row)
    score = 0.0
    for depth in range(len(codes)):
        below = (index.codes[:, : depth + 1] == np.asarray(codes[: depth + 1])).all(axis=1)
        if not counts[below].any():
            above = (index.codes[:, :depth] == np.asarray(codes[:depth])).all(axis=1)
            known = int((counts[above] > 0).sum())
            shares = known + weight * (int(above.sum()) - known)
            # Items behind the same tuple have the score of the tuple.
            same = int((index.codes == np.asarray(codes)).all(axis=1).sum())
            return score + math.log(weight * same / shares)
        score += float(scorer.row(0, codes[:depth])[codes[depth]])
    return score


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(2, 40),
    level_sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    share=st.floats(0, 1),
    weight=st.floats(0.01, 10),
    twice=st.integers(0, 5),
)
def test_scores_equal_the_definition(seed, items, level_sizes, share, weight, twice):
    alone = random_index(seed, items, level_sizes)
    codes = np.concatenate([alone.codes, alone.codes[:twice]])
    index = ItemIndex(codes, tuple(level_sizes), {}, shared=twice > 0)
    counts = (np.random.default_rng(seed).random(len(index)) > share).astype(np.int64)
    counts[0] = 1
    trie = PrefixTrie.from_index(index, counts)
    scorer = TableScorer(level_sizes, 1, seed)
    shares = NewItemShares.of(trie, torch.from_numpy(counts), weight)
    rows, scores = beam_search(trie, scorer, len(index), shares=shares)
    want = [by_hand(index, scorer, counts, weight, row) for row in rows[0].tolist()]
    np.testing.assert_allclose(scores[0].numpy(), want, rtol=1e-4, atol=1e-5)
    assert sorted(rows[0].tolist()) == list(range(len(index)))


def test_an_item_beside_three_known_ones_gets_a_quarter_of_their_prefix():
    index = ItemIndex(np.array([[0, 0], [0, 1], [0, 2], [0, 3], [1, 0]], np.int32), (2, 4), {})
    counts = torch.tensor([5, 1, 9, 0, 2])
    trie = PrefixTrie.from_index(index)
    scorer = TableScorer((2, 4), 1, 3)
    score_of = []
    for weight in (0.0, 1.0, 3.0):
        shares = NewItemShares.of(trie, counts, weight)
        rows, scores = beam_search(trie, TableScorer((2, 4), 1, 3), 5, shares=shares)
        score_of.append(dict(zip(rows[0].tolist(), scores[0].tolist(), strict=True)))
    left_to_the_model, even, more = score_of
    first = float(scorer.row(0, ())[0])
    assert left_to_the_model[3] == pytest.approx(first + float(scorer.row(0, (0,))[3]))
    assert even[3] == pytest.approx(first + math.log(1 / 4))
    assert more[3] == pytest.approx(first + math.log(3 / 6))
    # The items that the model knows keep their scores.
    for row in (0, 1, 2, 4):
        assert left_to_the_model[row] == even[row] == more[row]


def test_nothing_is_shared_where_all_items_or_none_are_known():
    trie = PrefixTrie.from_index(random_index(1, 9, (3, 4)))
    assert NewItemShares.of(trie, torch.ones(9, dtype=torch.int64), 1.0) is None
    assert NewItemShares.of(trie, torch.zeros(9, dtype=torch.int64), 1.0) is None


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_that_is_no_number_of_shares_is_refused(weight):
    trie = PrefixTrie.from_index(random_index(1, 9, (3, 4)))
    with pytest.raises(RequestError, match="new_item_weight must be 0 or more"):
        NewItemShares.of(trie, torch.ones(9, dtype=torch.int64), weight)
