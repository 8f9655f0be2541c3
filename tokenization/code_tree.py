"""The prefixes of an index as a tree of numbered nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genrec.semantic_ids.item_index import number_prefixes

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CodeTree:
    """The prefixes that items have, numbered level by level in lexicographic order.

    N_l is the number of distinct prefixes of l + 1 codes. The numbers of the children of a node
    follow each other, and so do those of all nodes below it.

    Attributes:
        parent: For each level l the node one level up, int64[N_l], ascending; 0 at the first.
        code: For each level l the last code of each prefix, int64[N_l].
        node: int64[n, L], node of each item at each level.
    """

    parent: tuple[Ints, ...]
    code: tuple[Ints, ...]
    node: Ints

    @classmethod
    def of(cls, codes: NDArray[np.integer], level_sizes: Sequence[int]) -> Self:
        """Number the prefixes of codes int[n, L]."""
        prefixes, number = number_prefixes(codes, level_sizes)
        split = [
            np.divmod(keys, int(size)) for keys, size in zip(prefixes, level_sizes, strict=True)
        ]
        node = np.empty(codes.shape, dtype=np.int64)
        for level in reversed(range(codes.shape[1])):
            node[:, level] = number
            number = split[level][0][number]
        return cls(tuple(parent for parent, _ in split), tuple(code for _, code in split), node)

    @property
    def levels(self) -> int:
        """Number of codes an item has."""
        return len(self.parent)

    def size(self, level: int) -> int:
        """Return the number of distinct prefixes of ``level + 1`` codes; 1 for level -1."""
        return len(self.parent[level]) if level >= 0 else 1

    def items_below(self, level: int) -> Ints:
        """Return the number of items of each node of a level, int64[N_l]; all for level -1."""
        if level < 0:
            return np.array([len(self.node)])
        return np.bincount(self.node[:, level], minlength=self.size(level))
