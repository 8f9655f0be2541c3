import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genrec.tokenization.item_map import item_map


def clusters(n=60, dimensions=5):
    rng = np.random.default_rng(0)
    cluster = np.arange(n) % 3
    centres = 20 * rng.normal(size=(3, dimensions))
    return cluster, (centres[cluster] + rng.normal(size=(n, dimensions))).astype(np.float32)


def test_like_vectors_lie_together():
    cluster, x = clusters()
    rows, places = item_map(x, seed=1)
    np.testing.assert_array_equal(rows, np.arange(60))
    assert places.shape == (60, 2)
    distance = cdist(places, places)
    np.fill_diagonal(distance, np.inf)
    assert (cluster[distance.argmin(axis=1)] == cluster).mean() > 0.95


def test_the_same_seed_gives_the_same_map():
    _, x = clusters()
    rows, places = item_map(x, seed=1, most=30)
    again, same = item_map(x, seed=1, most=30)
    assert len(set(rows.tolist())) == 30
    np.testing.assert_array_equal(rows, again)
    np.testing.assert_array_equal(places, same)
    other, _ = item_map(x, seed=2, most=30)
    assert (rows != other).any()


@pytest.mark.parametrize("dimensions", [1, 2])
def test_vectors_of_few_numbers_have_a_map(dimensions):
    _, x = clusters(dimensions=dimensions)
    assert np.isfinite(item_map(x, seed=1)[1]).all()


def test_there_is_no_map_of_too_few_or_equal_items():
    assert item_map(clusters()[1][:9], seed=1) is None
    assert item_map(np.ones((30, 4), dtype=np.float32), seed=1) is None
