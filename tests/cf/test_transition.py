from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from genrec.cf.popularity import Popularity
from genrec.cf.transition import Transition
from genrec.data.histories import from_lists
from genrec.errors import RequestError
from tests.cf.worlds import arrays, dataset_of, random_sequences

BEAUTY = Path(__file__).parents[3] / "shared/data/amazon2014-beauty/sequences.parquet"


def ranked_by_hand(sequences, n_items, last, k, excluded):
    """Followers by count, then first occurrence; then popular items."""
    pairs = [pair for s in sequences for pair in zip(s, s[1:], strict=False)]
    followers = Counter(after for before, after in pairs if before == last)
    order = sorted(followers, key=lambda item: (-followers[item], pairs.index((last, item))))
    counts = Counter(item for s in sequences for item in s)
    popular = sorted(range(n_items), key=lambda item: (-counts[item], item))
    joined = order + [item for item in popular if item not in followers]
    items = [item for item in joined if item not in excluded][:k]
    return items, [followers[item] for item in items]


@pytest.mark.parametrize("seed", range(5))
def test_equals_counting_by_hand(seed):
    sequences = random_sequences(seed)
    model = Transition.fit(dataset_of(sequences, 15))
    histories = arrays(*(s[:-1] for s in sequences))
    rankings = model.rank(histories, 8, exclude=histories)
    training = [s[:-2] for s in sequences]
    for ranking, history in zip(rankings, histories, strict=True):
        items, counts = ranked_by_hand(training, 15, history[-1], 8, set(history.tolist()))
        assert ranking.items.tolist() == items
        follows = ranking.scores >= 1
        assert ranking.scores[follows].tolist() == [c for c in counts if c]
        assert (np.diff(ranking.scores) <= 0).all()


def test_pairs_do_not_cross_users():
    model = Transition.fit(dataset_of([[0, 1], [2, 3]], 4, held_out=0))
    (ranking,) = model.rank(arrays([1]), 4)
    assert (ranking.scores < 1).all()


def test_an_empty_history_gets_popular_items():
    dataset = dataset_of(random_sequences(1), 15)
    (ranking,) = Transition.fit(dataset).rank(arrays([]), 5)
    (popular,) = Popularity.fit(dataset).rank(arrays([]), 5)
    assert ranking.items.tolist() == popular.items.tolist()


def test_comes_back_from_disk(tmp_path):
    sequences = random_sequences(2)
    model = Transition.fit(dataset_of(sequences, 15))
    model.save(tmp_path)
    histories = arrays(*sequences)
    again = Transition.load(tmp_path).rank(histories, 9)
    for ranking, other in zip(model.rank(histories, 9), again, strict=True):
        assert ranking.items.tolist() == other.items.tolist()
        assert ranking.scores.tolist() == other.scores.tolist()
    assert model.name == "transition"


def test_unknown_rows_are_refused():
    model = Transition.fit(dataset_of(random_sequences(3), 15))
    with pytest.raises(RequestError, match="history 1 holds catalogue rows from 2 to 15"):
        model.rank(arrays([1], [2, 15]), 3)


@pytest.mark.skipif(not BEAUTY.is_file(), reason="the Amazon 2014 Beauty sequences are not here")
def test_known_figures_on_beauty():
    sequences = pl.read_parquet(BEAUTY)["item_ids"].to_list()
    training = from_lists([s[:-2] for s in sequences])
    histories = arrays(*(s[:-1] for s in sequences))
    target = np.array([s[-1] for s in sequences])
    popularity = Popularity(np.bincount(training.items, minlength=12_101))
    popular = positions(popularity.rank(histories, 10, exclude=histories), target)
    assert f"{(popular < 5).mean():.4f} {(popular < 10).mean():.4f}" == "0.0075 0.0115"
    rankings = Transition.count(training, popularity).rank(histories, 10, exclude=histories)
    # The figures are of followers alone; items that fill the list score below 1.
    followers = positions(rankings, target, least=1.0)
    ndcg = (1 / np.log2(followers + 2)).mean()
    assert f"{(followers < 5).mean():.4f} {(followers < 10).mean():.4f} {ndcg:.4f}" == (
        "0.0486 0.0600 0.0413"
    )
    assert (positions(rankings, target) < 10).mean() > (followers < 10).mean()


def positions(rankings, targets, least=0.0):
    """Place of each target in its list from 0, infinity where it is not."""
    places = np.full(len(targets), np.inf)
    for row, (ranking, target) in enumerate(zip(rankings, targets, strict=True)):
        place = np.flatnonzero((ranking.items == target) & (ranking.scores >= least))
        if len(place):
            places[row] = place[0]
    return places
