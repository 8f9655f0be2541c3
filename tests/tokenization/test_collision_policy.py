"""Every policy against plain loops, and on catalogues that leave it little room."""

from collections import defaultdict
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.config_index import IndexConfig
from genrec.errors import ConfigError, DataError
from genrec.tokenization import collision_policy, collisions
from genrec.tokenization.collision_policy import Policy, settle
from genrec.tokenization.collisions import resolve
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.sinkhorn import uniform_codes

POLICIES = get_args(Policy)
ONE_TO_ONE = [policy for policy in POLICIES if policy != "shared"]


@st.composite
def crowds(draw):
    """Codes with many collisions; distances with ties, equal items and codes for nothing."""
    n = draw(st.integers(1, 30))
    levels = draw(st.integers(1, 3))
    size = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = rng.integers(0, [2] * (levels - 1) + [size], size=(n, levels)).astype(np.int32)
    table = rng.integers(0, draw(st.sampled_from([1, 3, 10**6])), size=(n, size)).astype(np.float64)
    table = table[rng.integers(0, n, size=n)] if draw(st.booleans()) else table
    spare = draw(st.integers(0, size - 1))
    table[:, size - spare :] = np.inf
    codes[:, -1] = np.argmin(table, axis=1)
    ids = [f"id{number}" for number in rng.permutation(n)]
    return codes, (2,) * (levels - 1) + (size,), ids, table


def same_tuple(codes, ids):
    """Group rows by tuple; smaller ids first."""
    groups = defaultdict(list)
    for row in sorted(range(len(codes)), key=lambda row: ids[row]):
        groups[tuple(codes[row])].append(row)
    return groups


def spread_by_hand(codes, ids, table):
    """LC-Rec's rounds, one group at a time."""
    codes = codes.copy()
    for _ in range(20):
        after = codes.copy()
        for rows in same_tuple(codes.tolist(), ids).values():
            if any(table[row].tolist() != table[rows[0]].tolist() for row in rows):
                after[rows, -1] = uniform_codes(table[rows], 0.003, 50)
        if (after == codes).all():
            break
        codes = after
    return codes


@settings(max_examples=60, deadline=None)
@given(crowds())
def test_sinkhorn_agrees_with_one_group_at_a_time(crowd):
    codes, sizes, ids, table = crowd
    resolution = settle(codes, sizes, ids, "sinkhorn", lambda rows: table[rows])
    spread = spread_by_hand(codes, ids, table)
    expected = resolve(spread, sizes, ids, lambda rows: table[rows])
    if len(same_tuple(codes.tolist(), ids)) == len(codes):
        np.testing.assert_array_equal(resolution.codes, codes)
        return
    np.testing.assert_array_equal(resolution.codes, expected.codes)
    assert resolution.level_sizes == expected.level_sizes
    last = resolution.codes[:, codes.shape[1] - 1]
    moved = [row for row in range(len(codes)) if last[row] != codes[row, -1]]
    assert np.flatnonzero(resolution.moved).tolist() == moved
    assert resolution.before.tolist() == [table[row, codes[row, -1]] for row in moved]
    assert resolution.after.tolist() == [table[row, last[row]] for row in moved]


@settings(max_examples=200, deadline=None)
@given(crowds(), st.booleans())
def test_extra_digit_counts_the_items_of_a_tuple(crowd, measured):
    codes, sizes, ids, table = crowd
    distances = (lambda rows: table[rows]) if measured else None
    resolution = settle(codes, sizes, ids, "extra_digit", distances)
    groups = same_tuple(codes.tolist(), ids)
    most = max(map(len, groups.values()))
    if most == 1:
        np.testing.assert_array_equal(resolution.codes, codes)
        assert resolution.level_sizes == sizes
        return
    for rows in groups.values():
        nearest_first = sorted(rows, key=lambda row: table[row, codes[row, -1]] if measured else 0)
        for digit, row in enumerate(nearest_first):
            assert resolution.codes[row].tolist() == [*codes[row].tolist(), digit]
    assert resolution.level_sizes == (*sizes, most)
    assert resolution.moves == 0
    assert resolution.added_distance is None


@settings(max_examples=100, deadline=None)
@given(crowds())
def test_nearest_free_is_the_policy_of_that_module(crowd):
    codes, sizes, ids, table = crowd
    found = settle(codes, sizes, ids, "nearest_free", lambda rows: table[rows])
    expected = resolve(codes, sizes, ids, lambda rows: table[rows])
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.after, expected.after)
    assert found.level_sizes == expected.level_sizes


