import numpy as np
import pytest

from genrec.data.filter import first_of_repeats, heavy_enough, in_core
from genrec.errors import DataError


def core_by_hand(pairs: list[tuple[int, int]], core: int) -> set[int]:
    """Remove one user or item at a time, with dictionaries, until nothing changes."""
    alive = set(range(len(pairs)))
    while True:
        for side in (0, 1):
            for value in {pairs[i][side] for i in alive}:
                mine = {i for i in alive if pairs[i][side] == value}
                if len(mine) < core:
                    alive -= mine
                    break
            else:
                continue
            break
        else:
            return alive


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("core", [2, 3, 5])
def test_core_equals_removal_one_by_one(seed, core):
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 25, 150).astype(np.int32)
    item = np.minimum(rng.geometric(0.08, 150), 40).astype(np.int32)
    expected = core_by_hand(list(zip(user.tolist(), item.tolist(), strict=True)), core)
    assert set(np.flatnonzero(in_core(user, item, core)).tolist()) == expected


def test_core_needs_several_rounds_and_may_leave_nothing():
    # A chain: item 0 falls first, and with it user after user.
    user = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    item = np.array([0, 1, 1, 2, 2, 3], dtype=np.int32)
    assert not in_core(user, item, 2).any()
    assert in_core(user, item, 0).all()
    assert in_core(user, item, 1).all()


def test_repeats():
    user = np.array([0, 0, 0, 0, 1, 1], dtype=np.int32)
    item = np.array([5, 5, 6, 5, 5, 5], dtype=np.int32)
    assert first_of_repeats(user, item, "none").tolist() == [True] * 6
    consecutive = [True, False, True, True, True, False]
    assert first_of_repeats(user, item, "consecutive").tolist() == consecutive
    assert first_of_repeats(user, item, "pair").tolist() == [True, False, True, False, True, False]
    with pytest.raises(DataError, match="consecutive"):
        first_of_repeats(user, item, "all")


def test_minimum_weight_keeps_the_limit_itself():
    weight = np.array([3.9, 4.0, 4.1], dtype=np.float32)
    assert heavy_enough(weight, 4.0).tolist() == [False, True, True]
    assert heavy_enough(np.array([4.1], dtype=np.float32), 4.1).all()
    assert heavy_enough(weight, None).all()
