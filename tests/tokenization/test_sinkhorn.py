import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from genrec.errors import DataError
from genrec.tokenization.sinkhorn import log_plan, one_thread, uniform_codes


def random_distances(items, codes, seed=0, d=4):
    rng = np.random.default_rng(seed)
    return cdist(rng.normal(size=(items, d)), rng.normal(size=(codes, d)), "sqeuclidean")


def plan_by_hand(distances, epsilon, iterations):
    """Sinkhorn-Knopp as LC-Rec writes it: on the entries themselves, in double precision."""
    middle = (distances.max() + distances.min()) / 2
    scaled = (distances - middle) / (distances.max() - middle)
    plan = np.exp(-scaled / epsilon)
    plan /= plan.sum()
    items, codes = plan.shape
    for _ in range(iterations):
        plan /= plan.sum(axis=1, keepdims=True) * items
        plan /= plan.sum(axis=0, keepdims=True) * codes
    return plan


@pytest.mark.parametrize(("items", "codes"), [(300, 16), (64, 64), (20, 100), (1000, 3)])
@pytest.mark.parametrize("iterations", [1, 2, 50])
def test_agrees_with_the_plan_itself_in_double_precision(items, codes, iterations):
    distances = random_distances(items, codes)
    expected = plan_by_hand(distances, 0.003, iterations)
    for kind, tolerance in ((np.float64, 1e-6), (np.float32, 1e-3)):
        table = torch.from_numpy(distances.astype(kind))
        plan = log_plan(table, 0.003, iterations).exp().numpy()
        np.testing.assert_allclose(plan, expected, rtol=tolerance, atol=1e-9 / items / codes)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_gives_the_code_with_the_largest_entry(kind):
    distances = random_distances(500, 32)
    plan = plan_by_hand(distances, 0.003, 50)
    # With more items than codes the largest entry of a row stands out.
    ordered = np.sort(plan, axis=1)
    clear = ordered[:, -1] > 1.06 * ordered[:, -2]
    assert clear.mean() > 0.95
    codes = uniform_codes(distances.astype(kind))
    np.testing.assert_array_equal(codes[clear], plan.argmax(axis=1)[clear])
    assert codes.dtype == np.int64


def test_float32_holds_where_the_plan_itself_would_overflow():
    distances = random_distances(200, 20).astype(np.float32)
    reach = np.float32((distances.max() - distances.min()) / 2)
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(distances / reach / np.float32(0.003))).any()
    plan = log_plan(torch.from_numpy(distances), 0.003, 50)
    assert plan.dtype == torch.float32
    # The last thing a round does is the columns; the rows are near after fifty.
    np.testing.assert_allclose(plan.exp().sum(0), np.full(20, 1 / 20), rtol=1e-4)
    np.testing.assert_allclose(plan.exp().sum(1), np.full(200, 1 / 200), rtol=0.5)


def test_many_rounds_give_both_marginals():
    plan = log_plan(torch.from_numpy(random_distances(60, 15)), 0.05, 2000).exp().numpy()
    np.testing.assert_allclose(plan.sum(axis=1), np.full(60, 1 / 60), rtol=1e-9)
    np.testing.assert_allclose(plan.sum(axis=0), np.full(15, 1 / 15), rtol=1e-9)


def test_a_sharp_plan_is_the_cheapest_even_assignment():
    distances = random_distances(40, 8)
    codes = uniform_codes(distances, 0.003, 5000)
    seats = np.repeat(distances, 5, axis=1)
    rows, columns = linear_sum_assignment(seats)
    np.testing.assert_array_equal(codes[rows], columns // 5)


def test_codes_are_far_more_even_than_the_nearest():
    distances = random_distances(1024, 64)
    nearest = np.bincount(distances.argmin(axis=1), minlength=64)
    uniform = np.bincount(uniform_codes(distances), minlength=64)
    assert nearest.max() > 40 and nearest.min() < 4
    assert uniform.max() <= 20 and uniform.min() >= 12
    cost = distances[np.arange(1024), uniform_codes(distances)].mean()
    assert distances.min(axis=1).mean() < cost < distances.mean() / 2


def test_equal_items_get_equal_codes_and_ties_the_nearest_then_the_first():
    # All entries of the plan are equal within a column, so that only distance can tell.
    row = np.array([3.0, 1.0, 2.0, 1.0, 5.0])
    assert uniform_codes(np.tile(row, (4, 1))).tolist() == [1, 1, 1, 1]
    assert uniform_codes(np.ones((6, 3))).tolist() == [0] * 6
    assert uniform_codes(np.zeros((2, 3), dtype=np.float32)).tolist() == [0, 0]


def test_a_few_items_among_many_codes_get_near_ones_of_their_own():
    # Each code's mass goes to the item that is relatively nearer; an item takes its nearest of
    # those, although the plan's entries are the same for all of them.
    distances = np.array([[1.0, 2.0, 9.0, 8.0], [1.5, 9.0, 4.0, 3.0]])
    assert uniform_codes(distances).tolist() == [0, 3]


@given(st.integers(1, 60), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_one_item_alone_gets_its_nearest(codes, seed):
    distances = random_distances(1, codes, seed)
    assert uniform_codes(distances).tolist() == [int(distances.argmin())]


def test_many_problems_at_once_are_solved_each_by_itself():
    tables = np.stack([random_distances(7, 12, seed) * 10.0**seed for seed in range(5)])
    codes = uniform_codes(tables)
    assert codes.shape == (5, 7)
    for table, own in zip(tables, codes, strict=True):
        np.testing.assert_array_equal(uniform_codes(table), own)


def test_codes_that_stand_for_nothing_are_given_to_none():
    distances = random_distances(90, 12)
    some = uniform_codes(distances[:, :9])
    distances[:, 9:] = np.inf
    np.testing.assert_array_equal(uniform_codes(distances), some)
    both = np.stack([distances, random_distances(90, 12, 1)])
    np.testing.assert_array_equal(uniform_codes(both)[0], some)
    tensor = torch.from_numpy(distances.astype(np.float32))
    assert int(uniform_codes(tensor).max()) < 9


def test_a_code_too_far_for_one_item_goes_to_others():
    distances = random_distances(30, 5)
    distances[0, :4] = np.inf
    codes = uniform_codes(distances)
    assert codes[0] == 4
    assert np.isfinite(distances[np.arange(30), codes]).all()


def test_distances_that_cannot_be_used_are_refused():
    distances = random_distances(6, 4)
    for bad in (np.nan, np.inf):
        broken = distances.copy()
        broken[2] = bad
        with pytest.raises(DataError, match="NaN, or an item that is infinitely far"):
            uniform_codes(broken)
    broken = distances.copy()
    broken[1, 1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        uniform_codes(torch.from_numpy(broken))


def test_the_number_of_threads_changes_nothing_and_is_put_back():
    distances = random_distances(2000, 128).astype(np.float32)
    before = torch.get_num_threads()
    try:
        codes = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            codes.append(uniform_codes(distances))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])
    with pytest.raises(DataError), one_thread():
        assert torch.get_num_threads() == 1
        raise DataError("stopped")
    assert torch.get_num_threads() == before
