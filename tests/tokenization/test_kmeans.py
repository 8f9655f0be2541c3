import faiss
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genrec.errors import DataError
from genrec.tokenization import kmeans
from genrec.tokenization.kmeans import (
    blocks,
    checked,
    distinct_rows,
    fit_codebook,
    nearest,
    not_empty,
    one_thread,
    quantized,
    sample_rows,
)


def vectors(n=400, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def spoiled(value, dtype):
    x = np.ones((30, 4), dtype=dtype)
    x[23, 2] = value
    return x


@pytest.mark.parametrize(
    "x",
    [
        spoiled(np.nan, np.float32),
        spoiled(np.inf, np.float32),
        spoiled(-np.inf, np.float16),
        spoiled(1e30, np.float32),
        spoiled(1e300, np.float64),
    ],
)
def test_a_row_that_cannot_be_clustered_is_named_even_in_a_late_block(x, monkeypatch):
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 7)
    with pytest.raises(DataError, match=r"NaN or infinite values, or .* first in row 23;"):
        checked(x, None)


def test_other_shapes_and_types_are_refused():
    with pytest.raises(DataError, match=r"shape \(3,\), expected \[items, dimensions\]"):
        checked(np.zeros(3, dtype=np.float32), None)
    with pytest.raises(DataError, match=r"shape \(2, 3\), expected \[items, 4\]"):
        checked(np.zeros((2, 3), dtype=np.float32), 4)
    with pytest.raises(DataError, match="type <U1"):
        checked(np.array([["a", "b"]]), None)
    with pytest.raises(DataError, match="type complex64"):
        checked(np.zeros((2, 3), dtype=np.complex64), None)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_learn_from_is_refused(shape):
    with pytest.raises(DataError, match="there are no vectors to learn codes from"):
        not_empty(np.zeros(shape, dtype=np.float32))


def test_a_good_table_is_returned_as_it_is(tmp_path):
    np.save(tmp_path / "x.npy", vectors().astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert checked(mapped, 8) is mapped
    long = np.full((1, 1), 6e18, dtype=np.float32)
    assert checked(long, 1) is long


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 25])
def test_blocks_hold_every_row_once(n, monkeypatch):
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 10)
    parts = blocks(n)
    assert [row for part in parts for row in range(n)[part]] == list(range(n))
    assert all(part.stop - part.start <= 10 for part in parts)


def test_a_sample_has_256_vectors_a_code():
    assert sample_rows(512, 2, seed=0).tolist() == list(range(512))
    rows = sample_rows(2000, 2, seed=0)
    assert len(np.unique(rows)) == len(rows) == 512
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] and rows[-1] < 2000
    np.testing.assert_array_equal(rows, sample_rows(2000, 2, seed=0))
    assert (rows != sample_rows(2000, 2, seed=1)).any()


def test_equal_rows_are_found():
    x = np.random.default_rng(0).integers(-1, 2, size=(200, 3)).astype(np.float32)
    x[::2][x[::2] == 0] = -0.0
    first, inverse = distinct_rows(x)
    assert len(first) == len(np.unique(x, axis=0)) == 27
    np.testing.assert_array_equal(x[first][inverse], x)
    for place, row in enumerate(first):
        assert (x[:row] != x[row]).any(axis=1).all()
        assert (inverse == place).sum() == (x == x[row]).all(axis=1).sum()
    order = np.random.default_rng(1).permutation(len(x))
    shuffled, _ = distinct_rows(x[order])
    np.testing.assert_array_equal(x[order][shuffled], x[first])


def test_the_nearest_centroid_is_found():
    x, codebook = vectors(n=500), vectors(n=30, seed=1)
    with one_thread():
        code, distance = nearest(x, codebook)
    table = cdist(x.astype(np.float64), codebook.astype(np.float64), "sqeuclidean")
    np.testing.assert_array_equal(code, table.argmin(axis=1))
    np.testing.assert_allclose(distance, table.min(axis=1), rtol=1e-4)


def fitted(x, codes):
    with one_thread():
        return fit_codebook(x, codes, iterations=20, restarts=2, seed=3)


def test_few_distinct_vectors_are_their_own_centroids():
    distinct = vectors(n=6)
    np.testing.assert_array_equal(
        fitted(distinct.repeat(50, axis=0), 6), np.unique(distinct, axis=0)
    )


def test_distinct_vectors_are_seen_even_behind_many_equal_ones():
    few = np.vstack([np.zeros((100, 8), dtype=np.float32), 5 + vectors(n=7)])
    np.testing.assert_array_equal(fitted(few, 8), np.unique(few, axis=0))
    more = np.vstack([few, 5 + vectors(n=1, seed=1)])
    assert len(fitted(more, 8)) == 8


@pytest.mark.parametrize("shared", [0, 3])
def test_no_code_is_lost_to_equal_vectors(shared):
    x = np.vstack([np.full((500, 8), shared, dtype=np.float32), vectors(n=500)])
    code = cdist(x, fitted(x, 16)).argmin(axis=1)
    assert len(np.unique(code)) == 16
    # The shared vector has a code of its own: it weighs as much as all others together.
    assert len(np.unique(code[:500])) == 1


def test_the_centroids_are_means_of_their_vectors():
    x = vectors(n=600, d=3)
    codebook = fitted(x, 5)
    code = cdist(x, codebook).argmin(axis=1)
    for k in range(5):
        np.testing.assert_allclose(codebook[k], x[code == k].mean(axis=0), atol=0.05)


def test_threads_are_as_before_even_after_an_error():
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        with pytest.raises(RuntimeError), one_thread():
            assert faiss.omp_get_max_threads() == 1
            raise RuntimeError
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_the_loss_is_the_mean_squared_distance(monkeypatch):
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 7)
    x, stood_for = vectors(n=20), vectors(n=20, seed=1)
    codes = np.zeros((20, 1), dtype=np.int32)
    result = quantized(x, codes, stood_for)
    expected = ((x.astype(np.float64) - stood_for) ** 2).sum(axis=1).mean()
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert quantized(x[:0], codes[:0], stood_for[:0]).loss == 0
