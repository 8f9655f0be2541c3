from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.errors import DataError
from genrec.tokenization import collisions
from genrec.tokenization.collisions import dense_ids, resolve


def by_hand(codes, size, ids, table):
    """The declared policy, one pair at a time."""
    items = sorted(range(len(codes)), key=lambda i: tuple(codes[i][:-1]))
    answer, rooms = {}, [1]
    for prefix, members in groupby(items, key=lambda i: tuple(codes[i][:-1])):
        members = list(members)
        room = -(-len(members) // size)
        rooms.append(room)
        placed = {code: [] for code in range(size)}
        waiting = []
        for code in range(size):
            same = sorted(
                (i for i in members if codes[i][-1] == code), key=lambda i: (table[i][code], ids[i])
            )
            placed[code] = same[:room]
            waiting += same[room:]
        pairs = sorted((table[i][code], ids[i], code, i) for i in waiting for code in range(size))
        for _, _, code, i in pairs:
            if i in waiting and len(placed[code]) < room:
                placed[code].append(i)
                waiting.remove(i)
        for code, holders in placed.items():
            holders.sort(key=lambda i: (table[i][code], ids[i]))
            for digit, i in enumerate(holders):
                answer[i] = (*prefix, code, digit)
    extra = max(rooms)
    rows = [answer[i] if extra > 1 else answer[i][:-1] for i in range(len(codes))]
    return np.array(rows), extra


@st.composite
def crowds(draw):
    """Codes with many collisions; distances with ties; some codes that stand for nothing."""
    n = draw(st.integers(1, 40))
    levels = draw(st.integers(1, 3))
    size = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = rng.integers(0, [2] * (levels - 1) + [size], size=(n, levels)).astype(np.int32)
    values = draw(st.sampled_from([1, 3, 1000]))
    table = rng.integers(0, values, size=(n, size)).astype(np.float64)
    spare = draw(st.integers(0, size - 1))
    table[:, size - spare :] = np.inf
    codes[:, -1] = np.argmin(table, axis=1)
    ids = [f"id{number}" for number in rng.permutation(n)]
    return codes, size, ids, table


@settings(max_examples=300, deadline=None)
@given(crowds())
def test_agrees_with_the_policy_applied_by_hand(crowd):
    codes, size, ids, table = crowd
    sizes = (2,) * (codes.shape[1] - 1) + (size,)
    resolution = resolve(codes, sizes, ids, lambda rows: table[rows])
    expected, extra = by_hand(codes, size, ids, table)
    np.testing.assert_array_equal(resolution.codes, expected)
    assert resolution.level_sizes == (sizes if extra == 1 else (*sizes, extra))
    assert resolution.codes.dtype == np.int32
    assert len(np.unique(resolution.codes, axis=0)) == len(codes)
    levels = codes.shape[1]
    np.testing.assert_array_equal(resolution.codes[:, : levels - 1], codes[:, : levels - 1])
    last = resolution.codes[:, levels - 1]
    moved = np.flatnonzero(last != codes[:, levels - 1])
    np.testing.assert_array_equal(np.flatnonzero(resolution.moved), moved)
    assert resolution.before.tolist() == [table[i, codes[i, -1]] for i in moved]
    assert resolution.after.tolist() == [table[i, last[i]] for i in moved]
    assert not resolution.shared


@settings(max_examples=100, deadline=None)
@given(crowds(), st.integers(0, 2**32 - 1))
def test_items_in_another_order_get_the_same_codes(crowd, seed):
    codes, size, ids, table = crowd
    sizes = (2,) * (codes.shape[1] - 1) + (size,)
    order = np.random.default_rng(seed).permutation(len(codes))
    straight = resolve(codes, sizes, ids, lambda rows: table[rows])
    shuffled = resolve(
        codes[order], sizes, [ids[i] for i in order], lambda rows: table[order][rows]
    )
    np.testing.assert_array_equal(shuffled.codes, straight.codes[order])


def test_the_nearest_keeps_its_code_and_the_other_takes_the_nearest_free_one():
    codes = np.array([[7, 1], [7, 1], [7, 2], [5, 1]], dtype=np.int32)
    table = np.array(
        [[9.0, 4.0, 5.0, 6.0], [9.0, 3.0, 5.0, 6.0], [9.0, 9.0, 1.0, 9.0], [9.0, 1.0, 9.0, 9.0]]
    )
    resolution = resolve(codes, (8, 4), ["a", "b", "c", "d"], lambda rows: table[rows])
    # Row 1 is nearer to code 1; row 0 would like code 2 next, which is taken, and gets 3.
    assert resolution.codes.tolist() == [[7, 3], [7, 1], [7, 2], [5, 1]]
    assert resolution.moved.tolist() == [True, False, False, False]
    assert resolution.moves == 1
    assert resolution.added_distance == (6.0 - 4.0) / 4.0
    assert resolution.level_sizes == (8, 4)


def test_the_way_of_the_movers_leaves_out_codes_that_stand_for_nothing():
    codes = np.array([[0], [0], [0]], dtype=np.int32)
    table = np.array([[1.0, 9.0, np.inf], [2.0, 3.0, np.inf], [8.0, 9.0, np.inf]])
    resolution = resolve(codes, (3,), list("abc"), lambda rows: table[rows])
    assert resolution.codes[:, 0].tolist() == [0, 1, 2]
    assert resolution.after.tolist() == [3.0, np.inf]
    assert (resolution.moves, resolution.spare_moves) == (2, 1)
    assert resolution.added_distance == (3.0 - 2.0) / 2.0


def test_without_a_way_to_compare_there_is_no_figure():
    codes = np.zeros((2, 1), dtype=np.int32)
    on_the_spot = resolve(codes, (2,), list("ab"), lambda rows: np.array([[0.0, 1.0]] * 2)[rows])
    assert on_the_spot.moves == 1
    assert on_the_spot.added_distance is None
    none_moved = resolve(codes[:1], (2,), ["a"], lambda rows: pytest.fail("not needed"))
    assert none_moved.added_distance is None


def test_codes_at_the_same_distance_are_taken_in_order():
    n, size = 90, 100
    codes = np.zeros((n, 1), dtype=np.int32)
    ids = [f"{number:02d}" for number in range(n)]
    table = np.full((n, size), np.inf)
    table[:, :30] = 1.0
    resolution = resolve(codes, (size,), ids, lambda rows: table[rows])
    # Codes that stand for no vector come after those that do, by their number.
    assert resolution.codes[:, 0].tolist() == list(range(n))


def test_distances_are_asked_only_for_prefixes_with_a_collision():
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [1, 3]], dtype=np.int32)
    asked = []

    def distances(rows):
        asked.extend(rows.tolist())
        return np.ones((len(rows), 4))

    resolve(codes, (2, 4), list("abcde"), distances)
    assert sorted(asked) == [2, 3, 4]


