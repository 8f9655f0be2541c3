"""A smoothed next-code model: how likely each tuple of codes is after an item."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.code_counts import CodeCounts, MixingTable
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.item_pairs import ItemPairs

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# How much a shorter context may count; of equally good ones the first is taken.
STRENGTHS = (1.0, 2.0, 0.5, 4.0, 0.25, 8.0, 16.0, 32.0, 64.0, 128.0)
# Rounds over the contexts in which each strength is chosen anew; later rounds change little.
_ROUNDS = 3

# Held-out pairs looked at, spread over all sequences.
_HELD_OUT = 8192


class CodeTransitions:
    """P(tuple | item before), smoothed by what the codes say about both items.

    The chance of a tuple is the product over its levels of P(code | prefix, context). The
    context is the tuple of the item before, interpolated with its prefixes down to the empty
    one, in the manner of Witten and Bell ("The zero-frequency problem", 1991, method C)::

        P_j(k | p) = (N(c_j, p, k) + s T(c_j, p) P_(j-1)(k | p)) / (N(c_j, p) + s T(c_j, p))

    with c_j the first j codes of the item before, N how often the pairs show it, T how many
    different codes followed, and s a strength for each level and each j (theirs is 1). Below the
    empty context every item is as likely as any other. So codes help when items with a common
    prefix are followed by items with a common prefix; with meaningless codes only the counts of
    the very item are left.

    Attributes:
        tree: The prefixes of the index.
        strengths: One row a level, one strength for each length of the context from 0 to L.
    """

    def __init__(
        self, tree: CodeTree, pairs: ItemPairs, strengths: Sequence[Sequence[float]]
    ) -> None:
        """Count pairs and mix them with these strengths."""
        self.tree = tree
        self.strengths = strengths
        self._start: list[Floats] = []
        self._tables: list[list[MixingTable]] = []
        for level, row in enumerate(strengths):
            counts = _count(tree, pairs, level)
            tables = [count.table(s) for count, s in zip(counts, row, strict=True)]
            start = _even_shares(tree, level)[None, :]
            # The empty context is the same for all, so it is mixed in once and for all.
            tables[0].mix(start, np.zeros(1, dtype=np.int64))
            self._start.append(start)
            self._tables.append(tables[1:])

    @classmethod
    def fit(cls, tree: CodeTree, pairs: ItemPairs) -> Self:
        """Count pairs, with the strengths that suit them best.

        The last pair of each sequence is held out: the strengths are those under which the other
        pairs make it (of at most 8,192 sequences) most likely. Then all pairs are counted.
        """
        held_out, rest = pairs.of_mask(pairs.last), pairs.of_mask(~pairs.last)
        held_out = held_out.spread(_HELD_OUT)
        strengths = [_best_strengths(tree, level, rest, held_out) for level in range(tree.levels)]
        return cls(tree, pairs, strengths)

    def chances(self, items: Ints) -> Floats:
        """Return how likely each tuple is after an item.

        Args:
            items: int64[r], rows of the items before; -1 where there is none.

        Returns:
            float64[r, N] with N the number of distinct tuples; each row adds up to 1.
        """
        whole = np.ones((len(items), 1))
        for start, tables, parent in zip(self._start, self._tables, self.tree.parent, strict=True):
            chance = np.repeat(start, len(items), axis=0)
            for length, table in enumerate(tables, start=1):
                table.mix(chance, _context(self.tree, items, length))
            chance *= whole[:, parent]
            whole = chance
        return whole

    def chances_of(self, items: Ints, targets: Ints) -> Floats:
        """Return how likely the tuple of one item is after another, float64[r].

        Args:
            items: int64[r], rows of the items before; -1 where there is none.
            targets: int64[r], rows of the items whose tuples are looked up.
        """
        whole = np.ones(len(items))
        for level, (start, tables) in enumerate(zip(self._start, self._tables, strict=True)):
            node = self.tree.node[targets, level]
            parent = self.tree.parent[level][node]
            chance = start[0, node]
            for length, table in enumerate(tables, start=1):
                chance = table.mix_one(chance, _context(self.tree, items, length), node, parent)
            whole = whole * chance
        return whole


def _context(tree: CodeTree, items: Ints, length: int) -> Ints:
    """Return the node of the first codes of each item, int64[r]; one past the last without any."""
    if not length:
        return np.zeros(len(items), dtype=np.int64)
    return np.where(items >= 0, tree.node[items, length - 1], tree.size(length - 1))


def _even_shares(tree: CodeTree, level: int) -> Floats:
    """Return the share of each node in the items of its parent, float64[N_l]."""
    return tree.items_below(level) / tree.items_below(level - 1)[tree.parent[level]]


def _count(tree: CodeTree, pairs: ItemPairs, level: int) -> list[CodeCounts]:
    """Count the codes of one level after contexts of each length from 0 to L."""
    return [
        CodeCounts.of(
            _context(tree, pairs.before, length),
            tree.node[pairs.after, level],
            tree.parent[level],
            contexts=tree.size(length - 1),
        )
        for length in range(tree.levels + 1)
    ]


def _best_strengths(
    tree: CodeTree, level: int, counted: ItemPairs, held_out: ItemPairs
) -> list[float]:
    """Choose the strengths of one level, context by context, under which held-out pairs fit best.

    A tuple's chance is a product over levels, so each level can be fitted by itself.
    """
    node = tree.node[held_out.after, level]
    found = [
        counts.look_up(_context(tree, held_out.before, length), node)
        for length, counts in enumerate(_count(tree, counted, level))
    ]
    start = _even_shares(tree, level)[node]
    chosen = [STRENGTHS[0]] * len(found)
    for _ in range(_ROUNDS if len(held_out) else 0):
        for length in range(len(found)):
            tries = [
                _fit(start, found, [*chosen[:length], strength, *chosen[length + 1 :]])
                for strength in STRENGTHS
            ]
            chosen[length] = STRENGTHS[int(np.argmax(tries))]
    return chosen


def _fit(
    start: Floats, found: Sequence[tuple[Floats, Floats, Floats]], strengths: Sequence[float]
) -> float:
    """Return the mean log chance of pairs whose counts were found, nearer to 0 is better."""
    chance = start
    for (count, total, kinds), strength in zip(found, strengths, strict=True):
        room = total + strength * kinds
        mixed = (count + strength * kinds * chance) / np.where(room > 0, room, 1)
        chance = np.where(room > 0, mixed, chance)
    return float(np.log(chance).mean())
