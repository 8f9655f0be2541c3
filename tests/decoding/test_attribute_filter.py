"""Rules about attributes against the same rules asked of one item at a time."""

import doctest
import operator

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding import attribute_filter as module
from genrec.decoding.attribute_filter import matching
from genrec.errors import RequestError

TABLE = pl.DataFrame(
    {
        "price": [5.0, 30.0, None, 12.5, 0.0],
        "year": [1999, 2005, 2005, None, 2020],
        "genre": ["tea", "cup", "tea", None, "teapot"],
        "tags": [["new", "red"], [], None, ["red"], ["new", None]],
        "stocked": [True, False, None, True, True],
        "stars": pl.Series([1, 5, None, 3, 4], dtype=pl.UInt8),
        "sizes": [[1, 2], [300], None, [], [7, None]],
    }
)
COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def test_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(module)
    assert outcome.attempted > 3
    assert outcome.failed == 0


def answer(row, expression):
    """True, False or None for unknown, as in Kleene's logic."""
    if "not" in expression:
        inner = answer(row, expression["not"])
        return None if inner is None else not inner
    for name, decides in (("all", False), ("any", True)):
        if name in expression:
            found = [answer(row, each) for each in expression[name]]
            if decides in found:
                return decides
            return None if None in found else not decides
    held, op, value = row[expression["attribute"]], expression["op"], expression["value"]
    if op == "is_missing":
        return (held is None) == value
    if held is None:
        return None
    if op == "contains":
        return value in held
    if op in ("in", "not_in"):
        return (held in value) == (op == "in")
    return COMPARE[op](held, value)


numbers = st.sampled_from([0, 5, 12.5, 2005, 1999, -1, 300, 5.0, 2**62])
words = st.sampled_from(["tea", "cup", "red", "new", "x"])
leaves = st.one_of(
    st.builds(
        lambda name, op, value: {"attribute": name, "op": op, "value": value},
        st.sampled_from(["price", "year", "stars"]), st.sampled_from(list(COMPARE)), numbers,
    ),
    st.builds(
        lambda name, op, value: {"attribute": name, "op": op, "value": value},
        st.sampled_from(["price", "year", "stars"]), st.sampled_from(["in", "not_in"]),
        st.lists(numbers, max_size=3),
    ),
    st.builds(lambda value: {"attribute": "sizes", "op": "contains", "value": value}, numbers),
    st.builds(
        lambda op, value: {"attribute": "genre", "op": op, "value": value},
        st.sampled_from(["in", "not_in"]), st.lists(words, max_size=3),
    ),
    st.builds(
        lambda name, value: {"attribute": name, "op": "contains", "value": value},
        st.sampled_from(["genre", "tags"]), words,
    ),
    st.builds(
        lambda name, value: {"attribute": name, "op": "is_missing", "value": value},
        st.sampled_from(TABLE.columns), st.booleans(),
    ),
    st.builds(
        lambda op, value: {"attribute": "stocked", "op": op, "value": value},
        st.sampled_from(["==", "!="]), st.booleans(),
    ),
)  # fmt: skip
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda one: {"not": one}, inner),
        st.builds(lambda several: {"all": several}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda several: {"any": several}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_every_expression_means_what_it_means_for_one_item(expression):
    want = [answer(row, expression) is True for row in TABLE.iter_rows(named=True)]
    assert matching(TABLE, expression).tolist() == want


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("price < 5", "a rule is an object"),
        ({}, "a rule has attribute"),
        ({"all": []}, "at least one"),
        ({"all": {"attribute": "price"}}, "takes a list of rules"),
        ({"all": [], "any": []}, "got the keys 'all', 'any'"),
        (
            {"attribute": "cost", "op": "<", "value": 1},
            "no attribute 'cost'; they have price, year",
        ),
        ({"attribute": "price", "op": "=<", "value": 1}, "'=<' is no operator; use one of ==, !="),
        ({"attribute": "price", "op": "<", "value": "1"}, "'price' is Float64, and '1' is str"),
        ({"attribute": "price", "op": "<", "value": True}, "and True is bool"),
        ({"attribute": "genre", "op": "==", "value": None}, "and None is NoneType"),
        ({"attribute": "genre", "op": "in", "value": "tea"}, "in takes a list"),
        ({"attribute": "tags", "op": "==", "value": "new"}, "is a list; ask what it contains"),
        ({"attribute": "year", "op": "contains", "value": 1}, "contains nothing"),
        ({"attribute": "year", "op": "is_missing", "value": 1}, "takes true or false"),
        ({"not": {"not": {"attribute": "year"}}}, "got the keys 'attribute'"),
        ({"attribute": "price", "op": "<", "value": 10**400}, "a number below 9.2e18"),
        ({"attribute": "year", "op": "in", "value": [10**30]}, "a number below 9.2e18"),
        ({"attribute": "year", "op": "<", "value": float("nan")}, "a number below 9.2e18"),
        ({"attribute": "price", "op": "<", "value": float("inf")}, "a number below 9.2e18"),
        ({"attribute": "genre", "op": "in", "value": ["\ud800"]}, "half a character"),
        ({"attribute": "genre", "op": "==", "value": "\ud800"}, "half a character"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_is_valid(expression, message):
    with pytest.raises(RequestError, match=message):
        matching(TABLE, expression)


def test_rules_have_a_size():
    one = {"attribute": "price", "op": "<", "value": 1}
    with pytest.raises(RequestError, match="at most 100 parts"):
        matching(TABLE, {"any": [one] * 100})
    deep = one
    for _ in range(11):
        deep = {"not": deep}
    with pytest.raises(RequestError, match="10 of them inside each other"):
        matching(TABLE, deep)
    assert matching(TABLE, {"any": [one] * 99}).tolist() == [False, False, False, False, True]


def test_rules_of_no_items_are_answered():
    assert matching(TABLE.clear(), {"attribute": "price", "op": "<", "value": 1}).shape == (0,)
    assert matching(TABLE, {"attribute": "year", "op": "in", "value": []}).tolist() == [False] * 5
    assert isinstance(matching(TABLE, {"attribute": "year", "op": ">", "value": 0}), np.ndarray)


def test_decimals_are_numbers_and_what_is_no_number_is_missing():
    table = pl.DataFrame(
        {
            "price": pl.Series([1.2, 3.0, None]).cast(pl.Decimal(10, 2)),
            "weight": [float("nan"), 2.0, -1.0],
        }
    )
    prices = {"attribute": "price", "op": "in", "value": [1.2, 3]}
    assert matching(table, prices).tolist() == [True, True, False]
    heavy = {"attribute": "weight", "op": ">", "value": 1}
    assert matching(table, heavy).tolist() == [False, True, False]
    assert matching(table, {"not": heavy}).tolist() == [False, False, True]
    missing = {"attribute": "weight", "op": "is_missing", "value": True}
    assert matching(table, missing).tolist() == [True, False, False]