def test_without_collisions_nothing_changes():
    codes = np.array([[0, 0], [0, 1], [1, 0]], dtype=np.int32)
    resolution = resolve(codes, (2, 2), list("abc"), lambda rows: pytest.fail("not needed"))
    np.testing.assert_array_equal(resolution.codes, codes)
    assert resolution.moves == 0


def test_thousands_of_identical_vectors_fill_all_codes_evenly():
    n, size = 3000, 16
    codes = np.zeros((n, 2), dtype=np.int32)
    ids = [f"{number:05d}" for number in range(n)]
    row = np.arange(size, dtype=np.float64)
    resolution = resolve(codes, (4, size), ids, lambda rows: np.tile(row, (len(rows), 1)))
    room = -(-n // size)
    assert resolution.level_sizes == (4, size, room)
    # Equal distances: the ids decide, in order; each code takes its room before the next.
    expected = [(0, number // room, number % room) for number in range(n)]
    assert list(map(tuple, resolution.codes.tolist())) == expected


def test_a_full_prefix_gives_every_item_one_digit_more():
    codes = np.array([[0, 0]] * 3 + [[1, 1]], dtype=np.int32)
    table = np.array([[1.0, 8.0], [2.0, 5.0], [3.0, 4.0], [9.0, 0.0]])
    resolution = resolve(codes, (2, 2), list("abcd"), lambda rows: table[rows])
    assert resolution.codes.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]]
    assert resolution.level_sizes == (2, 2, 2)


def test_a_level_of_one_code_leaves_all_to_the_digit():
    table = np.array([[5.0], [1.0], [3.0], [0.0]])
    codes = np.array([[0, 0], [0, 0], [0, 0], [1, 0]], dtype=np.int32)
    resolution = resolve(codes, (2, 1), list("abcd"), lambda rows: table[rows])
    assert resolution.codes.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert resolution.level_sizes == (2, 1, 3)
    assert resolution.moves == 0


def test_many_batches_are_as_good_as_one(monkeypatch):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, [40, 8], size=(250, 2)).astype(np.int32)
    table = rng.random((250, 8))
    ids = [str(number) for number in range(250)]
    calls = []

    def distances(rows):
        calls.append(len(rows))
        return table[rows]

    whole = resolve(codes, (40, 8), ids, distances)
    assert len(calls) == 1
    calls.clear()
    monkeypatch.setattr(collisions, "DISTANCES_AT_ONCE", 10 * 8)
    np.testing.assert_array_equal(resolve(codes, (40, 8), ids, distances).codes, whole.codes)
    assert len(calls) > 5


def test_an_empty_catalogue_is_no_error():
    resolution = resolve(np.zeros((0, 3), dtype=np.int32), (4, 4, 4), [], lambda rows: rows)
    assert resolution.codes.shape == (0, 3)
    assert resolution.level_sizes == (4, 4, 4)


def test_ids_that_cannot_break_ties_are_refused():
    codes = np.zeros((2, 2), dtype=np.int32)
    with pytest.raises(DataError, match="'x' occurs more than once"):
        resolve(codes, (2, 2), ["x", "x"], lambda rows: np.ones((2, 2)))
    with pytest.raises(DataError, match="1 item ids for 2 rows"):
        resolve(codes, (2, 2), ["x"], lambda rows: np.ones((2, 2)))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_dense_ids_number_rows_like_numpy_unique(seed, levels):
    codes = np.random.default_rng(seed).integers(0, 3, size=(30, levels)).astype(np.int32)
    codes *= 2**28
    expected = np.unique(codes, axis=0, return_inverse=True)[1]
    np.testing.assert_array_equal(dense_ids(codes), expected)
