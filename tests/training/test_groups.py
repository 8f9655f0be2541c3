"""Groups hold real items, none twice and none seen, and hints where they are asked for."""

import numpy as np
import pytest
import torch

from genrec.decoding.ranker import GenerativeRanker
from genrec.training.groups import draw_groups
from tests.training.test_validation import ITEMS, learner

HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([3, 4, 5], [9], [20, 2], [1, 2])]
TARGETS = np.asarray([6, 10, 0, 23])


@pytest.fixture
def ranker(small_index, cycle_dataset):
    model, _ = learner(small_index, cycle_dataset.item_counts, cycle_dataset.catalog)
    return GenerativeRanker(model, beam=5, new_item_weight=0.0)


def test_items_are_those_of_the_search_and_no_two_are_equal(ranker):
    groups = draw_groups(ranker, HISTORIES, TARGETS, 5)
    want = ranker.rank(HISTORIES, 5, exclude=HISTORIES)
    for items, ranking, history in zip(groups.items, want, HISTORIES, strict=True):
        assert items.tolist() == ranking.items.tolist()
        assert len(set(items.tolist())) == 5
        assert not set(items.tolist()) & set(history.tolist())
    assert groups.hits.tolist() == (groups.items == TARGETS[:, None]).tolist()
    assert groups.real.all()
    assert groups.hints.tolist() == [0, 0, 0, 0]


def test_seen_items_may_be_named_when_they_may_be_chosen(ranker):
    groups = draw_groups(ranker, HISTORIES, TARGETS, ITEMS, exclude_seen=False)
    assert [sorted(items) for items in groups.items.tolist()] == [list(range(ITEMS))] * 4
    short = draw_groups(ranker, HISTORIES, TARGETS, ITEMS)
    assert short.real.sum(1).tolist() == [ITEMS - len(history) for history in HISTORIES]
    assert (short.items[~short.real] == -1).all()


def test_hints_begin_with_the_codes_of_the_true_item_where_there_was_no_hit(ranker, small_index):
    plain = draw_groups(ranker, HISTORIES, TARGETS, 5)
    hit = plain.hits.any(1)
    assert 0 < hit.sum() < len(hit)
    # One code is always left to the model, however many hints are allowed.
    hinted = draw_groups(ranker, HISTORIES, TARGETS, 5, hint_codes=7)
    assert (hinted.items[hit] == plain.items[hit]).all()
    assert hinted.hints.tolist() == (~hit).astype(int).tolist()
    assert hinted.hits.any(1).all()
    codes = small_index.codes
    for row in np.flatnonzero(~hit):
        named = hinted.items[row][hinted.items[row] >= 0]
        assert set(codes[named, 0]) == {codes[TARGETS[row], 0]}
        # Four items share a first code; those of the history among them are left out.
        seen = set(HISTORIES[row].tolist()) & set(np.flatnonzero(codes[:, 0] == codes[named[0], 0]))
        assert len(named) == 4 - len(seen)


def test_items_with_the_codes_of_the_true_one_are_hits(cycle_dataset):
    from genrec.semantic_ids.item_index import ItemIndex

    rows = np.arange(ITEMS) // 4
    index = ItemIndex(np.stack([rows // 3, rows % 3], 1).astype(np.int32), (2, 3), {}, shared=True)
    model, _ = learner(index, cycle_dataset.item_counts, cycle_dataset.catalog)
    ranker = GenerativeRanker(model, beam=ITEMS, new_item_weight=0.0)
    groups = draw_groups(ranker, HISTORIES, TARGETS, ITEMS)
    for row, target in enumerate(TARGETS):
        alike = set(np.flatnonzero(rows == rows[target])) - set(HISTORIES[row].tolist())
        assert set(groups.items[row][groups.hits[row]]) == alike


def test_drawing_leaves_gradients_and_weights_alone(ranker):
    before = [weight.detach().clone() for weight in ranker.model.language_model.parameters()]
    draw_groups(ranker, HISTORIES, TARGETS, 5, hint_codes=1)
    for old, weight in zip(before, ranker.model.language_model.parameters(), strict=True):
        assert torch.equal(old, weight)
        assert weight.grad is None
