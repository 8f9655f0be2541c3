"""The most popular items that rules leave, for requests the model has nothing to go by."""

from itertools import islice

import numpy as np

from genrec.cf.popularity import Popularity
from genrec.data.ranking import Ranking
from genrec.decoding.bounded_lists import Room
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
    bounds = rules.all_bounds(trie)
    if bounds:
        room = Room(bounds)
        fitting = (row for row in order.tolist() if room.take(row))
        order = np.array([*islice(fitting, k)], dtype=np.int32)
    items = order[:k]
    return Ranking(items, popularity.counts[items].astype(np.float32))
