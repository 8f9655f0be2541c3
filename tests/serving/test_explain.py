import numpy as np
import pytest

from genrec.decoding.hybrid_ranker import HybridRanker
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import RequestError
from genrec.serving.explain import explain
from genrec.serving.recommender import Recommender
from tests.decoding.test_hybrid_ranker import both, dense_by_hand, expected
from tests.decoding.test_language_model_scorer import ITEMS, brute_force, generative
from tests.decoding.tiny_models import KINDS, score_of_tuple
from tests.serving.fakes import recommender as without_codes


@pytest.fixture(scope="module")
def recommender():
    model = generative()
    return Recommender(
        GenerativeRanker(model, beam=ITEMS, batch_size=2), model.catalog, np.ones(ITEMS, np.int64),
        model_digest="a" * 64, index_digest="b" * 64,
    )  # fmt: skip


def rows(*numbers):
    return np.array(numbers, dtype=np.int32)


def test_figures_are_those_of_scoring_each_history_alone(recommender):
    model = recommender.ranker.model
    found = explain(recommender, ["5", "ghost", "1", "9"], "7")
    whole = brute_force(model, rows(5, 1, 9))[7]
    assert found.score == pytest.approx(whole, abs=1e-4)
    assert np.log(found.probabilities).sum() == pytest.approx(whole, abs=1e-4)
    assert found.codes == model.index.codes[7].tolist()
    changes = {each.item_id: each.change for each in found.influences}
    assert changes == {
        "5": pytest.approx(whole - brute_force(model, rows(1, 9))[7], abs=1e-4),
        "1": pytest.approx(whole - brute_force(model, rows(5, 9))[7], abs=1e-4),
        "9": pytest.approx(whole - brute_force(model, rows(5, 1))[7], abs=1e-4),
    }
    sizes = [abs(each.change) for each in found.influences]
    assert sizes == sorted(sizes, reverse=True)
    # No item of this model has a training event.
    assert found.new


def test_the_score_is_the_one_of_the_list(recommender):
    [answer] = recommender.recommend([["5", "1", "9"]], k=4)
    for item in answer.items:
        found = explain(recommender, ["5", "1", "9"], item.item_id)
        assert found.score == pytest.approx(item.score, abs=1e-4)


def test_history_items_with_the_same_first_codes_are_named(recommender):
    codes = recommender.ranker.model.index.codes
    target = next(row for row in range(ITEMS) if (codes[:, 0] == codes[row, 0]).sum() > 2)
    like = [str(row) for row in range(ITEMS) if codes[row, 0] == codes[target, 0] and row != target]
    other = next(str(row) for row in range(ITEMS) if codes[row, 0] != codes[target, 0])
    found = explain(recommender, [other, *like, str(target)], str(target))
    shared = {each.item_id: each.codes for each in found.shared_codes}
    assert set(shared) == set(like[-7:])
    assert other not in shared
    for item_id, count in shared.items():
        same = codes[int(item_id)] == codes[target]
        assert same[:count].all()
        assert count == len(same) or not same[count]


def test_what_cannot_be_explained_is_said(recommender):
    with pytest.raises(RequestError, match="no item 'ghost'"):
        explain(recommender, ["1"], "ghost")
    with pytest.raises(RequestError, match="no known item"):
        explain(recommender, ["ghost"], "1")
    with pytest.raises(RequestError, match="gives no reasons"):
        explain(without_codes(), ["i0"], "i1")
    with pytest.raises(RequestError, match="history 0 is the text '1', expected a list"):
        explain(recommender, "1", "1")


def test_the_score_of_both_sides_is_taken_apart():
    model = both(KINDS[0], weight=0.3)
    recommender = Recommender(
        HybridRanker(model, beam=ITEMS, batch_size=2), model.catalog, np.ones(ITEMS, np.int64),
        model_digest="a" * 64, index_digest="b" * 64,
    )  # fmt: skip
    history = ["5", "1", "9"]
    [answer] = recommender.recommend([history], k=3)
    for item in answer.items:
        found = explain(recommender, history, item.item_id)
        assert found.score == pytest.approx(item.score, abs=1e-4)
        row = int(item.item_id)
        codes = score_of_tuple(model, rows(5, 1, 9), model.index.codes_of(row))
        vectors = dense_by_hand(model, rows(5, 1, 9))[row]
        assert [(part.name, part.share) for part in found.parts] == [
            ("codes", pytest.approx(0.7)), ("vectors", pytest.approx(0.3)),
        ]  # fmt: skip
        assert [part.log_probability for part in found.parts] == pytest.approx(
            [codes, vectors], abs=1e-4
        )
        less = expected(model, rows(1, 9), 0.3)[row]
        changes = {each.item_id: each.change for each in found.influences}
        assert changes["5"] == pytest.approx(found.score - less, abs=1e-4)
