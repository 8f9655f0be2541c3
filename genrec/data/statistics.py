"""Measure a prepared dataset: sizes, lengths, tied times, leaks, texts."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.dataset import PARTS
from genrec.data.interactions import Interactions

LENGTH_EDGES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
# Below so many tied neighbours their order says nothing.
FEWEST_TIES = 50
SORTED_SHARE = 0.9


def lengths_of(user: NDArray[np.int32]) -> dict[str, Any]:
    """Return how many events users have: minimum, median, mean, maximum and a histogram."""
    counts = np.bincount(user)
    counts = counts[counts > 0]
    edges = [*LENGTH_EDGES, np.inf]
    histogram = {
        (
            f"{low}"
            if high == low + 1
            else f"{low}-{int(high) - 1}"
            if high < np.inf
            else f"{low}+"
        ): int(((counts >= low) & (counts < high)).sum())
        for low, high in zip(edges, edges[1:], strict=False)
    }
    return {
        "minimum": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": round(float(counts.mean()), 3),
        "maximum": int(counts.max()),
        "histogram": histogram,
    }


def ties_of(
    events: Interactions, time: NDArray[np.int64], number: NDArray[np.int64]
) -> dict[str, Any]:
    """Return how many neighbouring events of a user have the same time, and in what order.

    Args:
        events: Sorted events.
        time: int64[m], times in microseconds.
        number: int64[m], rank of each event's item when items are sorted by their ids.

    Returns:
        ``pairs`` (neighbours of one user), ``tied``, ``share`` and ``sorted_by_item``, the share
        of tied neighbours whose ids rise; near 1 the order within a tie is only the item's id.
    """
    same_user = events.user[1:] == events.user[:-1]
    tied = same_user & (time[1:] == time[:-1])
    pairs, count = int(same_user.sum()), int(tied.sum())
    rising = int((number[1:] > number[:-1])[tied].sum())
    return {
        "pairs": pairs,
        "tied": count,
        "share": round(count / pairs, 6) if pairs else 0.0,
        "sorted_by_item": round(rising / count, 6) if count else 0.0,
    }


def item_ranks(item_ids: pl.Series) -> NDArray[np.int64]:
    """Return the rank of every id: by value when all are whole numbers, else by letters."""
    values = item_ids.cast(pl.Int64, strict=False)
    column = item_ids if values.null_count() else values
    return column.rank("ordinal").to_numpy().astype(np.int64)


def leaks_of(
    events: Interactions, time: NDArray[np.int64], part: NDArray[np.int8]
) -> dict[str, Any]:
    """Return how much the test part could know that was not known at its time.

    Args:
        events: Sorted events.
        time: int64[m], times in microseconds.
        part: int8[m], 0 training, 1 validation, 2 test.

    Returns:
        ``test_tied_with_before``: share of test events with the same time as the user's event
        before; ``test_before_newest_training``: share of test events older than the newest
        training event, so that a model has seen the future of other users.
    """
    test = part == 2
    count = int(test.sum())
    if count == 0:
        return {"test_tied_with_before": 0.0, "test_before_newest_training": 0.0}
    tied = np.zeros(len(events), dtype=np.bool_)
    tied[1:] = (events.user[1:] == events.user[:-1]) & (time[1:] == time[:-1])
    training = time[part == 0]
    newest = training.max() if len(training) else np.iinfo(np.int64).min
    return {
        "test_tied_with_before": round(float((tied & test).sum()) / count, 6),
        "test_before_newest_training": round(float((time[test] < newest).mean()), 6),
    }


def texts_of(catalog: Catalog) -> dict[str, int]:
    """Return how many items have no text, and how many share theirs with another item."""
    texts = catalog.table["text"]
    full = texts.filter(texts != "")
    return {
        "missing": int((texts == "").sum()),
        "duplicates": int(full.is_duplicated().sum()),
        "titles_missing": catalog.title_words.count(""),
    }


def parts_of(events: Interactions, part: NDArray[np.int8]) -> dict[str, dict[str, int]]:
    """Return events, users and items of each part of the split, and items new to it."""
    seen = np.zeros(int(events.item.max(initial=-1)) + 1, dtype=np.bool_)
    seen[events.item[part == 0]] = True
    return {
        name: {
            "events": int((part == number).sum()),
            "users": len(np.unique(events.user[part == number])),
            "items": len(np.unique(events.item[part == number])),
            "events_with_items_unseen_in_training": int((~seen[events.item[part == number]]).sum()),
        }
        for number, name in enumerate(PARTS)
    }


def measure(
    catalog: Catalog,
    users: int,
    events: Interactions,
    time: NDArray[np.int64],
    part: NDArray[np.int8],
) -> dict[str, Any]:
    """Return all sizes and shares of a dataset.

    Args:
        catalog: The kept items.
        users: Number of users.
        events: Sorted events.
        time: int64[m], times in microseconds.
        part: int8[m], 0 training, 1 validation, 2 test.
    """
    return {
        "users": users,
        "items": len(catalog),
        "density": len(events) / (users * len(catalog)),
        "history_lengths": lengths_of(events.user),
        "ties": ties_of(events, time, item_ranks(catalog.table["item_id"])[events.item]),
        "leaks": leaks_of(events, time, part),
        "parts": parts_of(events, part),
        "texts": texts_of(catalog),
    }


def warnings_of(facts: dict[str, Any]) -> list[str]:
    """Return sentences about what may make the numbers of a later evaluation misleading."""
    found: list[str] = []
    leaks, ties = facts["leaks"], facts["ties"]
    if leaks["test_tied_with_before"] > 0.05:
        found.append(
            f"{leaks['test_tied_with_before']:.1%} of the test events have the same time as the "
            "user's event before: which of the two is the target is only input order."
        )
    if ties["tied"] >= FEWEST_TIES and ties["sorted_by_item"] >= SORTED_SHARE:
        found.append(
            f"Within equal times the events look sorted by item id ({ties['sorted_by_item']:.1%} "
            "of tied neighbours rise): their order carries no taste, and a model that learns item "
            "numbers gains from it."
        )
    if leaks["test_before_newest_training"] > 0.01 and facts["time_unit"] != "position":
        found.append(
            f"{leaks['test_before_newest_training']:.1%} of the test events are older than the "
            "newest training event: the model sees other users' future. data.split.method: "
            "temporal avoids this."
        )
    texts = facts["texts"]
    if texts["missing"] > 0.1 * facts["items"]:
        found.append(f"{texts['missing']} of {facts['items']} items have no text.")
    middle = facts["times"].get("median_second", 0)
    if 19_000_101 <= middle <= 21_001_231:
        found.append(
            "The times lie in 1970. If they are dates written as YYYYMMDD, write them as "
            "YYYY-MM-DD."
        )
    return found
