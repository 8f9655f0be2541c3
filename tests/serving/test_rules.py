"""Rules in outside ids, with a real model and with the popularity fallback."""

import numpy as np
import polars as pl
import pytest

from genrec.data.catalog import Catalog
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import RequestError
from genrec.serving.recommender import Recommender
from genrec.serving.rules import KEPT, Rules
from tests.decoding.test_language_model_scorer import ITEMS, brute_force, generative

HISTORY = ["5", "1", "9"]


@pytest.fixture(scope="module")
def recommender():
    model = generative()
    rng = np.random.default_rng(0)
    table = model.catalog.table.with_columns(
        price=pl.Series([None if row % 7 == 0 else float(row) for row in range(ITEMS)]),
        kind=pl.Series(["tea", "cup", "pot"] * (ITEMS // 3)),
    )
    catalog = Catalog(table)
    return Recommender(
        GenerativeRanker(model, beam=ITEMS), catalog, rng.permutation(ITEMS).astype(np.int64),
        model_digest="a" * 64, index_digest="b" * 64,
    )  # fmt: skip


def ids(answer):
    return [int(item.item_id) for item in answer.items]


def best(recommender, left, k):
    scores = brute_force(recommender.ranker.model, np.array([5, 1, 9], dtype=np.int32))
    return [row for row in np.argsort(-scores).tolist() if row in left][:k]


def test_every_kind_of_rule_at_once(recommender):
    rules = Rules(
        deny=["2", "ghost"],
        allow=[str(row) for row in range(25)],
        where={"attribute": "price", "op": ">", "value": 3},
        at_most={"kind": 2},
        boosts={"11": 100.0, "ghost": 3.0},
    )
    [answer] = recommender.recommend([HISTORY], k=6, rules=rules)
    got = ids(answer)
    left = {row for row in range(25) if row > 3 and row % 7} - {1, 2, 5, 9}
    assert got[0] == 11
    assert set(got) <= left
    kinds = [row % 3 for row in got]
    assert all(kinds.count(kind) == 2 for kind in range(3))
    assert answer.rules == [
        "exclude_seen", "deny (2 ids, 1 not in the catalogue)", "allow (25 ids)", "where",
        "at most 2 per kind", "boosts (2 ids, 1 not in the catalogue)",
    ]  # fmt: skip
    assert answer.score == "level"
    assert answer.history_read == 3


def test_the_best_of_those_that_are_left_come_back(recommender):
    rules = Rules(where={"attribute": "kind", "op": "==", "value": "tea"}, exclude_seen=False)
    [answer] = recommender.recommend([HISTORY], k=5, rules=rules)
    assert ids(answer) == best(recommender, set(range(0, ITEMS, 3)), 5)


def test_named_sets_change_for_the_next_request(recommender):
    book = recommender.rule_book
    assert book.name("in_stock", ["3", "4", "7", "ghost"]) == ["ghost"]
    rules = Rules(named=["in_stock"])

    def asked():
        return set(ids(recommender.recommend([HISTORY], k=5, rules=rules)[0]))

    assert asked() == {3, 4, 7}
    assert book.change("in_stock", ["4", "ghost"], False) == ["ghost"]
    assert asked() == {3, 7}
    book.change("in_stock", ["8", "7"], True)
    assert asked() == {3, 7, 8}
    with pytest.raises(RequestError, match="item_ids is '12', expected a list of texts"):
        book.name("in_stock", "12")
    with pytest.raises(RequestError, match="item_ids holds 8, expected texts"):
        book.change("in_stock", [8], True)
    assert asked() == {3, 7, 8}
    with pytest.raises(RequestError, match="called 'sale'; there are: in_stock"):
        recommender.recommend([HISTORY], rules=Rules(named=["sale"]))


def test_the_fallback_keeps_to_the_rules(recommender):
    rules = Rules(
        deny=["2"], where={"attribute": "kind", "op": "!=", "value": "pot"}, at_most={"kind": 3}
    )
    [answer] = recommender.recommend([[]], k=9, rules=rules)
    counts = recommender._popularity.counts
    for kind in (0, 1):
        wanted = [row for row in np.argsort(-counts).tolist() if row % 3 == kind][:3]
        assert [row for row in ids(answer) if row % 3 == kind] == wanted
    assert len(ids(answer)) == 6
    assert "at_most leaves no room" in answer.shortfall
    assert answer.score == "count"
    [spread] = recommender.recommend([[]], k=9, rules=Rules(at_most={"first_code": 1}))
    codes = recommender.ranker.model.index.codes[:, 0]
    assert len(ids(spread)) == len(np.unique(codes))
    assert len(set(codes[ids(spread)].tolist())) == len(ids(spread))


def test_each_history_has_rules_of_its_own(recommender):
    every = [Rules(allow=["3"]), Rules(allow=["4"]), Rules(allow=[])]
    answers = recommender.recommend([HISTORY, HISTORY, []], k=2, rules=every)
    assert [ids(answer) for answer in answers] == [[3], [4], []]
    with pytest.raises(RequestError, match="2 rules for 1 histories"):
        recommender.recommend([HISTORY], rules=every[:2])


def test_a_long_history_is_cut_and_it_is_said(recommender):
    long = [str(row % ITEMS) for row in range(10_000)]
    [answer] = recommender.recommend([long], k=3, rules=Rules(exclude_seen=False))
    assert answer.history_read == 8
    assert len(answer.items) == 3


def test_a_deny_list_of_a_million_ids_is_answered(recommender):
    deny = [str(number) for number in range(1_000_000) if number != 17]
    [answer] = recommender.recommend([HISTORY], k=3, rules=Rules(deny=deny))
    assert ids(answer) == [17]
    unknown = 1_000_000 - ITEMS
    assert answer.rules == [
        "exclude_seen", f"deny (999999 ids, {unknown} not in the catalogue)",
    ]  # fmt: skip


def test_a_long_deny_list_is_turned_into_a_mask_once_for_all_histories(recommender, monkeypatch):
    """Counting a mask costs as much as the catalogue is long; a batch must not pay for each."""
    made = []
    real = ItemMask.of
    monkeypatch.setattr(ItemMask, "of", lambda *given: made.append(given) or real(*given))
    rules = Rules(deny=[str(row) for row in range(ITEMS - 10)], exclude_seen=False)
    answers = recommender.recommend([HISTORY] * 20, k=10, rules=rules)
    assert len(made) == 1
    assert all(sorted(ids(answer)) == list(range(ITEMS - 10, ITEMS)) for answer in answers)


def test_the_fallback_says_that_boosts_play_no_part(recommender):
    [answer] = recommender.recommend([[]], k=2, rules=Rules(boosts={"3": 5.0}))
    assert answer.fallback == "popularity: the history is empty; boosts play no part"
    assert answer.items == recommender.recommend([[]], k=2)[0].items


def test_nothing_is_left_where_all_is_denied(recommender):
    every = [str(row) for row in range(ITEMS)]
    for history in (HISTORY, []):
        [answer] = recommender.recommend([history], k=3, rules=Rules(deny=every))
        assert answer.items == []
        assert "3 items were asked for and 0 returned" in answer.shortfall
        assert "the rules allow 0" in answer.shortfall


def test_few_answers_to_attribute_rules_are_kept(recommender):
    for price in range(KEPT + 5):
        where = {"attribute": "price", "op": "==", "value": price}
        recommender.recommend([HISTORY], k=1, rules=Rules(where=where))
    assert len(recommender.rule_book._answers) == KEPT


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"deny": "ID1"}, "deny is 'ID1', expected a list of texts"),
        ({"allow": 3}, "allow is 3, expected a list"),
        ({"allow": {"3"}}, "allow is {'3'}, expected a list"),
        ({"deny": None}, "deny is None, expected a list"),
        ({"named": None}, "named is None, expected a list"),
        ({"exclude_seen": "no"}, "exclude_seen is 'no', expected true or false"),
        ({"boosts": {3: 1.0}}, "boosts has the key 3, expected texts"),
        ({"deny": [3]}, "deny holds 3, expected texts"),
        ({"named": [None]}, "named holds None"),
        ({"where": "price < 3"}, "where is 'price < 3', expected a mapping"),
        ({"at_most": [("kind", 2)]}, "expected a mapping"),
        ({"boosts": None}, "boosts is None, expected a mapping"),
    ],
)
def test_rules_of_another_kind_are_refused(rules, message):
    """One id in place of a list would be read as a list of letters, and bar nothing."""
    with pytest.raises(RequestError, match=message):
        Rules(**rules)


