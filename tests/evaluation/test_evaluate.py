"""evaluate() on worlds small enough to work out by hand."""

import math

import numpy as np
import pytest

from genrec.errors import ConfigError, DataError
from genrec.evaluation.evaluate import evaluate
from tests.evaluation.world import lists, make_dataset, random_dataset, skilled_lists

# Targets of the test part: 2, 5, 1, 3.
SEQUENCES = [[0, 1, 2], [0, 4, 5], [3, 0, 1], [0, 1, 0, 3]]


@pytest.fixture
def dataset():
    return make_dataset(SEQUENCES, 10)


def test_rows_by_arithmetic(dataset):
    rows = [[2, 7], [9, 5], [8, 9], []]
    report = evaluate([lists("mine", rows, k=2)], dataset, [1, 2], samples=0)
    (row,) = report.rows
    assert row["model"] == "mine"
    assert row["examples"] == 4
    assert row["recall@1"] == 1 / 4
    assert row["recall@2"] == 2 / 4
    assert row["ndcg@2"] == pytest.approx((1 + 1 / math.log2(3)) / 4, abs=1e-12)
    assert row["mrr@2"] == pytest.approx((1 + 1 / 2) / 4, abs=1e-12)
    assert row["coverage@1"] == 3 / 10
    assert row["coverage@2"] == 5 / 10
    assert row["mean_length"] == 6 / 4
    assert row["short_lists"] == 1 / 4
    assert row["seconds"] == 1.5
    assert report.full_rows == []
    assert report.differences == []


def test_flaws_of_lists_are_counted(dataset):
    # Entries: a repeat of 7, two that are no item, 0 which user 3 had before.
    report = evaluate([lists("mine", [[7, 7], [-1, 5], [-1], [9, 0, 8]], k=3)], dataset, [3])
    (row,) = report.rows
    assert row["duplicate_rate"] == 1 / 8
    assert row["invalid_rate"] == 2 / 8
    assert row["seen_rate"] == 1 / 8


def test_keys_of_a_row():
    dataset = random_dataset()
    report = evaluate([skilled_lists("mine", dataset, 0.5, k=50)], dataset, [1, 5, 10, 20, 50])
    wanted = {f"{m}@{k}" for m in ("recall", "ndcg", "mrr", "coverage") for k in (1, 5, 10, 20, 50)}
    wanted |= {
        "model",
        "examples",
        "invalid_rate",
        "seconds",
        "recall@10_low",
        "recall@10_high",
        "ndcg@10_low",
        "ndcg@10_high",
    }
    assert wanted <= set(report.rows[0])
    assert report.headline == ("recall@10", "ndcg@10")


def test_models_are_compared_on_the_examples_all_were_asked_for(dataset):
    everyone = lists("popularity", [[2], [5], [9], [9]], k=1)
    some = lists("genrec", [[5], [9]], examples=[1, 2], k=1)
    report = evaluate([everyone, some], dataset, [1], samples=50)
    assert [row["examples"] for row in report.rows] == [2, 2]
    # On examples 1 and 2 both find exactly item 5.
    assert [row["recall@1"] for row in report.rows] == [1 / 2, 1 / 2]
    assert [row["examples"] for row in report.full_rows] == [4, 2]
    assert [row["recall@1"] for row in report.full_rows] == [2 / 4, 1 / 2]
    assert [row["coverage@1"] for row in report.full_rows] == [3 / 10, 2 / 10]
    assert report.protocol["examples_asked"] == {"popularity": 4, "genrec": 2}
    assert report.protocol["examples"] == 2
    assert "every model was asked for" in report.protocol["same_examples_rule"]


def test_an_empty_list_is_a_miss_not_left_out(dataset):
    report = evaluate([lists("mine", [[2], [], [], []], k=1)], dataset, [1])
    assert report.rows[0]["recall@1"] == 1 / 4


def test_differences_are_to_sasrec_and_paired():
    dataset = random_dataset(users=300)
    sasrec = skilled_lists("sasrec", dataset, 0.4, seed=1)
    twin = lists("genrec", [sasrec.item[sasrec.example == e] for e in range(300)])
    worse = skilled_lists("popularity", dataset, 0.1, seed=2)
    report = evaluate([worse, sasrec, twin], dataset, [10], samples=400)
    assert [row["model"] for row in report.differences] == ["popularity", "genrec"]
    low, same = report.differences
    assert {same[key] for key in ("recall@10", "recall@10_low", "recall@10_high")} == {0.0}
    assert low["recall@10"] == pytest.approx(
        report.rows[0]["recall@10"] - report.rows[1]["recall@10"], abs=1e-12
    )
    assert low["recall@10_low"] < low["recall@10"] < low["recall@10_high"] < 0
    for row in report.rows:
        assert row["ndcg@10_low"] < row["ndcg@10"] < row["ndcg@10_high"]


