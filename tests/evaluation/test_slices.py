"""Slices against definitions written as loops."""

import numpy as np

from genrec.evaluation.slices import by_history_length, by_popularity, slice_rows


def popularity_by_hand(counts, item):
    if counts[item] == 0:
        return "unseen"
    before = sum(count for count in counts if count > counts[item])
    if before * 3 < sum(counts):
        return "head"
    return "middle" if before * 3 < 2 * sum(counts) else "tail"


def test_popularity_equals_the_definition():
    random = np.random.default_rng(0)
    for _ in range(100):
        counts = (random.pareto(0.8, size=40) * 2).astype(np.int64)
        targets = random.integers(0, 40, size=60).astype(np.int32)
        slicing = by_popularity(counts, targets)
        found = [slicing.labels[code] for code in slicing.code]
        assert found == [popularity_by_hand(counts.tolist(), target) for target in targets]


def test_popularity_without_any_training_event():
    assert by_popularity(np.zeros(3, np.int64), np.array([0, 2])).code.tolist() == [3, 3]


def test_equal_counts_stay_together():
    assert set(by_popularity(np.full(9, 4), np.arange(9)).code.tolist()) == {0}


def test_history_length_at_every_edge():
    lengths = np.array([0, 1, 5, 6, 10, 11, 20, 21, 500])
    slicing = by_history_length(lengths)
    assert [slicing.labels[code] for code in slicing.code] == [
        "0",
        "1-5",
        "1-5",
        "6-10",
        "6-10",
        "11-20",
        "11-20",
        "21+",
        "21+",
    ]


def test_rows_hold_means_and_leave_empty_slices_out():
    slicing = by_history_length(np.array([3, 3, 30]))
    rows = slice_rows(slicing, "mine", {"recall@10": np.array([1.0, 0.0, 1.0])})
    assert rows == [
        {"by": "history length", "slice": "1-5", "model": "mine", "n": 2, "recall@10": 0.5},
        {"by": "history length", "slice": "21+", "model": "mine", "n": 1, "recall@10": 1.0},
    ]
