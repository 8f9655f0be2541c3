import numpy as np
import pytest
from sklearn.decomposition import PCA

from genrec.embeddings.whitening import whitened


def given(rows=400, width=12, seed=3):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + 5).astype(np.float32)


@pytest.mark.parametrize("dimensions", [1, 5, 12])
def test_directions_are_those_of_principal_component_analysis(dimensions):
    vectors = given()
    found = whitened(vectors, dimensions)
    expected = PCA(dimensions, whiten=True).fit_transform(vectors.astype(np.float64))
    # Another library divides by n - 1, and a direction may point either way.
    expected *= np.sqrt(len(vectors) / (len(vectors) - 1))
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=2e-3)


def test_every_direction_is_equally_loud():
    found = whitened(given(), 8)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(8), atol=1e-3)


def test_unknown_vectors_stay_zero_and_count_for_nothing():
    vectors = given()
    padded = np.vstack([vectors[:200], np.zeros((50, 12), np.float32), vectors[200:]])
    found = whitened(padded, 6)
    assert not found[200:250].any()
    np.testing.assert_array_equal(np.delete(found, np.s_[200:250], axis=0), whitened(vectors, 6))


def test_no_more_directions_than_there_are():
    flat = given(width=3) @ np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    assert whitened(flat, 8).shape == (400, 3)
    two = np.array([[1, 2, 3], [3, 2, 1]], dtype=np.float32)
    np.testing.assert_allclose(np.abs(whitened(two, 3)), [[1], [1]], rtol=1e-4)


@pytest.mark.parametrize("vectors", [np.zeros((4, 3)), np.ones((4, 3))])
def test_vectors_that_say_nothing_become_zero(vectors):
    found = whitened(vectors.astype(np.float32), 2)
    np.testing.assert_array_equal(found, np.zeros((4, 1), dtype=np.float32))
