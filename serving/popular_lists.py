"""The most popular items that rules leave, for requests the model has nothing to go by."""

from collections import Counter

import numpy as np

from genrec.cf.popularity import Popularity
from genrec.data.ranking import Ranking
from genrec.decoding.rules import RowRules
from genrec.decoding.trie import PrefixTrie


def popular_list(popularity: Popularity, trie: PrefixTrie, rules: RowRules, k: int) -> Ranking:
    """Return the k most popular items that the rules allow; boosts play no part.

    Args:
        popularity: Training counts.
        trie: The codes of the items, for a bound on first codes.
        rules: What the list may hold.
        k: Items wanted.
    """
    order = popularity.order[rules.eligible(trie.items)[popularity.order]]
    bounds = [(bound.groups, bound.most) for bound in rules.bounds]
    if rules.most_per_code is not None:
        first = trie.nodes_of_leaves(0, trie.leaf_of_item).cpu().numpy()
        bounds.append((first, rules.most_per_code))
    if bounds:
        order = _within(order, bounds, k)
    items = order[:k]
    return Ranking(items, popularity.counts[items].astype(np.float32))


def _within(order: np.ndarray, bounds: list[tuple[np.ndarray, int]], k: int) -> np.ndarray:
    """Return the first k rows of an order that keep to all bounds."""
    counts: list[Counter[int]] = [Counter() for _ in bounds]
    taken: list[int] = []
    for row in order.tolist():
        groups = [int(groups[row]) for groups, _ in bounds]
        room = all(
            group < 0 or count[group] < most
            for group, count, (_, most) in zip(groups, counts, bounds, strict=True)
        )
        if room:
            taken.append(row)
            for group, count in zip(groups, counts, strict=True):
                count[group] += 1
        if len(taken) == k:
            break
    return np.array(taken, dtype=np.int32)
