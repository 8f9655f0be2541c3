"""The catalogue as a state machine: which codes may follow a prefix, in flat arrays.

Nodes of a level are the distinct prefixes of that length in lexicographic order, so the children
of a node are neighbours in the next level and one start and one count name them all.

Where items share their codes the tree has one step below the codes: the items of a tuple, from
the most to the least popular. Nothing tells the model's opinion of them apart, so all have the
score of their tuple and popularity decides.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import DataError
from genrec.semantic_ids.item_index import ItemIndex


@dataclass(frozen=True)
class TrieLevel:
    """The N nodes at one depth.

    Attributes:
        code: int64[N], last code of each node's prefix; below the codes, an item's place among
            those of its tuple.
        child_start: int64[P + 1] over the P nodes one level up (the root for the first level);
            children of node p are ``child_start[p]:child_start[p + 1]``.
        leaf_count: int64[N], items below each node.
        node_of_item: int64[n], node on the path of each catalogue row.
        widest: Most children any parent has.
    """

    code: Tensor
    child_start: Tensor
    leaf_count: Tensor
    node_of_item: Tensor
    widest: int

    def __len__(self) -> int:
        return len(self.code)

    def to(self, device: torch.device) -> "TrieLevel":
        """Return a copy on another device."""
        return TrieLevel(
            self.code.to(device),
            self.child_start.to(device),
            self.leaf_count.to(device),
            self.node_of_item.to(device),
            self.widest,
        )


@dataclass(frozen=True)
class PrefixTrie:
    """All real items as paths; a prefix that is not in it leads to no item.

    Attributes:
        levels: One entry a code position.
        item_of_leaf: int64[n], catalogue row of each leaf: each node of the last level, or of
            ``sharing``.
        sharing: The step below the codes; None when every item has codes of its own.
    """

    levels: tuple[TrieLevel, ...]
    item_of_leaf: Tensor
    sharing: TrieLevel | None = None

    @cached_property
    def steps(self) -> tuple[TrieLevel, ...]:
        """All levels down to the items: one a code position, and ``sharing``."""
        return self.levels if self.sharing is None else (*self.levels, self.sharing)

    @cached_property
    def items(self) -> int:
        """Number of items."""
        return len(self.item_of_leaf)

    @classmethod
    def from_index(
        cls, index: ItemIndex, item_counts: NDArray[np.int64] | None = None
    ) -> "PrefixTrie":
        """Build the trie of an index; no loop over items.

        Args:
            index: The codes.
            item_counts: int64[n], how popular each item is; orders items with the same codes, the
                smaller row first among equals. None takes all for equal.

        Raises:
            DataError: When the index has no item, or another number than there are counts.
        """
        if len(index) == 0:
            raise DataError("the item index is empty; a trie needs at least one item.")
        counts = np.zeros(len(index), dtype=np.int64) if item_counts is None else item_counts
        if counts.shape != (len(index),):
            raise DataError(f"there are {len(counts)} item counts for {len(index)} items.")
        order = np.lexsort((-counts, index.keys))
        codes = index.codes[order].astype(np.int64)
        leaves = torch.from_numpy(order.astype(np.int64))
        if index.tuples == len(index):
            return cls(_levels(codes, order), leaves)
        key = index.keys[order]
        place = np.arange(len(key)) - np.searchsorted(key, key)
        *levels, sharing = _levels(np.column_stack([codes, place]), order)
        return cls(tuple(levels), leaves, sharing)

    def to(self, device: torch.device) -> "PrefixTrie":
        """Return a copy on another device."""
        return PrefixTrie(
            tuple(level.to(device) for level in self.levels),
            self.item_of_leaf.to(device),
            None if self.sharing is None else self.sharing.to(device),
        )

    def children(
        self, level: int, parent: Tensor, most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the nodes of a level below each parent node.

        Args:
            level: Level of the children, one of ``steps``; 0 asks for the children of the root
                (parent 0).
            parent: int64[...], nodes one level up.
            most: Return only so many first children of each; None returns all.

        Returns:
            Nodes int64[..., widest] and bool[..., widest], true where there is such a child.
        """
        table = self.steps[level]
        start = table.child_start[parent].unsqueeze(-1)
        end = table.child_start[parent + 1].unsqueeze(-1)
        widest = table.widest if most is None else min(most, table.widest)
        nodes = start + torch.arange(widest, device=start.device)
        real = nodes < end
        return nodes.clamp(max=len(table) - 1), real


def _levels(codes: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[TrieLevel, ...]:
    """Return the levels of a trie.

    Args:
        codes: int64[n, L] in lexicographic order.
        order: int64[n], catalogue row of each.
    """
    levels = []
    parent_of_row: NDArray[np.int64] = np.zeros(len(codes), dtype=np.int64)
    parents = 1
    for column in codes.T:
        new = np.ones(len(codes), dtype=bool)
        new[1:] = (parent_of_row[1:] != parent_of_row[:-1]) | (column[1:] != column[:-1])
        node_of_row = np.cumsum(new) - 1
        first = np.flatnonzero(new)
        node_of_item = np.empty(len(codes), dtype=np.int64)
        node_of_item[order] = node_of_row
        children = np.bincount(parent_of_row[first], minlength=parents)
        child_start = np.concatenate([[0], np.cumsum(children)])
        levels.append(
            TrieLevel(
                code=torch.from_numpy(column[first]),
                child_start=torch.from_numpy(child_start.astype(np.int64)),
                leaf_count=torch.from_numpy(np.bincount(node_of_row).astype(np.int64)),
                node_of_item=torch.from_numpy(node_of_item),
                widest=int(children.max()),
            )
        )
        parent_of_row, parents = node_of_row, len(first)
    return tuple(levels)
