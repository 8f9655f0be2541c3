"""How often codes followed contexts, and how much of a shorter context to mix in."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MixingTable:
    """The share of each code and the share left to shorter contexts, of one context length.

    Attributes:
        seen: ``N(c, p, k) / (N(c, p) + s T(c, p))``, float64[contexts + 1, nodes]; 0 elsewhere.
        left: ``s T(c, p) / (N(c, p) + s T(c, p))``, float64[contexts + 1, prefixes]; where a
            prefix never followed a context nothing is stored, and the shorter one counts in full.
        children: Number of nodes of each prefix, int64[prefixes]; they follow each other.
    """

    seen: csr_array
    left: csr_array
    children: Ints

    def mix(self, chance: Floats, context: Ints) -> None:
        """Mix it into the chances after shorter contexts, in place.

        Only what is stored is touched: few prefixes follow a long context.

        Args:
            chance: float64[r, nodes], contiguous.
            context: int64[r], the context of each row.
        """
        left = self.left[context].tocoo()
        reach = self.children[left.col]
        first = left.row * chance.shape[1] + (np.cumsum(self.children) - self.children)[left.col]
        inside = np.arange(reach.sum()) - np.repeat(np.cumsum(reach) - reach, reach)
        chance.reshape(-1)[np.repeat(first, reach) + inside] *= np.repeat(left.data, reach)
        seen = self.seen[context].tocoo()
        chance[seen.row, seen.col] += seen.data

    def mix_one(self, chance: Floats, context: Ints, node: Ints, parent: Ints) -> Floats:
        """Return chances of one node each after mixing, float64[r].

        Args:
            chance: float64[r], after shorter contexts.
            context: int64[r].
            node: int64[r].
            parent: int64[r], prefix of each node.
        """
        left = self.left[context, parent]
        return np.asarray(chance * np.where(left > 0, left, 1.0) + self.seen[context, node])


@dataclass(frozen=True)
class CodeCounts:
    """Counts of the codes of one level after contexts of one length.

    A node is a prefix p and a code k behind it; m pairs of context and node were seen, in w pairs
    of context and prefix. The context after the last stands for one that was never seen.

    Attributes:
        context: int64[m].
        node: int64[m].
        count: N(c, p, k), float64[m].
        group: int64[m], which of the w pairs each belongs to.
        above: Context and prefix of each of the w, int64[w] both.
        total: N(c, p), float64[w].
        kinds: T(c, p), number of different codes, float64[w].
        parent: int64[nodes], prefix of each node.
        contexts: Number of contexts.
    """

    context: Ints
    node: Ints
    count: Floats
    group: Ints
    above: tuple[Ints, Ints]
    total: Floats
    kinds: Floats
    parent: Ints
    contexts: int

    @classmethod
    def of(cls, context: Ints, node: Ints, parent: Ints, *, contexts: int) -> Self:
        """Count pairs of context int64[q] and node int64[q]."""
        nodes, parents = len(parent), int(parent.max(initial=0)) + 1
        seen, count = np.unique(context * nodes + node, return_counts=True)
        context, node = np.divmod(seen, nodes)
        above, group = np.unique(context * parents + parent[node], return_inverse=True)
        return cls(
            context=context,
            node=node,
            count=count.astype(np.float64),
            group=group,
            above=np.divmod(above, parents),
            total=np.bincount(group, weights=count, minlength=len(above)).astype(np.float64),
            kinds=np.bincount(group, minlength=len(above)).astype(np.float64),
            parent=parent,
            contexts=contexts,
        )

    def table(self, strength: float) -> MixingTable:
        """Turn the counts into shares; ``strength`` is the weight of the shorter context."""
        room = self.total + strength * self.kinds
        return MixingTable(
            seen=self._by_node(self.count / room[self.group]),
            left=self._by_prefix(strength * self.kinds / room),
            children=np.bincount(self.parent),
        )

    def look_up(self, context: Ints, node: Ints) -> tuple[Floats, Floats, Floats]:
        """Return N(c, p, k), N(c, p) and T(c, p) for contexts and nodes int64[q]; 0 if unseen."""
        if not len(context):
            nothing = np.zeros(0)
            return nothing, nothing, nothing
        prefix = self.parent[node]
        return (
            self._by_node(self.count)[context, node],
            self._by_prefix(self.total)[context, prefix],
            self._by_prefix(self.kinds)[context, prefix],
        )

    def _by_node(self, values: Floats) -> csr_array:
        shape = (self.contexts + 1, len(self.parent))
        return csr_array((values, (self.context, self.node)), shape=shape)

    def _by_prefix(self, values: Floats) -> csr_array:
        shape = (self.contexts + 1, int(self.parent.max(initial=0)) + 1)
        return csr_array((values, self.above), shape=shape)
