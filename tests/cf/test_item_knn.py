"""Item neighbours against the formula written out pair by pair."""

import numpy as np
import pytest

from genrec.cf.item_knn import ItemKnn
from genrec.cf.popularity import Popularity
from tests.cf.worlds import arrays, dataset_of, random_sequences

ITEMS = 15


def similarity(sequences, one, other, shrinkage):
    users = [{user for user, s in enumerate(sequences) if item in s} for item in (one, other)]
    both = len(users[0] & users[1])
    return both / (np.sqrt(len(users[0]) * len(users[1])) + shrinkage) if both else 0.0


def scores_by_hand(sequences, history, shrinkage, decay, neighbours):
    total = np.zeros(ITEMS)
    for age, item in enumerate(reversed(history)):
        near = [
            (-similarity(sequences, item, other, shrinkage), other)
            for other in range(ITEMS)
            if other != item and similarity(sequences, item, other, shrinkage)
        ]
        for negative, other in sorted(near)[:neighbours]:
            total[other] -= negative * decay**age
    return total


@pytest.mark.parametrize("neighbours", [3, 200])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula(seed, neighbours):
    sequences = random_sequences(seed)
    model = ItemKnn.fit(
        dataset_of(sequences, ITEMS), neighbours=neighbours, shrinkage=2.0, decay=0.7
    )
    training = [s[:-2] for s in sequences]
    for history, ranking in zip(
        sequences[:10], model.rank(arrays(*sequences[:10]), ITEMS), strict=True
    ):
        want = scores_by_hand(training, history, 2.0, 0.7, neighbours)
        near = np.flatnonzero(want)
        assert set(ranking.items[: len(near)].tolist()) == set(near.tolist())
        np.testing.assert_allclose(
            ranking.scores[: len(near)], np.sort(want[near])[::-1], rtol=1e-5
        )
        assert sorted(ranking.items.tolist()) == list(range(ITEMS))
        assert (np.diff(ranking.scores) <= 0).all()


def test_an_empty_history_gets_popular_items_and_excluded_ones_stay_out():
    dataset = dataset_of(random_sequences(1), ITEMS)
    model = ItemKnn.fit(dataset)
    [popular] = Popularity.fit(dataset).rank(arrays([]), 5, exclude=arrays([0, 1]))
    [ranking] = model.rank(arrays([]), 5, exclude=arrays([0, 1]))
    assert ranking.items.tolist() == popular.items.tolist()
    [ranking] = model.rank(arrays([2, 3]), ITEMS, exclude=arrays([2, 3, 5]))
    assert sorted(ranking.items.tolist()) == sorted(set(range(ITEMS)) - {2, 3, 5})


def test_comes_back_from_disk(tmp_path):
    sequences = random_sequences(2)
    model = ItemKnn.fit(dataset_of(sequences, ITEMS), decay=0.5)
    model.save(tmp_path)
    histories = arrays(*sequences)
    for one, other in zip(
        model.rank(histories, 9), ItemKnn.load(tmp_path).rank(histories, 9), strict=True
    ):
        assert one.items.tolist() == other.items.tolist()
        assert one.scores.tolist() == other.scores.tolist()
    assert model.name == "item_knn"


def test_many_items_are_compared_in_blocks(monkeypatch):
    sequences = random_sequences(4)
    whole = ItemKnn.fit(dataset_of(sequences, ITEMS))
    monkeypatch.setattr("genrec.cf.item_knn.ROWS_AT_ONCE", 4)
    parts = ItemKnn.fit(dataset_of(sequences, ITEMS))
    assert parts.offsets.tolist() == whole.offsets.tolist()
    assert parts.neighbours.tolist() == whole.neighbours.tolist()
    assert parts.similarities.tolist() == whole.similarities.tolist()
