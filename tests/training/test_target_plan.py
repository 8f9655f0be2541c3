"""Which histories are learned from, drawn by seed."""

import numpy as np
import pytest

from genrec.data.histories import from_lists
from genrec.errors import ConfigError
from genrec.training.batches import IGNORED
from genrec.training.target_plan import TargetPlan

LISTS = [[5, 6, 5, 7], [1], [2, 2, 2], [3, 4], [8, 9, 10, 11, 12]]


def plan(batches=40, histories=3, repeats=2, seed=1, lists=LISTS, **changes):
    settings = {"exclude_seen": True} | changes
    return TargetPlan(
        from_lists(lists),
        batches=batches,
        histories=histories,
        repeats=repeats,
        seed=seed,
        **settings,
    )


def rows(entry):
    return [row[row != IGNORED].tolist() for row in entry["items"].numpy()]


def test_every_entry_is_the_beginning_of_a_history_and_its_next_item():
    beginnings = set()
    made = plan()
    for index in range(0, len(made), 2):
        for row in rows(made[index]):
            assert any(row == whole[: len(row)] for whole in LISTS)
            assert row[-1] not in row[:-1]
            beginnings.add(tuple(row))
    # All that can be: two of the first user, one of the fourth, four of the fifth.
    assert len(beginnings) == 2 + 1 + 4


def test_repeated_items_are_next_items_when_they_may_be_named():
    made = plan(exclude_seen=False)
    found = {tuple(row) for index in range(len(made)) for row in rows(made[index])}
    assert {(2, 2), (2, 2, 2), (5, 6, 5)} <= found


def test_batches_repeat_side_by_side_and_users_come_once_a_pass():
    made = plan()
    assert len(made) == 80
    for index in range(0, 20, 2):
        assert rows(made[index]) == rows(made[index + 1])
        # Three users can be learned from, so a batch of three is one pass.
        assert len({row[0] for row in rows(made[index])}) == 3


def test_seed_and_number_alone_decide():
    one, other = plan(), plan()
    order = np.random.default_rng(0).permutation(len(one))
    assert [rows(one[int(index)]) for index in order] == [
        rows(other[int(index)]) for index in order
    ]
    assert any(rows(one[index]) != rows(plan(seed=2)[index]) for index in range(len(one)))


def test_a_batch_may_hold_more_histories_than_there_are_users():
    assert len(rows(plan(histories=7)[0])) == 7


def test_no_history_with_a_next_item():
    with pytest.raises(ConfigError, match=r"reinforcement\.steps: 0"):
        plan(lists=[[1], [2, 2]])
