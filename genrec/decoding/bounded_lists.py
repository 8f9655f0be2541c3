"""Lists with no more than so many items of a group, when the groups are not those of the codes.

The search knows codes, not categories. So it is asked again: what the list can take is taken in the
order of the scores, groups that are full are struck out, and the search goes on among the rest,
until the list is full or nothing is left. Every round adds an item, so there are k items whenever
the bounds leave k.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.rules import Bound, RowRules
from genrec.decoding.trie import PrefixTrie

Search = Callable[[Sequence[int], Sequence[RowRules]], Sequence[Ranking]]


class Room:
    """What bounds leave for more items of a list.

    Args:
        bounds: All bounds of the list.
    """

    def __init__(self, bounds: Sequence[Bound]) -> None:
        self.bounds = bounds
        self._counts: list[Counter[int]] = [Counter() for _ in bounds]

    def take(self, row: int) -> bool:
        """Count a catalogue row; return whether there was room for it."""
        groups = [int(bound.groups[row]) for bound in self.bounds]
        pairs = list(zip(groups, self.bounds, self._counts, strict=True))
        if any(group >= 0 and count[group] >= bound.most for group, bound, count in pairs):
            return False
        for group, _, count in pairs:
            count[group] += 1
        return True

    def left(self, items: int) -> NDArray[np.bool_]:
        """Return which catalogue rows are of no full group, bool[items]."""
        flags = np.ones(items, dtype=bool)
        for bound, count in zip(self.bounds, self._counts, strict=True):
            full = [group for group, number in count.items() if number >= bound.most and group >= 0]
            flags &= ~np.isin(bound.groups, full)
        return flags


@dataclass
class _List:
    """The list of one request so far."""

    rules: RowRules
    k: int
    room: Room
    scores: dict[int, float] = field(default_factory=dict)
    ended: bool = False

    def take(self, ranking: Ranking) -> None:
        """Take what fits; the list has ended when it is full or there was nothing new."""
        before = len(self.scores)
        pairs = zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)
        for row, score in pairs:
            if len(self.scores) < self.k and self.room.take(row):
                self.scores[row] = score
        self.ended = len(self.scores) in (self.k, before)

    def rest(self, trie: PrefixTrie) -> RowRules:
        """Return the rules without what is in the list and what is full."""
        flags = self.room.left(trie.items)
        rest = self.rules.without(np.array([*self.scores], dtype=np.int64))
        return rest if flags.all() else replace(rest, masks=(*rest.masks, ItemMask.of(trie, flags)))

    def ranking(self) -> Ranking:
        """Return the list, best first."""
        ordered = sorted(self.scores.items(), key=lambda pair: -pair[1])
        return Ranking(
            np.array([row for row, _ in ordered], dtype=np.int32),
            np.array([score for _, score in ordered], dtype=np.float32),
        )


def bounded_lists(
    trie: PrefixTrie, rules: Sequence[RowRules], k: int, search: Search
) -> list[Ranking]:
    """Search until every list is full or nothing is left for it.

    Args:
        trie: The catalogue.
        rules: One a request; those without bounds are searched for once.
        k: Items wanted.
        search: Takes the numbers of requests and their rules for this round; gives their lists.
    """
    # A round knows nothing of the rounds before, so a bound on first codes is counted here too.
    lists = [_List(each, k, Room(each.all_bounds(trie))) for each in rules]
    asked = list(range(len(rules)))
    first = True
    while asked:
        now = [rules[number] if first else lists[number].rest(trie) for number in asked]
        for number, ranking in zip(asked, search(asked, now), strict=True):
            lists[number].take(ranking)
            if not lists[number].rules.bounds:
                lists[number].ended = True
        asked = [number for number in asked if not lists[number].ended]
        first = False
    return [each.ranking() for each in lists]
