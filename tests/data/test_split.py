from collections import defaultdict

import numpy as np
import pytest

from genrec.data.interactions import Interactions
from genrec.data.split import split
from genrec.errors import DataError

DAY = 86_400


def events(rows):
    """Interactions from (user, item, time), sorted as the noun promises."""
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    user, item, time = (np.asarray(column) for column in zip(*rows, strict=True))
    return Interactions(
        user.astype(np.int32),
        item.astype(np.int32),
        time.astype(np.int64),
        np.ones(len(rows), dtype=np.float32),
    )


def random_events(seed, users=40, items=30, span=60):
    generator = np.random.default_rng(seed)
    return events(
        [
            (user, int(generator.integers(items)), int(generator.integers(span)))
            for user in range(users)
            for _ in range(int(generator.integers(1, 12)))
        ]
    )


def by_user(interactions, part):
    found = defaultdict(list)
    for user, item, time, number in zip(
        interactions.user, interactions.item, interactions.time, part, strict=True
    ):
        found[int(user)].append((int(item), int(time), int(number)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_leave_one_out_holds_out_the_last_two(seed):
    interactions = random_events(seed)
    part = split(interactions, "leave_one_out")
    assert part.dtype == np.int8
    for rows in by_user(interactions, part).values():
        expected = [0] * len(rows) if len(rows) < 3 else [0] * (len(rows) - 2) + [1, 2]
        assert [number for _, _, number in rows] == expected


def test_leave_one_out_breaks_ties_by_input_order():
    interactions = events([(0, 5, 7), (0, 6, 7), (0, 4, 7), (0, 9, 7)])
    assert split(interactions, "leave_one_out").tolist() == [0, 0, 1, 2]


def test_users_with_two_events_are_training_only():
    interactions = events([(0, 1, 1), (0, 2, 2), (1, 1, 1), (2, 1, 1), (2, 2, 2), (2, 3, 3)])
    assert split(interactions, "leave_one_out").tolist() == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("span", [8, 100_000])
def test_temporal_never_learns_from_the_future(seed, span):
    interactions = random_events(seed, span=span)
    part = split(interactions, "temporal", validation_fraction=0.2, test_fraction=0.15)
    latest = {number: max(interactions.time[part == number]) for number in (0, 1, 2)}
    earliest = {number: min(interactions.time[part == number]) for number in (0, 1, 2)}
    assert latest[0] < earliest[1] <= latest[1] < earliest[2]


def test_temporal_fractions_without_ties_are_exact():
    interactions = events([(row % 7, row, 1000 - row) for row in range(200)])
    part = split(interactions, "temporal", validation_fraction=0.07, test_fraction=0.1)
    assert np.bincount(part).tolist() == [200 - 14 - 20, 14, 20]


def test_events_of_one_second_go_to_the_later_part():
    times = [1, 2, 3, 4, 5, 6, 6, 6, 9, 10]
    interactions = events([(0, row, time) for row, time in enumerate(times)])
    part = split(interactions, "temporal", validation_fraction=0.1, test_fraction=0.3)
    assert part.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2, 2]


def test_temporal_dates_are_utc():
    start = 1_685_491_200  # 2023-05-31 00:00:00 UTC
    times = [start - DAY, start - 1, start, start + DAY - 1, start + DAY]
    interactions = events([(0, row, time) for row, time in enumerate(times)])
    part = split(
        interactions, "temporal", validation_from="2023-05-31", test_from="2023-06-01T00:00:00"
    )
    assert part.tolist() == [0, 0, 1, 1, 2]
    shifted = split(
        interactions,
        "temporal",
        validation_from="2023-05-31T02:00:00+02:00",
        test_from="2023-06-01",
    )
    assert shifted.tolist() == part.tolist()


def test_temporal_mixes_a_date_and_a_fraction():
    start = 1_685_491_200
    interactions = events([(0, row, start + row * DAY) for row in range(10)])
    part = split(interactions, "temporal", validation_fraction=0.2, test_from="2023-06-07")
    assert part.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    part = split(interactions, "temporal", validation_from="2023-06-02", test_fraction=0.3)
    assert part.tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_cold_items_never_occur_in_training(seed):
    interactions = random_events(seed)
    part = split(interactions, "cold_items", validation_fraction=0.1, test_fraction=0.2, seed=seed)
    items = [set(interactions.item[part == number].tolist()) for number in (0, 1, 2)]
    assert not (items[0] & items[1] or items[0] & items[2] or items[1] & items[2])
    occurring = len(set(interactions.item.tolist()))
    assert len(items[2]) == round(0.2 * occurring)
    assert len(items[1]) == round(0.1 * occurring)


def test_cold_items_are_drawn_by_seed():
    interactions = random_events(0)
    first = split(interactions, "cold_items", seed=1)
    assert np.array_equal(first, split(interactions, "cold_items", seed=1))
    assert not np.array_equal(first, split(interactions, "cold_items", seed=2))


def test_cold_items_count_only_items_that_occur():
    interactions = events([(user, 1000 * item, item) for user in range(4) for item in range(10)])
    part = split(interactions, "cold_items", validation_fraction=0.2, test_fraction=0.3, seed=3)
    assert np.bincount(part).tolist() == [20, 8, 12]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("random", {}, "leave_one_out, temporal, cold_items"),
        ("temporal", {"test_from": "31.05.2023"}, "test_from is '31.05.2023'"),
        ("temporal", {"test_from": "2099-01-01"}, "test part empty: events run from 1970-01-01"),
        ("temporal", {"test_from": "1970-01-01"}, "validation_fraction is 0.1"),
        (
            "temporal",
            {"validation_from": "2023-02-01", "test_from": "2023-01-01"},
            "move validation_from before test_from",
        ),
        ("temporal", {"validation_fraction": 0.5, "test_fraction": 0.6}, "leave events"),
        ("cold_items", {"test_fraction": 0.9, "validation_fraction": 0.1}, "none for training"),
    ],
)
def test_bad_settings_say_what_to_do(method, settings, message):
    with pytest.raises(DataError, match=message):
        split(random_events(0), method, **settings)


@pytest.mark.parametrize("method", ["leave_one_out", "temporal", "cold_items"])
def test_nothing_to_split_is_an_error(method):
    nothing = random_events(0).of(np.zeros(len(random_events(0)), dtype=bool))
    with pytest.raises(DataError):
        split(nothing, method)


def test_only_short_users_is_an_error():
    with pytest.raises(DataError, match="at least three events"):
        split(events([(0, 1, 1), (0, 2, 2), (1, 1, 5)]), "leave_one_out")


def test_all_events_at_once_is_an_error():
    with pytest.raises(DataError, match="0 lie before .* one second stay together"):
        split(events([(0, item, 50) for item in range(20)]), "temporal")