@settings(max_examples=50, deadline=None)
@given(crowds())
def test_shared_changes_nothing_and_says_so(crowd):
    codes, sizes, ids, _ = crowd
    resolution = settle(codes, sizes, ids, "shared", lambda rows: pytest.fail("not needed"))
    np.testing.assert_array_equal(resolution.codes, codes)
    assert resolution.level_sizes == sizes
    assert resolution.shared
    assert resolution.moves == 0


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=30, deadline=None)
@given(crowd=crowds(), seed=st.integers(0, 2**32 - 1))
def test_items_in_another_order_get_the_same_codes(policy, crowd, seed):
    codes, sizes, ids, table = crowd
    order = np.random.default_rng(seed).permutation(len(codes))
    straight = settle(codes, sizes, ids, policy, lambda rows: table[rows])
    shuffled = settle(
        codes[order], sizes, [ids[row] for row in order], policy, lambda rows: table[order][rows]
    )
    np.testing.assert_array_equal(shuffled.codes, straight.codes[order])
    np.testing.assert_array_equal(shuffled.moved, straight.moved[order])


@pytest.mark.parametrize("policy", ONE_TO_ONE)
@settings(max_examples=30, deadline=None)
@given(crowd=crowds())
def test_every_item_gets_a_tuple_within_the_levels(policy, crowd):
    codes, sizes, ids, table = crowd
    resolution = settle(codes, sizes, ids, policy, lambda rows: table[rows])
    assert len(same_tuple(resolution.codes.tolist(), ids)) == len(codes)
    assert (resolution.codes >= 0).all()
    assert (resolution.codes < np.array(resolution.level_sizes)).all()
    assert resolution.codes.dtype == np.int32
    levels = codes.shape[1]
    np.testing.assert_array_equal(resolution.codes[:, : levels - 1], codes[:, : levels - 1])
    assert not resolution.shared


def test_two_items_that_share_go_separate_ways():
    """Each is nearest to code 0 and second nearest to another; an even plan uses both."""
    codes = np.array([[3, 0], [3, 0]], dtype=np.int32)
    table = np.array([[1.0, 2.0, 9.0, 9.0], [1.0, 9.0, 2.0, 9.0]])
    resolution = settle(codes, (4, 4), ["a", "b"], "sinkhorn", lambda rows: table[rows])
    assert resolution.codes.tolist() == [[3, 1], [3, 2]]
    assert resolution.added_distance == (2.0 + 2.0 - 1.0 - 1.0) / (1.0 + 1.0)


@pytest.mark.parametrize("policy", ["nearest_free", "sinkhorn"])
def test_without_distances_a_policy_that_moves_is_refused(policy):
    codes = np.array([[0, 1], [0, 1], [0, 1], [1, 1]], dtype=np.int32)
    with pytest.raises(ConfigError, match=f"{policy}, but 3 items share .*: extra_digit or shared"):
        settle(codes, (2, 2), list("abcd"), policy, None)


@pytest.mark.parametrize("policy", POLICIES)
def test_without_collisions_distances_are_not_missed(policy):
    codes = np.array([[0, 1], [0, 0], [1, 1]], dtype=np.int32)
    resolution = settle(codes, (2, 2), list("abc"), policy, None)
    np.testing.assert_array_equal(resolution.codes, codes)
    assert resolution.level_sizes == (2, 2)
    assert resolution.moves == 0


def test_without_distances_the_digit_counts_by_item_id():
    codes = np.zeros((3, 1), dtype=np.int32)
    resolution = settle(codes, (1,), ["c", "a", "b"], "extra_digit", None)
    assert resolution.codes.tolist() == [[0, 2], [0, 0], [0, 1]]
    assert resolution.level_sizes == (1, 3)


