import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genrec.tokenization.ragged import OVER, count_within, pad, pad_and_close, to_table

tuples = st.lists(st.lists(st.integers(0, 5), max_size=4).map(tuple), max_size=12)


def read_back(codes, level_sizes, ends):
    """Cut every row at its first END; a level without END has none to cut at."""
    rows = []
    for row in codes.tolist():
        over = [i for i, code in enumerate(row) if ends[i] and code == level_sizes[i] - 1]
        first = min(over, default=len(row))
        assert over == list(range(first, len(row)))
        rows.append(tuple(row[:first]))
    return rows


@given(tuples)
def test_padded_tuples_can_be_read_back(tuples):
    codes, level_sizes = pad(to_table(tuples))
    longest = max(map(len, tuples), default=0)
    assert codes.dtype == np.int32
    assert codes.shape == (len(tuples), longest)
    ends = [any(len(t) <= level for t in tuples) for level in range(longest)]
    for level, size in enumerate(level_sizes):
        values = {t[level] for t in tuples if len(t) > level}
        assert size == max(values) + 1 + ends[level]
    assert read_back(codes, level_sizes, ends) == tuples


@given(tuples)
def test_the_table_holds_the_tuples_and_nothing_else(tuples):
    table = to_table(tuples)
    assert len(table) == len(tuples)
    for row, expected in zip(table.tolist(), tuples, strict=True):
        assert tuple(row[: len(expected)]) == expected
        assert set(row[len(expected) :]) <= {OVER}


@given(tuples, st.randoms(use_true_random=False))
def test_the_last_code_of_padded_and_closed_ids_is_in_one_level(tuples, random):
    last = np.array([random.randrange(9) for _ in tuples], dtype=np.int64)
    codes, level_sizes = pad_and_close(to_table(tuples), last)
    prefix, prefix_sizes = pad(to_table(tuples))
    np.testing.assert_array_equal(codes[:, :-1], prefix)
    np.testing.assert_array_equal(codes[:, -1], last)
    assert level_sizes == (*prefix_sizes, max(last.tolist(), default=-1) + 1)
    assert codes.dtype == np.int32


@given(tuples, st.randoms(use_true_random=False))
def test_equal_ids_are_counted_in_the_order_of_their_places(tuples, random):
    place = list(range(len(tuples)))
    random.shuffle(place)
    expected = [
        sum(other == mine and place[j] < place[i] for j, other in enumerate(tuples))
        for i, mine in enumerate(tuples)
    ]
    counted = count_within(to_table(tuples), np.array(place, dtype=np.int64))
    assert counted.tolist() == expected


def test_levels_that_no_id_reaches_are_left_out():
    table = np.array([[1, OVER, OVER], [0, OVER, OVER]])
    codes, level_sizes = pad(table)
    assert codes.tolist() == [[1], [0]]
    assert level_sizes == (2,)
