import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec.data.histories import from_lists
from genrec.errors import DataError
from genrec.tokenization.classic_numbers import (
    IndependentIndexer,
    RandomIndexer,
    SequentialIndexer,
    digits,
    shuffled_places,
)
from genrec.tokenization.indexer import ItemTables


def tables(n, sequences=None):
    ids = [f"id{row}" for row in range(n)]
    histories = None if sequences is None else from_lists(sequences)
    return ItemTables(ids, [""] * n, sequences=histories)


def to_numbers(proposal):
    """Read the digits as one number each, by Horner's rule with the sizes of the levels."""
    numbers = []
    for row in proposal.codes.tolist():
        number = 0
        for digit, size in zip(row, proposal.level_sizes, strict=True):
            assert 0 <= digit < size
            number = number * size + digit
        numbers.append(number)
    return numbers


@given(st.integers(1, 400), st.integers(2, 20))
def test_digits_are_those_that_python_would_write(n, base):
    codes, sizes = digits(np.arange(n)[::-1], base)
    width = 1
    while base**width < n:
        width += 1
    for number, row in zip(range(n - 1, -1, -1), codes.tolist(), strict=True):
        assert row == [number // base ** (width - 1 - i) % base for i in range(width)]
    assert sizes == (((n - 1) // base ** (width - 1)) + 1, *[base] * (width - 1))
    assert codes.dtype == np.int32


@pytest.mark.parametrize("n", [1, 2, 100, 101, 12101])
def test_random_numbers_are_all_numbers_below_n(n):
    proposal = RandomIndexer(100).propose(tables(n), seed=3)
    assert sorted(to_numbers(proposal)) == list(range(n))
    assert len(proposal.level_sizes) == {1: 1, 2: 1, 100: 1, 101: 2, 12101: 3}[n]


def test_random_numbers_hold_no_order_of_rows_or_ids():
    numbers = to_numbers(RandomIndexer(10).propose(tables(2000), seed=3))
    # The rank correlation of 2,000 independent pairs has a standard deviation of 1 / sqrt(1999).
    assert abs(np.corrcoef(numbers, np.arange(2000))[0, 1]) < 4 / np.sqrt(1999)


def test_another_seed_gives_other_random_numbers():
    first, second = (RandomIndexer(10).propose(tables(50), seed).codes for seed in (1, 2))
    assert (first != second).any()


def test_independent_codes_are_the_places_of_the_ids():
    ids = ["b", "c", "a", "10", "9"]
    proposal = IndependentIndexer().propose(ItemTables(ids, ids), seed=1)
    assert proposal.codes.tolist() == [[sorted(ids).index(item)] for item in ids]
    assert proposal.level_sizes == (5,)


def by_hand(n, sequences, ids):
    order = []
    for sequence in sequences:
        for item in sequence:
            if item not in order:
                order.append(item)
    order += sorted((row for row in range(n) if row not in order), key=lambda row: ids[row])
    return [order.index(row) for row in range(n)]


@given(
    st.lists(st.lists(st.integers(0, 29), max_size=6), min_size=1, max_size=8).filter(any),
    st.integers(2, 30),
)
def test_sequential_numbers_follow_the_users_one_after_the_other(sequences, base):
    given_tables = tables(30, sequences)
    proposal = SequentialIndexer(base).propose(given_tables, seed=0)
    assert to_numbers(proposal) == by_hand(30, sequences, given_tables.item_ids)
    seen = {item for sequence in sequences for item in sequence}
    assert proposal.facts == {"digit_base": base, "unseen_items": 30 - len(seen)}


def test_items_taken_one_after_the_other_share_all_digits_but_the_last():
    sequences = [[7, 3, 9], [3, 1], [0, 2, 4, 5, 6, 8]]
    codes = SequentialIndexer(5).propose(tables(10, sequences), seed=0).codes
    assert codes[[7, 3, 9, 1, 0], 0].tolist() == [0] * 5
    assert codes[[2, 4, 5, 6, 8], 0].tolist() == [1] * 5


def test_sequences_of_another_dataset_are_refused():
    with pytest.raises(DataError, match="rows 0 to 7, expected 0 to 4"):
        SequentialIndexer().propose(tables(5, [[0, 7]]), seed=0)
    with pytest.raises(DataError, match="rows -1 to 2"):
        SequentialIndexer().propose(tables(5, [[-1, 2]]), seed=0)


def test_shuffled_places_belong_to_ids():
    ids = ["d", "a", "c", "b"]
    place = dict(zip(ids, shuffled_places(ids, 5).tolist(), strict=True))
    again = dict(zip(sorted(ids), shuffled_places(sorted(ids), 5).tolist(), strict=True))
    assert place == again
    assert sorted(place.values()) == [0, 1, 2, 3]


def test_an_id_that_occurs_twice_is_refused():
    twice = ItemTables(["x", "y", "x"], [""] * 3, sequences=from_lists([[0]]))
    for indexer in (RandomIndexer(), IndependentIndexer(), SequentialIndexer()):
        with pytest.raises(DataError, match="'x' occurs more than once"):
            indexer.propose(twice, seed=0)
