"""The item index against dictionaries, with levels whose product no integer holds."""

import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.errors import DataError
from genrec.semantic_ids import item_index as module
from genrec.semantic_ids.item_index import ItemIndex


@st.composite
def tuples(draw):
    """Level sizes, item tuples with repeats, and tuples to look up, some of no item or level."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 5000, 2**31 - 1]), min_size=1, max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    few = np.minimum(sizes, draw(st.integers(1, 3)))
    codes = rng.integers(0, few, size=(n, len(sizes)))
    codes = np.where(rng.random(codes.shape) < 0.5, codes, np.array(sizes) - 1 - codes)
    asked = rng.integers(-1, few + 1, size=(m, len(sizes)))
    asked = np.where(rng.random(asked.shape) < 0.5, asked, np.array(sizes) - 1 - asked)
    own = np.concatenate([asked, codes[rng.permutation(n)[: n // 2]]])
    return tuple(sizes), codes.astype(np.int32), own.astype(np.int64)


def test_examples_in_the_docstring_hold():
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 3
    assert outcome.failed == 0


@settings(max_examples=200, deadline=None)
@given(tuples())
def test_rows_of_equals_a_dictionary(case):
    sizes, codes, asked = case
    index = ItemIndex(codes, sizes, {}, shared=True)
    rows_with = {}
    for row, own in enumerate(codes.tolist()):
        rows_with.setdefault(tuple(own), []).append(row)
    rows, offsets = index.rows_of(asked)
    assert rows.dtype == np.int32
    assert len(offsets) == len(asked) + 1
    for i, own in enumerate(asked.tolist()):
        expected = rows_with.get(tuple(own), [])
        assert rows[offsets[i] : offsets[i + 1]].tolist() == expected
        if len(expected) == 1:
            assert index.row_of(tuple(own)) == expected[0]
        else:
            with pytest.raises(DataError if expected else KeyError):
                index.row_of(tuple(own))


@settings(max_examples=200, deadline=None)
@given(tuples())
def test_keys_number_the_tuples_in_lexicographic_order(case):
    sizes, codes, _ = case
    index = ItemIndex(codes, sizes, {}, shared=True)
    distinct = sorted(set(map(tuple, codes.tolist())))
    assert index.keys.tolist() == [distinct.index(tuple(own)) for own in codes.tolist()]
    assert index.tuples == len(distinct)


@settings(max_examples=100, deadline=None)
@given(tuples())
def test_only_a_shared_index_may_hold_a_tuple_twice(case):
    sizes, codes, _ = case
    spare = len(codes) - len(set(map(tuple, codes.tolist())))
    if spare:
        with pytest.raises(DataError, match=f"{spare} items share their code tuple"):
            ItemIndex(codes, sizes, {})
    else:
        assert not ItemIndex(codes, sizes, {}).shared


def test_seven_levels_of_thousands_of_words_do_not_run_over():
    """The product of the sizes is 5000^7, about 2^86."""
    sizes = (5000,) * 7
    codes = np.random.default_rng(0).integers(0, 5000, size=(3000, 7)).astype(np.int32)
    codes[1] = codes[0]
    codes[1, 0] = (codes[0, 0] + 1) % 5000
    index = ItemIndex(codes, sizes, {})
    assert [index.row_of(index.codes_of(row)) for row in (0, 1, 2999)] == [0, 1, 2999]
    order = sorted(range(3000), key=lambda row: index.codes_of(row))
    assert np.argsort(index.keys).tolist() == order


def test_a_code_past_its_level_is_not_taken_for_the_next_tuple():
    index = ItemIndex(np.array([[1, 0], [0, 3]], dtype=np.int32), (4, 4), {})
    rows, offsets = index.rows_of(np.array([[0, 4], [2, -4], [1, 0], [0, 2**40]]))
    assert rows.tolist() == [0]
    assert offsets.tolist() == [0, 0, 0, 1, 1]


def test_an_empty_index_finds_nothing():
    index = ItemIndex(np.zeros((0, 2), dtype=np.int32), (4, 4), {})
    rows, offsets = index.rows_of(np.array([[0, 0]]))
    assert (len(index), index.tuples, len(rows), offsets.tolist()) == (0, 0, 0, [0, 0])


@pytest.mark.parametrize("shared", [False, True])
def test_a_round_trip_through_a_folder(shared, tmp_path):
    codes = np.array([[3, 1], [0, 2], [3, 1 if shared else 0]], dtype=np.int32)
    ItemIndex(codes, (4, 3), {"method": "title"}, shared).save(tmp_path)
    index = ItemIndex.load(tmp_path)
    np.testing.assert_array_equal(index.codes, codes)
    assert index.codes.dtype == np.int32
    assert (index.level_sizes, index.facts) == ((4, 3), {"method": "title"})
    assert index.shared is shared


def test_a_folder_that_says_nothing_about_sharing_is_one_to_one(tmp_path):
    ItemIndex(np.array([[1], [1]], dtype=np.int32), (2,), {}, shared=True).save(tmp_path)
    body = json.loads((tmp_path / "index.json").read_text())
    del body["shared"]
    (tmp_path / "index.json").write_text(json.dumps(body))
    with pytest.raises(DataError, match="1 items share"):
        ItemIndex.load(tmp_path)
    ItemIndex(np.array([[1], [0]], dtype=np.int32), (2,), {}).save(tmp_path)
    body = json.loads((tmp_path / "index.json").read_text())
    del body["shared"]
    (tmp_path / "index.json").write_text(json.dumps(body))
    assert ItemIndex.load(tmp_path).shared is False


def test_bad_tables_are_refused():
    codes = np.array([[0, 1]], dtype=np.int32)
    with pytest.raises(DataError, match="codes have 2 levels, level_sizes names 3"):
        ItemIndex(codes, (2, 2, 2), {})
    for outside in ([[0, 2]], [[-1, 0]]):
        with pytest.raises(DataError, match="outside its level"):
            ItemIndex(np.array(outside, dtype=np.int32), (2, 2), {})
    index = ItemIndex(codes, (2, 2), {})
    for shape in ((1, 3), (2,)):
        with pytest.raises(DataError, match=r"expected \[m, 2\]"):
            index.rows_of(np.zeros(shape, dtype=np.int32))
