"""Which events are learned from, validated on and tested on."""

import math
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from genrec.data.interactions import Interactions
from genrec.errors import DataError

TRAIN, VALIDATION, TEST = 0, 1, 2
PART_NAMES = ("training", "validation", "test")
METHODS = ("leave_one_out", "temporal", "cold_items")


def split(
    interactions: Interactions,
    method: str,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    validation_from: str | None = None,
    test_from: str | None = None,
    seed: int = 0,
) -> NDArray[np.int8]:
    """Give every event its part: 0 training, 1 validation, 2 test (int8[m]).

    Args:
        interactions: Events sorted by user, then time, then input order.
        method: ``leave_one_out`` (see :func:`leave_one_out`), ``temporal`` (see
            :func:`temporal`) or ``cold_items`` (see :func:`cold_items`).
        validation_fraction: Share of events (temporal) or items (cold_items).
        test_fraction: Share of events (temporal) or items (cold_items).
        validation_from: ISO date, temporal only.
        test_from: ISO date, temporal only.
        seed: Seed of the draw of cold items.

    Raises:
        DataError: When the method is unknown, a date or fraction cannot be used, or a part would
            be empty.
    """
    if method == "leave_one_out":
        part = leave_one_out(interactions)
    elif method == "temporal":
        part = temporal(
            interactions,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            validation_from=validation_from,
            test_from=test_from,
        )
    elif method == "cold_items":
        part = cold_items(
            interactions,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            seed=seed,
        )
    else:
        raise DataError(f"split method {method!r} is unknown; use one of {', '.join(METHODS)}.")
    _check_parts(interactions, part, method)
    return part


def leave_one_out(interactions: Interactions) -> NDArray[np.int8]:
    """Hold out each user's last event for test and the one before for validation.

    A user with fewer than three events is training only: nothing would be left to learn from, or
    there would be a test event without a validation event.

    Args:
        interactions: Events sorted by user, then time, then input order.
    """
    _, first, count = np.unique(interactions.user, return_index=True, return_counts=True)
    part = np.zeros(len(interactions), dtype=np.int8)
    last = (first + count - 1)[count >= 3]
    part[last] = TEST
    part[last - 1] = VALIDATION
    return part


def temporal(
    interactions: Interactions,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    validation_from: str | None = None,
    test_from: str | None = None,
) -> NDArray[np.int8]:
    """Cut all users' events at two moments: before is training, between validation, after test.

    A part depends on the time alone, so events of the same second are never cut apart: where a
    fraction would cut among them, all go to the later part, which is then larger than asked for.

    Args:
        interactions: The events; times in seconds since 1970, UTC, for cuts by date.
        validation_fraction: Share of all events for validation, the newest before the test part.
        test_fraction: Share of all events for test, the newest.
        validation_from: ISO date or date and time where validation starts, UTC unless it names
            its offset; used instead of the fraction.
        test_from: The same for test.

    Raises:
        DataError: When a date cannot be read, validation starts after test, or the fractions
            leave nothing for training.
    """
    events = len(interactions)
    times = np.sort(interactions.time)
    if events == 0:
        return np.zeros(0, dtype=np.int8)
    if test_from is None:
        test_cut = _newest(times, events, test_fraction, "test_fraction")
    else:
        test_cut = _seconds(test_from, "test_from")
    before_test = int(np.searchsorted(times, test_cut))
    if validation_from is None:
        validation_cut = _newest(times, before_test, validation_fraction, "validation_fraction")
    else:
        validation_cut = _seconds(validation_from, "validation_from")
    if validation_cut > test_cut:
        raise DataError(
            f"validation would start at {_readable(validation_cut)} UTC, after test at "
            f"{_readable(test_cut)} UTC; move validation_from before test_from."
        )
    part = np.zeros(events, dtype=np.int8)
    part[interactions.time >= validation_cut] = VALIDATION
    part[interactions.time >= test_cut] = TEST
    return part


def cold_items(
    interactions: Interactions,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> NDArray[np.int8]:
    """Hold out whole items: no event of a held-out item is learned from.

    Of the items that occur, a random share is for test and another for validation, at least one
    each. All events of an item have its part. So the history of a test event holds the user's
    earlier training and validation items and the test items met before, as they would be known;
    that of a validation event holds no test item. It is empty when the held-out event is the
    user's first.

    Args:
        interactions: The events.
        validation_fraction: Share of items for validation.
        test_fraction: Share of items for test.
        seed: Seed of the draw.

    Raises:
        DataError: When no item would be left for training.
    """
    items = np.unique(interactions.item)
    for_test = max(1, round(test_fraction * len(items)))
    for_validation = max(1, round(validation_fraction * len(items)))
    if for_test + for_validation >= len(items):
        raise DataError(
            f"test_fraction {test_fraction} and validation_fraction {validation_fraction} hold "
            f"out {for_test + for_validation} of {len(items)} items and leave none for training; "
            "lower them or use more items."
        )
    drawn = np.random.default_rng(seed).permutation(items)
    part_of = np.zeros(int(items[-1]) + 1, dtype=np.int8)
    part_of[drawn[:for_test]] = TEST
    part_of[drawn[for_test : for_test + for_validation]] = VALIDATION
    part: NDArray[np.int8] = part_of[interactions.item]
    return part


def _newest(times: NDArray[np.int64], end: int, fraction: float, name: str) -> int:
    """Return the moment from which the newest share of all events before ``end`` runs."""
    wanted = max(1, round(fraction * len(times)))
    if not 0 < fraction < 1 or wanted > end:
        raise DataError(
            f"{name} is {fraction}: that is {wanted} of {len(times)} events, but {end} lie before "
            "the part that follows. Use shares between 0 and 1 that leave events for training; "
            "events of one second stay together."
        )
    return int(times[end - wanted])


def _seconds(date: str, name: str) -> int:
    """Read an ISO date as seconds since 1970; UTC when it names no offset."""
    try:
        moment = datetime.fromisoformat(date)
    except ValueError as error:
        raise DataError(
            f"{name} is {date!r}, which is no ISO date; write 2023-05-31 or 2023-05-31T12:00:00."
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return math.ceil(moment.timestamp())


def _readable(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))


def _check_parts(interactions: Interactions, part: NDArray[np.int8], method: str) -> None:
    """Refuse a split with an empty part."""
    counts = np.bincount(part, minlength=3)
    empty = [name for name, count in zip(PART_NAMES, counts, strict=True) if not count]
    if not empty:
        return
    advice = "no event is left after filtering"
    if len(part):
        first, last = int(interactions.time.min()), int(interactions.time.max())
        advice = {
            "leave_one_out": "it needs a user with at least three events",
            "temporal": f"events run from {_readable(first)} to {_readable(last)} UTC and those "
            "of one second stay together; move the dates or change the fractions",
            "cold_items": "it needs at least three items",
        }[method]
    raise DataError(
        f"the {method} split of {len(part)} events leaves the {' and '.join(empty)} part empty: "
        f"{advice}."
    )
