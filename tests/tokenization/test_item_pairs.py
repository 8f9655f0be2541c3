import doctest

import numpy as np
import pytest

from genrec.data.histories import from_lists
from genrec.errors import DataError
from genrec.tokenization import item_pairs
from genrec.tokenization.item_pairs import ItemPairs


def test_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(item_pairs)
    assert outcome.attempted >= 1
    assert outcome.failed == 0


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_pairs_are_those_of_a_plain_loop(gap):
    rng = np.random.default_rng(gap)
    lists = [rng.integers(0, 9, size=length).tolist() for length in rng.integers(0, 6, size=40)]
    pairs = ItemPairs.of(from_lists(lists), 9, gap=gap)
    expected = [
        (row[place], row[place + gap], place + gap == len(row) - 1)
        for row in lists
        for place in range(len(row) - gap)
    ]
    found = zip(pairs.before.tolist(), pairs.after.tolist(), pairs.last.tolist(), strict=True)
    assert list(found) == expected
    assert len(pairs) == len(expected)


def test_no_sequences_make_no_pairs():
    for lists in ([], [[]], [[3]]):
        assert len(ItemPairs.of(from_lists(lists), 9)) == 0
        assert len(ItemPairs.of(from_lists(lists), 9).spread(5)) == 0


def test_spread_takes_even_steps():
    pairs = ItemPairs.of(from_lists([list(range(11))]), 11)
    assert pairs.spread(10).before.tolist() == list(range(10))
    assert pairs.spread(5).before.tolist() == [0, 2, 4, 6, 8]
    assert pairs.spread(4).before.tolist() == [0, 3, 6, 9]
    assert pairs.of_mask(pairs.before > 7).after.tolist() == [9, 10]


@pytest.mark.parametrize("item", [-1, 9])
def test_a_row_outside_the_catalogue_is_refused(item):
    with pytest.raises(DataError, match="there are 9 items"):
        ItemPairs.of(from_lists([[0, item]]), 9)