def test_a_rule_too_deep_to_be_written_is_refused(recommender):
    where = {"attribute": "price", "op": "<", "value": 1}
    for _ in range(100_000):
        where = {"not": where}
    with pytest.raises(RequestError, match="where is no JSON"):
        recommender.recommend([HISTORY], rules=Rules(where=where))


@pytest.mark.parametrize("beam", [3, ITEMS])
def test_a_bound_on_first_codes_counts_what_earlier_rounds_took(recommender, beam):
    """Bounds on attributes take several rounds of search; the list is one all the same."""
    model = recommender.ranker.model
    codes = model.index.codes[:, 0]
    asked = Recommender(
        GenerativeRanker(model, beam=beam), recommender.catalog, np.ones(ITEMS, dtype=np.int64),
        model_digest="a" * 64, index_digest="b" * 64,
    )  # fmt: skip
    rules = Rules(at_most={"first_code": 1, "kind": 1})
    for start in range(0, ITEMS, 3):
        [answer] = asked.recommend([[str(start)]], k=3, rules=rules)
        got = ids(answer)
        assert len(set(codes[got].tolist())) == len(got) == len({row % 3 for row in got})
        assert len(got) == 3


def test_prices_that_are_no_number_are_missing(recommender):
    table = recommender.catalog.table.with_columns(
        price=pl.Series([float("nan") if row % 2 else float(row) for row in range(ITEMS)])
    )
    asked = Recommender(
        recommender.ranker, Catalog(table), np.ones(ITEMS, dtype=np.int64),
        model_digest="a" * 64, index_digest="b" * 64,
    )  # fmt: skip
    dear = Rules(where={"attribute": "price", "op": ">", "value": 1}, exclude_seen=False)
    [answer] = asked.recommend([HISTORY], k=ITEMS, rules=dear)
    assert sorted(ids(answer)) == list(range(2, ITEMS, 2))
    [answer] = asked.recommend([HISTORY], k=ITEMS, rules=Rules(at_most={"price": 1}))
    # Nothing bounds items without a price; three of the history are odd.
    assert sum(row % 2 for row in ids(answer)) == ITEMS // 2 - 3
