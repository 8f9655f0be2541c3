import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from genrec.tokenization import kmeans
from genrec.tokenization.balanced import bounded_codes, capacity, fit_bounded_codebook
from genrec.tokenization.kmeans import fit_codebook, one_thread


def vectors(n=300, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def bounded(x, codebook, most):
    with one_thread():
        return bounded_codes(lambda rows: x[rows], len(x), codebook, most)


def fitted(x, codes, iterations=30):
    with one_thread():
        return fit_bounded_codebook(x, codes, iterations=iterations, restarts=1, seed=0)


def by_hand(x, codebook, most):
    """The declared rounds, one item and one code at a time."""
    table = cdist(x, codebook, "sqeuclidean")
    is_open = set(range(len(codebook)))

    def best(item):
        return min(is_open, key=lambda code: (table[item][code], code))

    codes = [best(item) for item in range(len(x))]
    while crowded := {code for code in is_open if codes.count(code) > most}:
        is_open -= crowded
        moves = {}
        for code in crowded:
            holders = [item for item in range(len(x)) if codes[item] == code]
            holders.sort(key=lambda item: (table[item][code] - table[item][best(item)], item))
            moves |= {item: best(item) for item in holders[most:]}
        for item, code in moves.items():
            codes[item] = code
    return codes


@st.composite
def crowds(draw):
    """Small whole numbers, so that distances tie and no sum rounds."""
    n, codes = draw(st.integers(1, 60)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1, 4, 50]))
    x = rng.integers(0, spread + 1, size=(n, 2)).astype(np.float32)
    return x, rng.integers(0, spread + 1, size=(codes, 2)).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(crowds(), st.integers(0, 3), st.integers(1, 9))
def test_agrees_with_the_rounds_by_hand(crowd, slack, block_rows):
    x, codebook = crowd
    most = capacity(len(x), len(codebook)) + slack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "BLOCK_ROWS", block_rows)
        code, distance = bounded(x, codebook, most)
    np.testing.assert_array_equal(code, by_hand(x, codebook, most))
    assert np.bincount(code).max() <= most
    np.testing.assert_array_equal(distance, ((x - codebook[code]) ** 2).sum(axis=1))


def test_the_bound_is_the_equal_share():
    assert [capacity(items, 4) for items in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


def test_without_a_crowd_everyone_has_the_nearest():
    x, codebook = vectors(), vectors(n=7, seed=1)
    code, _ = bounded(x, codebook, len(x))
    np.testing.assert_array_equal(code, cdist(x, codebook).argmin(axis=1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_rounds_come_near_the_cheapest_assignment(seed):
    x = vectors(n=240, seed=seed)
    codebook = fitted(x, 8)
    _, distance = bounded(x, codebook, 30)
    places = cdist(x, codebook.repeat(30, axis=0), "sqeuclidean")
    rows, columns = linear_sum_assignment(places)
    cheapest = places[rows, columns].sum()
    # No assignment within the bounds costs less.
    assert cheapest * (1 - 1e-5) <= distance.sum() <= 1.03 * cheapest


def test_items_in_another_order_get_the_same_codes():
    x, codebook = vectors(n=500), vectors(n=9, seed=1)
    order = np.random.default_rng(2).permutation(len(x))
    code, _ = bounded(x, codebook, 56)
    shuffled, _ = bounded(x[order], codebook, 56)
    np.testing.assert_array_equal(shuffled, code[order])


def test_refining_beats_bounded_codes_of_plain_centroids():
    # Three quarters of the items lie in one of four places.
    x = vectors(n=400) / 4
    x[300:] += np.float32([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]]).repeat([34, 33, 33], axis=0)
    with one_thread():
        plain = fit_codebook(x, 8, iterations=30, restarts=1, seed=0)
    refined = fitted(x, 8)
    _, before = bounded(x, plain, 50)
    code, after = bounded(x, refined, 50)
    assert after.sum() < 0.9 * before.sum()
    assert np.bincount(code, minlength=8).tolist() == [50] * 8
    # Where it ends nearly nothing moves: a centroid is the mean of its items.
    for k in range(8):
        np.testing.assert_allclose(refined[k], x[code == k].mean(axis=0), atol=0.4)


def test_a_vector_of_many_items_has_several_codes():
    place = np.float32([[0, 0], [5, 0], [9, 9]])
    x = place.repeat([70, 20, 10], axis=0)
    codebook = fitted(x, 10)
    found, copies = np.unique(codebook, axis=0, return_counts=True)
    np.testing.assert_array_equal(found, place)
    assert copies.tolist() == [7, 2, 1]
    code, distance = bounded(x, codebook, 10)
    assert np.bincount(code).tolist() == [10] * 10
    assert distance.max() == 0


def test_where_equal_vectors_leave_no_room_the_nearest_codes_take_the_rest():
    # 3 + 3 items, two codes have room for two each: ceil(6 / 4) = 2 needs both vectors twice.
    x = np.float32([[0, 0]] * 3 + [[9, 0]] * 3 + [[4, 0]])
    codebook = fitted(x, 4)
    code, _ = bounded(x, codebook, capacity(7, 4))
    assert len(codebook) == 4
    assert np.bincount(code).max() <= 2


@pytest.mark.parametrize("n", [1, 3, 5])
def test_fewer_items_than_codes_have_one_each(n):
    for x in (vectors(n=n), np.zeros((n, 4), dtype=np.float32)):
        codebook = fitted(x, 6)
        code, distance = bounded(x, codebook, capacity(n, 6))
        assert sorted(code.tolist()) == list(range(n))
        assert distance.max() == 0
