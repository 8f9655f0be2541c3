"""Boosts and bounds on the items of one first code, against sorting every item."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding.beam import Wishes, beam_search
from genrec.decoding.boosts import BatchBoosts
from genrec.decoding.rules import BatchRules
from genrec.decoding.selection import best_of
from tests.decoding.table_scorer import TableScorer, brute_force
from tests.decoding.test_rules import eligible, worlds


def random_boosts(rng, n):
    rows = np.flatnonzero(rng.random(n) < rng.choice([0.0, 0.2, 1.0]))
    return {int(row): float(rng.normal(scale=3)) for row in rows}


def scores_of(index, scorer, request, left, counts):
    """Score of each row that is left."""
    out = set(range(len(index))) - left
    _, pairs = brute_force(index, scorer, request, out, counts)
    return {row: score for score, row in pairs}


@settings(max_examples=150, deadline=None)
@given(worlds(), st.integers(0, 10**6))
def test_with_boosts_a_wide_beam_equals_sorting_all_items(world, seed):
    index, counts, trie, rules, scorer_seed = world
    rng = np.random.default_rng(seed)
    boosts = [random_boosts(rng, len(index)) for _ in rules]
    scorer = TableScorer(index.level_sizes, len(rules), scorer_seed)
    wishes = Wishes(rules=BatchRules(trie, rules), boosts=BatchBoosts(trie, boosts))
    rows, scores = beam_search(trie, scorer, len(index), wishes)
    for request, each in enumerate(rules):
        left = eligible(each, len(index))
        plain = scores_of(index, scorer, request, left, counts)
        want = sorted((plain[row] + boosts[request].get(row, 0.0) for row in left), reverse=True)
        got = [row for row in rows[request].tolist() if row >= 0]
        assert set(got) == left
        assert len(got) == len(left)
        found = scores[request][: len(got)].numpy()
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
        own = [plain[row] + boosts[request].get(row, 0.0) for row in got]
        np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-4)


def bounded(index, ranked, most):
    """Take items in order, no more than so many of one first code."""
    taken, count = [], {}
    for row in ranked:
        code = int(index.codes[row, 0])
        if count.get(code, 0) < most:
            count[code] = count.get(code, 0) + 1
            taken.append(row)
    return taken


@settings(max_examples=150, deadline=None)
@given(
    worlds(),
    st.sampled_from([1, 2, 3, 6, 100]),
    st.lists(st.integers(1, 4), min_size=4, max_size=4),
)
def test_any_beam_gives_as_many_items_as_the_bound_leaves(world, width, bounds):
    index, _, trie, rules, seed = world
    scorer = TableScorer(index.level_sizes, len(rules), seed)
    most = torch.tensor(bounds[: len(rules)])
    wishes = Wishes(rules=BatchRules(trie, rules), most_per_code=most)
    rows, _ = beam_search(trie, scorer, width, wishes)
    for request, each in enumerate(rules):
        left = sorted(eligible(each, len(index)))
        got = [row for row in rows[request].tolist() if row >= 0]
        bound = bounds[request]
        assert len(got) == len(set(got)) == min(width, len(bounded(index, left, bound)))
        assert set(got) <= set(left)
        assert bounded(index, got, bound) == got


@pytest.mark.parametrize("stable", [False, True])
def test_the_best_of_each_group_are_kept(stable):
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, -torch.inf]])
    groups = torch.tensor([[7, 7, 7, 2, 2], [1, 1, 1, 1, 1]])
    best, place = best_of(scores, 4, groups, torch.tensor([2, 1]), stable)
    assert best[0].tolist() == [5.0, 4.0, 2.0, 1.0]
    assert place[0].tolist() == [0, 1, 3, 4]
    assert best[1].tolist() == [4.0, *[-torch.inf] * 3]
    assert place[1, 0] == 3
