"""Recall, NDCG, MRR and coverage of ranked items, one item to find in every list.

All metrics are item-level and count from ranks, not from scores: the place a model gave an item
is its place, so a tie in score is already broken by the model. A list that is empty or does not
hold the item to find is a miss and counts 0.

n is the number of examples, m the number of list entries of all examples together.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def target_ranks(
    targets: NDArray[np.int32],
    position: NDArray[np.int64],
    item: NDArray[np.int32],
    rank: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Return the place of each example's target in its list, from 1; 0 where it is not in it.

    Three examples; the first finds item 7 at place 2, the second has another item, the third has
    an empty list:

    >>> target_ranks(
    ...     targets=np.array([7, 8, 9]),
    ...     position=np.array([0, 0, 1]),
    ...     item=np.array([5, 7, 3]),
    ...     rank=np.array([1, 2, 1]),
    ... )
    array([2, 0, 0])

    Args:
        targets: int32[n], the item that came next.
        position: int64[m], which example (0..n-1) an entry belongs to.
        item: int32[m], the entry's item; -1 for an entry that is no item.
        rank: int32[m], the entry's place in its list, from 1.

    Returns:
        int64[n]; the first place where a list holds its target more than once.
    """
    missing = np.iinfo(np.int64).max
    ranks = np.full(len(targets), missing, dtype=np.int64)
    hit = (item == targets[position]) & (item >= 0)
    np.minimum.at(ranks, position[hit], rank[hit])
    ranks[ranks == missing] = 0
    return ranks


def recall(ranks: NDArray[np.int64], k: int) -> Values:
    """Return 1 for each example whose target is among the first k of its list, else 0.

    With one target this is recall and hit rate at once.

    >>> recall(np.array([1, 3, 0]), k=2)
    array([1., 0., 0.])
    """
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: NDArray[np.int64], k: int) -> Values:
    """Return 1 / log2(rank + 1) for each target among the first k, else 0.

    With one target the ideal gain is 1, so this is the normalised discounted cumulative gain of
    Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques" (2002).

    >>> ndcg(np.array([1, 3, 0]), k=5)
    array([1. , 0.5, 0. ])
    """
    return np.where(recall(ranks, k) > 0, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)


def mrr(ranks: NDArray[np.int64], k: int) -> Values:
    """Return 1 / rank for each target among the first k, else 0.

    >>> mrr(np.array([1, 4, 0]), k=5)
    array([1.  , 0.25, 0.  ])
    """
    return np.where(recall(ranks, k) > 0, 1.0 / np.maximum(ranks, 1), 0.0)


RANK_METRICS: dict[str, Callable[[NDArray[np.int64], int], Values]] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
}


def coverage(item: NDArray[np.int32], rank: NDArray[np.int32], k: int, items: int) -> float:
    """Return the share of the catalogue that stands among the first k of at least one list.

    Two lists, (4, 5) and (4, 6), over a catalogue of ten items:

    >>> coverage(np.array([4, 5, 4, 6]), np.array([1, 2, 1, 2]), k=2, items=10)
    0.3
    >>> coverage(np.array([4, 5, 4, 6]), np.array([1, 2, 1, 2]), k=1, items=10)
    0.1

    Args:
        item: int32[m]; -1 for an entry that is no item, which covers nothing.
        rank: int32[m], from 1.
        k: Places of a list that count.
        items: Size of the catalogue.
    """
    if items == 0:
        return 0.0
    shown = np.zeros(items, dtype=bool)
    shown[item[(rank <= k) & (item >= 0)]] = True
    return int(shown.sum()) / items


def invalid_rate(item: NDArray[np.int32]) -> float:
    """Return the share of list entries that are no item of the catalogue; 0 without entries.

    >>> invalid_rate(np.array([4, -1, 5, 6]))
    0.25
    """
    return float(np.mean(item < 0)) if len(item) else 0.0


def duplicate_rate(position: NDArray[np.int64], item: NDArray[np.int32]) -> float:
    """Return the share of list entries whose item the same list holds already.

    Entries that are no item are counted by ``invalid_rate``, not here.

    >>> duplicate_rate(np.array([0, 0, 0, 1]), np.array([4, 5, 4, 4]))
    0.25
    """
    if not len(item):
        return 0.0
    real = item >= 0
    pairs = np.sort(position[real].astype(np.int64) * (int(item.max()) + 1) + item[real])
    return int((pairs[1:] == pairs[:-1]).sum()) / len(item)


def seen_rate(
    position: NDArray[np.int64],
    item: NDArray[np.int32],
    seen_position: NDArray[np.int64],
    seen_item: NDArray[np.int32],
) -> float:
    """Return the share of list entries whose item is in the example's own history.

    The first of two examples has read item 4, the second item 6:

    >>> entries = {"position": np.array([0, 0, 1, 1]), "item": np.array([4, 5, 4, 5])}
    >>> seen_rate(**entries, seen_position=np.array([0, 1]), seen_item=np.array([4, 6]))
    0.25

    Args:
        position: int64[m], which example (0..n-1) an entry belongs to.
        item: int32[m].
        seen_position: int64[h], which example a history item belongs to.
        seen_item: int32[h].
    """
    if not len(item):
        return 0.0
    width = max(int(item.max()), int(seen_item.max(initial=-1))) + 1
    real = item >= 0
    pairs = position[real].astype(np.int64) * width + item[real]
    seen = np.sort(seen_position.astype(np.int64) * width + seen_item)
    found = np.searchsorted(seen, pairs, side="right") > np.searchsorted(seen, pairs, side="left")
    return int(found.sum()) / len(item)


def list_lengths(position: NDArray[np.int64], examples: int) -> NDArray[np.int64]:
    """Return the number of entries in each example's list, int64[n].

    >>> list_lengths(np.array([0, 0, 2]), examples=3)
    array([2, 0, 1])
    """
    return np.bincount(position, minlength=examples).astype(np.int64)
