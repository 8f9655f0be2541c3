"""Lists from both sides of a model, against both scores of every item worked out alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.decoding.hybrid_ranker import HybridRanker, estimated, ranker_of
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import Bound, RowRules
from genrec.errors import RequestError
from genrec.model.bridge import Bridge, BridgedPrompts, user_registry
from genrec.model.dense_side import DenseSide
from genrec.model.soft_tokens import SoftTokens
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.tiny_models import KINDS, score_of_tuple, tiny_model

ITEMS, LEVELS, SIZE = 40, 3, 3
HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3], [5, 1, 9], list(range(12)))]
NO_RULES = [RowRules()] * len(HISTORIES)


def both(kind, weight=0.3):
    """A random model over 40 items, some of which share their codes, with random vectors."""
    random = np.random.default_rng(0)
    codes = random.integers(0, SIZE, size=(ITEMS, LEVELS)).astype(np.int32)
    codes[:6] = codes[0]
    index = ItemIndex(codes, (SIZE,) * LEVELS, {}, shared=True)
    model = tiny_model(index, kind, counts=random.integers(1, 4, size=ITEMS))
    hidden = model.language_model.get_input_embeddings().weight.shape[1]
    torch.manual_seed(1)
    dense = DenseSide(torch.randn(ITEMS, 5), torch.randn(5, hidden), torch.randn(5), weight)
    return replace(model, dense=dense)


def dense_by_hand(model, history):
    """The state that the first code is read from, times every vector."""
    ranker = GenerativeRanker(model)
    with torch.inference_mode():
        state = ranker._scorer([history], 1).states()[0].float()
        user = model.dense.user_weight @ state + model.dense.user_bias
        scores = torch.stack([user @ vector for vector in model.dense.items])
    return (scores - scores.exp().sum().log()).numpy()


def expected(model, history, weight, boosts=()):
    generative = [score_of_tuple(model, history, model.index.codes_of(row)) for row in range(ITEMS)]
    added = np.array([dict(boosts).get(row, 0.0) for row in range(ITEMS)])
    return (1 - weight) * np.array(generative) + weight * dense_by_hand(model, history) + added


@pytest.mark.parametrize("kind", KINDS)
def test_a_wide_beam_equals_the_sum_of_both_for_every_item(kind):
    model = both(kind)
    for weight in (None, 0.0, 1.0):
        ranker = HybridRanker(model, beam=ITEMS, batch_size=3, dense_weight=weight)
        rankings = ranker.rank(HISTORIES, ITEMS, exclude=HISTORIES)
        for history, ranking in zip(HISTORIES, rankings, strict=True):
            want = expected(model, history, 0.3 if weight is None else weight)
            assert sorted(ranking.items.tolist()) == sorted(
                set(range(ITEMS)) - set(history.tolist())
            )
            np.testing.assert_allclose(ranking.scores, want[ranking.items], atol=1e-4)
            assert (np.diff(ranking.scores) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_dense_side_puts_first_comes_back_with_both_scores_however_narrow_the_beam(kind):
    model = both(kind)
    ranker = HybridRanker(model, beam=2, dense_weight=1.0)
    for history, ranking in zip(HISTORIES, ranker.rank(HISTORIES, 2), strict=True):
        dense = dense_by_hand(model, history)
        assert ranking.items.tolist() == np.argsort(-dense)[:2].tolist()
    found = ranker.both_sides(HISTORIES, 2, NO_RULES)
    for history, each in zip(HISTORIES, found, strict=True):
        want = [score_of_tuple(model, history, model.index.codes_of(row)) for row in each.items]
        np.testing.assert_allclose(each.generative, want, atol=1e-4)
        np.testing.assert_allclose(each.dense, dense_by_hand(model, history)[each.items], atol=1e-4)
        assert len(set(each.items.tolist())) == len(each.items)


@pytest.mark.parametrize("kind", KINDS)
def test_rules_boosts_and_bounds_hold_for_the_sum(kind):
    model = both(kind)
    ranker = HybridRanker(model, beam=ITEMS)
    flags = np.arange(ITEMS) % 3 > 0
    boosts = {7: 3.0, 8: -2.0}
    groups = np.arange(ITEMS) % 4
    rules = [
        RowRules(excluded=np.array([1, 2], dtype=np.int32), boosts=boosts),
        RowRules(allowed=np.array([4, 7, 11, 30], dtype=np.int32)),
        RowRules(masks=(ItemMask.of(ranker.trie, flags),), bounds=(Bound(groups, 2),)),
        RowRules(most_per_code=1),
    ]
    rankings = ranker.rank(HISTORIES, 10, rules=rules)
    sums = [
        expected(model, history, 0.3, each.boosts)
        for history, each in zip(HISTORIES, rules, strict=True)
    ]
    every = np.arange(ITEMS)
    allowed = [~np.isin(every, [1, 2]), np.isin(every, [4, 7, 11, 30])]
    for ranking, total, may in zip(rankings[:2], sums[:2], allowed, strict=True):
        want = np.sort(total[may])[::-1][:10]
        np.testing.assert_allclose(ranking.scores, want, atol=1e-4)
    np.testing.assert_allclose(rankings[2].scores, _greedy(sums[2], flags, groups, 2), atol=1e-4)
    first = model.index.codes[:, 0]
    np.testing.assert_allclose(
        rankings[3].scores, _greedy(sums[3], flags | True, first, 1), atol=1e-4
    )


def _greedy(total, may, groups, most):
    """The scores of a list of ten that takes the best for which its group has room."""
    taken = []
    for row in np.argsort(-total, kind="stable"):
        if may[row] and sum(groups[other] == groups[row] for other in taken) < most:
            taken.append(row)
    return total[taken[:10]]


def test_an_item_without_training_events_is_found_by_its_vector():
    model = both(KINDS[0])
    counts = model.item_counts.copy()
    counts[33] = 0
    model = replace(model, item_counts=counts)
    history = HISTORIES[2]
    state = GenerativeRanker(model)._scorer([history], 1).states()[0].detach().float()
    items = model.dense.items.clone()
    items[33] = 10 * (model.dense.user_weight @ state + model.dense.user_bias)
    model = replace(model, dense=replace(model.dense, items=items))
    ranking = HybridRanker(model, beam=1, dense_weight=0.9).rank([history], 1)[0]
    assert ranking.items.tolist() == [33]


@pytest.mark.parametrize("weight", [0, 0.5, 1, 3])
def test_items_without_training_events_count_as_several_by_their_vectors_too(weight):
    model = both(KINDS[0])
    new = np.isin(np.arange(ITEMS), [4, 33, 34])
    model = replace(model, item_counts=np.where(new, 0, model.item_counts))
    ranker = HybridRanker(model, beam=ITEMS, dense_weight=1.0, new_item_weight=weight)
    plain = GenerativeRanker(model, beam=ITEMS, new_item_weight=weight)
    for history in HISTORIES:
        shares = np.exp(dense_by_hand(model, history)) * np.where(new, weight or 1, 1)
        want = np.log(shares / shares.sum())
        ranking = ranker.rank([history], ITEMS)[0]
        assert len(ranking.items) == ITEMS
        np.testing.assert_allclose(ranking.scores, want[ranking.items], atol=1e-4)
        codes = plain.rank([history], ITEMS)[0]
        found = ranker.both_sides([history], ITEMS, NO_RULES[:1])[0]
        # The side of codes has its own shares.
        np.testing.assert_allclose(np.sort(found.generative), np.sort(codes.scores), atol=1e-4)
        parts = ranker.score_parts([history], [33])
        np.testing.assert_allclose(parts["vectors"], want[33:34], atol=1e-4)


def test_models_without_a_dense_side_and_weights_out_of_range_are_refused():
    model = both(KINDS[0])
    with pytest.raises(RequestError, match="between 0 and 1"):
        HybridRanker(model, dense_weight=1.5)
    plain = replace(model, dense=None)
    with pytest.raises(RequestError, match="no dense side"):
        HybridRanker(plain)
    with pytest.raises(RequestError, match="no dense side"):
        ranker_of(plain, dense_weight=0.5)
    assert type(ranker_of(plain)) is GenerativeRanker
    assert type(ranker_of(model)) is HybridRanker


def test_the_collaborative_model_of_a_bridge_has_its_share():
    """Against the sum worked out from the model's own scores; a later item lies on their line."""
    model = both("llama", weight=0.6)
    torch.manual_seed(3)
    network = SasRec(ITEMS, dimensions=8, layers=1, heads=1, max_history=20).eval()
    users = SasRecRanker(network)
    hidden = model.language_model.get_input_embeddings().weight.shape[1]
    rows = np.arange(ITEMS)
    rows[7] = -1
    words = model.language_model.get_input_embeddings().weight.shape[0]
    soft = SoftTokens(words, {"users": user_registry(users, hidden, size=0.0)})
    bridge = Bridge(soft, users, rows)
    soft.attach(model.language_model)
    prompts = BridgedPrompts.of(model.prompts, bridge, model.tokenizer)
    bridged = replace(model, prompts=prompts, dense=replace(model.dense, cf_share=0.5))
    history = HISTORIES[2]
    ranking = HybridRanker(bridged, beam=ITEMS).rank([history], ITEMS, exclude=[history])[0]
    alone = HybridRanker(replace(bridged, dense=replace(model.dense, cf_share=0.0)), beam=ITEMS)
    parts = alone.both_sides([history], ITEMS, [RowRules(excluded=history)])[0]
    with torch.inference_mode():
        own = network.scores(network.last_states([history])).log_softmax(1)[0].numpy()
    # The line through all known items, those of the history among them.
    everything = alone.both_sides([history], ITEMS, [RowRules()])[0]
    known = everything.items != 7
    slope, start = np.polyfit(everything.dense[known], own[everything.items[known]], 1)
    told = np.where(parts.items == 7, start + slope * parts.dense, own[parts.items])
    total = 0.4 * parts.generative + 0.6 * (0.5 * parts.dense + 0.5 * told)
    assert ranking.items.tolist() == parts.items[np.argsort(-total)].tolist()
    np.testing.assert_allclose(ranking.scores, np.sort(total)[::-1], atol=1e-4)
    ranker = HybridRanker(bridged, beam=4, batch_size=5)
    shares, found = ranker.part_shares, ranker.score_parts([history] * ITEMS, range(ITEMS))
    assert shares == pytest.approx({"codes": 0.4, "vectors": 0.3, "collaborative": 0.3})
    summed = sum(share * found[name] for name, share in shares.items())
    np.testing.assert_allclose(summed[parts.items], total, atol=1e-4)


def test_what_is_not_known_lies_on_the_line_of_what_is():
    generator = np.random.default_rng(0)
    dense = generator.normal(-8, 2, (5, 30))
    asked = dense * 0.7 - 2 + generator.normal(0, 1, (5, 30))
    asked[0, :4] = np.nan
    asked[1, 2:28] = np.nan
    asked[2] = np.nan
    asked[3, 1:] = np.nan
    found = estimated(torch.tensor(asked), torch.tensor(dense)).numpy()
    for row in (0, 1):
        known = ~np.isnan(asked[row])
        np.testing.assert_array_equal(found[row][known], asked[row][known])
        slope, start = np.polyfit(dense[row][known], asked[row][known], 1)
        np.testing.assert_allclose(found[row][~known], start + slope * dense[row][~known])
    np.testing.assert_array_equal(found[2], dense[2])
    # One point has no slope: all others are as likely as that one.
    np.testing.assert_allclose(found[3], asked[3, 0])
    np.testing.assert_array_equal(found[4], asked[4])