@pytest.mark.parametrize("policy", ONE_TO_ONE)
def test_thousands_of_identical_vectors(policy):
    """Equal distances: the ids decide, in order, and every tuple is used once."""
    n, size = 5000, 16
    codes = np.zeros((n, 2), dtype=np.int32)
    ids = [f"{number:05d}" for number in range(n)]
    row = np.arange(size, dtype=np.float64)
    resolution = settle(codes, (4, size), ids, policy, lambda rows: np.tile(row, (len(rows), 1)))
    room = n if policy == "extra_digit" else -(-n // size)
    assert resolution.level_sizes == (4, size, room)
    expected = [(0, number // room, number % room) for number in range(n)]
    assert list(map(tuple, resolution.codes.tolist())) == expected


def test_thousands_of_nearly_identical_vectors_are_spread():
    rng = np.random.default_rng(0)
    n, size = 600, 32
    table = rng.random((n, size)) * 1e-9 + 1
    codes = np.zeros((n, 1), dtype=np.int32)
    resolution = settle(codes, (size,), [str(i) for i in range(n)], "sinkhorn", lambda r: table[r])
    assert resolution.level_sizes == (size, -(-n // size))
    assert len(np.unique(resolution.codes, axis=0)) == n


@pytest.mark.parametrize("policy", ONE_TO_ONE)
def test_a_last_level_of_one_code_leaves_all_to_the_digit(policy):
    table = np.array([[5.0], [1.0], [3.0], [0.0]])
    codes = np.array([[0, 0], [0, 0], [0, 0], [1, 0]], dtype=np.int32)
    resolution = settle(codes, (2, 1), list("abcd"), policy, lambda rows: table[rows])
    assert resolution.codes.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert resolution.level_sizes == (2, 1, 3)
    assert resolution.moves == 0


@pytest.mark.parametrize("policy", ONE_TO_ONE)
def test_more_items_than_codes_get_a_digit_more(policy):
    rng = np.random.default_rng(4)
    n, sizes = 50, (2, 3)
    codes = rng.integers(0, sizes, size=(n, 2)).astype(np.int32)
    table = rng.random((n, 3))
    resolution = settle(codes, sizes, [str(i) for i in range(n)], policy, lambda r: table[r])
    assert len(resolution.level_sizes) == 3
    assert len(np.unique(resolution.codes, axis=0)) == n


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n", [0, 1])
def test_a_catalogue_of_none_or_one_needs_nothing(policy, n):
    codes = np.full((n, 2), 1, dtype=np.int32)
    resolution = settle(codes, (2, 2), ["a"][:n], policy, lambda rows: pytest.fail("not needed"))
    assert resolution.codes.tolist() == [[1, 1]][:n]
    assert resolution.level_sizes == (2, 2)


@pytest.mark.parametrize("policy", ["sinkhorn", "extra_digit"])
def test_many_batches_are_as_good_as_one(policy, monkeypatch):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, [40, 8], size=(250, 2)).astype(np.int32)
    table = rng.random((250, 8))
    ids = [str(number) for number in range(250)]
    whole = settle(codes, (40, 8), ids, policy, lambda rows: table[rows])
    longest = []

    def distances(rows):
        longest.append(len(rows))
        return table[rows]

    monkeypatch.setattr(collisions, "DISTANCES_AT_ONCE", 8 * 8)
    monkeypatch.setattr(collision_policy, "DISTANCES_AT_ONCE", 8 * 8)
    pieces = settle(codes, (40, 8), ids, policy, distances)
    np.testing.assert_array_equal(pieces.codes, whole.codes)
    np.testing.assert_array_equal(pieces.after, whole.after)
    assert len(longest) > 5
    assert max(longest) < 30


@pytest.mark.parametrize("policy", ONE_TO_ONE)
def test_codes_of_a_quantizer_are_settled_with_its_distances(policy):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    x[50:60] = x[0]
    quantizer = ResidualKMeans(2, 16, seed=3).fit(x)
    raw = quantizer.encode(x).codes
    ids = [str(number) for number in range(len(x))]
    resolution = settle(
        raw, (16, 16), ids, policy, lambda rows: quantizer.distances(x[rows], raw[rows, :-1])
    )
    assert len(np.unique(resolution.codes, axis=0)) == len(x)
    moved = np.flatnonzero(resolution.moved)
    for which, codes in (("before", raw), ("after", resolution.codes[:, :2])):
        meant = quantizer.decode(codes[moved].astype(np.int32))
        expected = ((x[moved].astype(np.float64) - meant) ** 2).sum(axis=1)
        measured = getattr(resolution, which)
        known = np.isfinite(measured)
        np.testing.assert_allclose(measured[known], expected[known], rtol=1e-4, atol=1e-6)
    assert (policy == "extra_digit") == (len(moved) == 0)


def test_progress_goes_to_standard_error(capsys):
    codes = np.zeros((2, 1), dtype=np.int32)
    table = np.array([[1.0, 2.0, 9.0], [1.0, 9.0, 2.0]])
    settle(codes, (3,), ["a", "b"], "sinkhorn", lambda rows: table[rows], quiet=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Spread items" in shown.err


def test_the_policies_are_those_of_the_recipe():
    named, none = get_args(IndexConfig.model_fields["collisions"].annotation)
    assert get_args(named) == POLICIES
    assert none is type(None)


def test_bad_input_is_refused():
    codes = np.zeros((2, 2), dtype=np.int32)
    with pytest.raises(ConfigError, match="index.collisions is 'swap', expected one of nearest"):
        settle(codes, (2, 2), ["a", "b"], "swap", None)
    with pytest.raises(DataError, match=r"shape \(2, 2\) for 3 level sizes"):
        settle(codes, (2, 2, 2), ["a", "b"], "shared", None)
    with pytest.raises(DataError, match="at least one level"):
        settle(codes[:, :0], (), ["a", "b"], "shared", None)
    with pytest.raises(DataError, match="'a' occurs more than once"):
        settle(codes, (2, 2), ["a", "a"], "shared", None)
    with pytest.raises(DataError, match="1 item ids for 2 rows"):
        settle(codes, (2, 2), ["a"], "extra_digit", None)
