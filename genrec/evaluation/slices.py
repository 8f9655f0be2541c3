"""Where a model is good: examples split by item popularity and by history length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POPULARITY_LABELS = ("head", "middle", "tail", "unseen")
LENGTH_STARTS = (0, 1, 6, 11, 21)
LENGTH_LABELS = ("0", "1-5", "6-10", "11-20", "21+")


@dataclass(frozen=True)
class Slicing:
    """A way to split n examples.

    Attributes:
        by: What it splits by, in words.
        labels: Name of each slice.
        code: int64[n], position of each example's slice in ``labels``.
    """

    by: str
    labels: tuple[str, ...]
    code: NDArray[np.int64]


def by_popularity(counts: NDArray[np.int64], targets: NDArray[np.int32]) -> Slicing:
    """Split examples by how often the item to find occurs in training.

    Items are put in order of their training counts. ``head`` items are the most frequent ones
    that start within the first third of all training events, ``middle`` the second third,
    ``tail`` the rest; ``unseen`` items have no training event. Items with equal counts are never
    torn apart.

    Ten events: item 0 alone starts at share 0, item 1 at 0.5, items 2 and 3 at 0.8:

    >>> by_popularity(np.array([5, 3, 1, 1, 0]), np.array([0, 1, 2, 3, 4])).code
    array([0, 1, 2, 2, 3])

    Args:
        counts: int64[n_items], training events of each item.
        targets: int32[n], the item to find in each example.
    """
    levels, inverse = np.unique(counts, return_inverse=True)
    events = np.bincount(inverse, weights=counts, minlength=len(levels))
    before = np.cumsum(events[::-1])[::-1] - events  # Events of items with a larger count.
    # Compared in whole events: thirds of a share are not exact in binary.
    code = (3 * before >= events.sum()).astype(np.int64) + (3 * before >= 2 * events.sum())
    code[levels == 0] = POPULARITY_LABELS.index("unseen")
    return Slicing("item popularity", POPULARITY_LABELS, code[inverse][targets])


def by_history_length(lengths: NDArray[np.int64]) -> Slicing:
    """Split examples by the number of items the user had before.

    >>> by_history_length(np.array([1, 5, 6, 300, 0])).code
    array([1, 1, 2, 4, 0])

    Args:
        lengths: int64[n].
    """
    code = np.searchsorted(LENGTH_STARTS, lengths, side="right") - 1
    return Slicing("history length", LENGTH_LABELS, code.astype(np.int64))


def slice_rows(
    slicing: Slicing, model: str, values: Mapping[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """Return one row a slice with its number of examples and the mean of each metric.

    Slices without an example are left out.

    Args:
        slicing: How to split.
        model: Name of the model, kept in every row.
        values: Metric key -> float64[n], the metric of each example.
    """
    rows: list[dict[str, Any]] = []
    for position, label in enumerate(slicing.labels):
        inside = slicing.code == position
        if not inside.any():
            continue
        row: dict[str, Any] = {
            "by": slicing.by,
            "slice": label,
            "model": model,
            "n": int(inside.sum()),
        }
        rows.append(row | {key: float(column[inside].mean()) for key, column in values.items()})
    return rows
