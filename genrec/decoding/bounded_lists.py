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

from genrec.data.ranking import Ranking
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.rules import RowRules
from genrec.decoding.trie import PrefixTrie

Search = Callable[[Sequence[int], Sequence[RowRules]], Sequence[Ranking]]


@dataclass
class _List:
    """The list of one request so far."""

    rules: RowRules
    k: int
    scores: dict[int, float] = field(default_factory=dict)
    counts: list[Counter[int]] = field(default_factory=list)
    ended: bool = False

    def take(self, ranking: Ranking) -> None:
        """Take what fits; the list has ended when it is full or there was nothing new."""
        before = len(self.scores)
        pairs = zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)
        for row, score in pairs:
            if len(self.scores) < self.k and self._has_room(row):
                self.scores[row] = score
                for bound, count in zip(self.rules.bounds, self.counts, strict=True):
                    count[int(bound.groups[row])] += 1
        self.ended = len(self.scores) in (self.k, before)

    def _has_room(self, row: int) -> bool:
        return all(
            bound.groups[row] < 0 or count[int(bound.groups[row])] < bound.most
            for bound, count in zip(self.rules.bounds, self.counts, strict=True)
        )

    def rest(self, trie: PrefixTrie) -> RowRules:
        """Return the rules without what is in the list and what is full."""
        flags = np.ones(trie.items, dtype=bool)
        for bound, count in zip(self.rules.bounds, self.counts, strict=True):
            full = [group for group, number in count.items() if number >= bound.most and group >= 0]
            flags &= ~np.isin(bound.groups, full)
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
    lists = [_List(each, k, counts=[Counter() for _ in each.bounds]) for each in rules]
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
