"""Bounds on groups that the codes know nothing of, with a real model."""

import numpy as np
import pytest

from genrec.decoding.item_mask import ItemMask
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import Bound, RowRules
from genrec.errors import RequestError
from tests.decoding.test_language_model_scorer import ITEMS, brute_force, generative

HISTORY = np.array([5, 1, 9], dtype=np.int32)


def greedy(scores, left, bounds, k):
    taken = []
    for row in np.argsort(-scores).tolist():
        fits = all(
            bound.groups[row] < 0
            or sum(bound.groups[other] == bound.groups[row] for other in taken) < bound.most
            for bound in bounds
        )
        if row in left and fits and len(taken) < k:
            taken.append(row)
    return taken


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_takes_the_best_that_fit(seed):
    model, rng = generative(), np.random.default_rng(seed)
    bounds = tuple(
        Bound(rng.integers(-1, groups, ITEMS), int(rng.integers(1, 4))) for groups in (3, 6)
    )
    rules = RowRules(excluded=rng.permutation(ITEMS)[:4].astype(np.int32), bounds=bounds)
    [ranking] = GenerativeRanker(model, beam=ITEMS).rank([HISTORY], 9, rules=[rules])
    left = set(np.flatnonzero(rules.eligible(ITEMS)).tolist())
    assert ranking.items.tolist() == greedy(brute_force(model, HISTORY), left, bounds, 9)


@pytest.mark.parametrize("beam", [1, 3, 30])
def test_a_narrow_beam_finds_as_many_as_fit(beam):
    """Everything a narrow beam finds is of one group, so it has to look again."""
    model = generative()
    scores = brute_force(model, HISTORY)
    best = np.argsort(-scores)[:20]
    groups = np.arange(ITEMS)
    groups[best] = 99
    rules = RowRules(bounds=(Bound(groups, 1),))
    [ranking] = GenerativeRanker(model, beam=beam).rank([HISTORY], 8, rules=[rules])
    assert len(ranking) == 8
    assert sum(row in best for row in ranking.items.tolist()) == 1
    assert ranking.scores.tolist() == sorted(ranking.scores.tolist(), reverse=True)
    [all_there_is] = GenerativeRanker(model, beam=beam).rank([HISTORY], ITEMS, rules=[rules])
    assert len(all_there_is) == 11


def test_requests_with_and_without_bounds_share_a_batch():
    model = generative()
    ranker = GenerativeRanker(model, beam=ITEMS)
    flags = np.arange(ITEMS) % 2 == 0
    rules = [
        RowRules(),
        RowRules(bounds=(Bound(np.zeros(ITEMS, dtype=np.int64), 2),)),
        RowRules(masks=(ItemMask.of(ranker.trie, flags),), boosts={0: 50.0}),
        RowRules(most_per_code=1),
    ]
    together = ranker.rank([HISTORY] * 4, 6, rules=rules)
    alone = [ranker.rank([HISTORY], 6, rules=[each])[0] for each in rules]
    assert [each.items.tolist() for each in together] == [each.items.tolist() for each in alone]
    assert [len(each) for each in together] == [6, 2, 6, 4]
    assert together[2].items[0] == 0
    assert (together[2].items % 2 == 0).all()
    assert len(set(model.index.codes[together[3].items, 0].tolist())) == 4


def test_exclude_and_rules_together_are_refused():
    with pytest.raises(RequestError, match="not both"):
        GenerativeRanker(generative()).rank([HISTORY], 3, exclude=[HISTORY], rules=[RowRules()])