def test_same_seed_same_report():
    dataset = random_dataset()
    predictions = [skilled_lists("sasrec", dataset, 0.5)]
    first = evaluate(predictions, dataset, [10], samples=100, seed=4)
    assert evaluate(predictions, dataset, [10], samples=100, seed=4) == first
    assert evaluate(predictions, dataset, [10], samples=100, seed=5).rows != first.rows


def test_slices_add_up_to_the_row():
    dataset = random_dataset(users=200, items=60)
    predictions = [skilled_lists(m, dataset, s) for m, s in (("sasrec", 0.5), ("genrec", 0.3))]
    report = evaluate(predictions, dataset, [10], samples=0)
    for by in ("item popularity", "history length"):
        for row in report.rows:
            inside = [s for s in report.slices if s["by"] == by and s["model"] == row["model"]]
            assert len(inside) > 2
            assert sum(s["n"] for s in inside) == 200
            for key in ("recall@10", "ndcg@10"):
                mean = sum(s["n"] * s[key] for s in inside) / 200
                assert mean == pytest.approx(row[key], abs=1e-12)


def test_popularity_counts_training_events_only(dataset):
    """Item 5 is only ever a test item: it must be unseen however often it is tested."""
    report = evaluate([lists("mine", [[2], [5], [1], [3]], k=1)], dataset, [1], samples=0)
    found = {row["slice"]: row["n"] for row in report.slices if row["by"] == "item popularity"}
    # Training events: 0, 0, 3, 0, 1. Targets: 2 and 5 unseen; 1 and 3 start at share 3/5.
    assert found == {"unseen": 2, "middle": 2}


def test_cutoffs_longer_than_the_lists_are_named(dataset, caplog):
    report = evaluate([lists("mine", [[2], [], [], []], k=5)], dataset, [1, 5, 10, 50], samples=0)
    assert report.protocol["cutoffs"] == [1, 5]
    assert report.protocol["cutoffs_left_out"] == [10, 50]
    assert "recall@10" not in report.rows[0]
    assert report.headline == ("recall@5", "ndcg@5")
    assert "[10, 50] cannot be measured" in caplog.text
    with pytest.raises(ConfigError, match="between 1 and 5"):
        evaluate([lists("mine", [[2], [], [], []], k=5)], dataset, [10], samples=0)


def test_protocol_says_what_no_model_can_reach(dataset):
    repeats = make_dataset([[0, 1, 0], [0, 1, 2], [3, 3, 3, 3]], 5)
    report = evaluate([lists("mine", [[1], [1], [1]], k=1)], repeats, [1], samples=0)
    assert report.protocol["targets_seen_before"] == 2 / 3
    assert report.protocol["users"] == 3
    assert report.protocol["split"] == "leave_one_out"


def test_best_possible_is_carried():
    dataset = make_dataset(SEQUENCES, 10, facts={"best_possible": {"recall@1": 0.5}})
    report = evaluate([lists("mine", [[2], [], [], []], k=1)], dataset, [1], samples=0)
    assert report.best_possible == {"recall@1": 0.5}
    # It was worked out for the test events.
    mine = lists("mine", [[2], [], [], []], k=1, part="validation")
    assert evaluate([mine], dataset, [1], samples=0).best_possible == {}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], "no predictions"),
        ([lists("a", [[1]] * 4), lists("a", [[1]] * 4)], "more than once: a, a"),
        ([lists("a", [[1]] * 4), lists("b", [[1]] * 4, part="validation")], "different part"),
        ([lists("a", [[1]] * 4), lists("b", [[1]] * 4, exclude_seen=False)], "exclude_seen"),
        ([lists("a", [[1]] * 4, part="tomorrow")], "part 'tomorrow'"),
        ([lists("a", [[1]] * 5)], "asked for example 4, but the dataset has 4"),
        ([lists("a", [[10]] * 4)], "item row 10, but the catalogue has 10"),
        ([lists("a", [[1]], [0]), lists("b", [[1]], [1])], "no example in common"),
    ],
)
def test_lists_that_do_not_belong(dataset, predictions, message):
    with pytest.raises(DataError, match=message):
        evaluate(predictions, dataset, [1])


def test_order_of_examples_asked_for_does_not_matter(dataset):
    targets = dataset.histories("test").target
    order = np.array([2, 0, 3, 1])
    shuffled = lists("mine", [[targets[e]] for e in order], examples=order, k=1)
    assert evaluate([shuffled], dataset, [1], samples=0).rows[0]["recall@1"] == 1.0
