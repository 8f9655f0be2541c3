"""The catalogue as a state machine: which codes may follow a prefix, in flat arrays.

Nodes of a level are the distinct prefixes of that length in lexicographic order, so the children
of a node are neighbours in the next level and one start and one count name them all.
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
        code: int64[N], last code of each node's prefix.
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
        item_of_leaf: int64[n], catalogue row of each node of the last level.
    """

    levels: tuple[TrieLevel, ...]
    item_of_leaf: Tensor

    @cached_property
    def items(self) -> int:
        """Number of items."""
        return len(self.item_of_leaf)

    @classmethod
    def from_index(cls, index: ItemIndex) -> "PrefixTrie":
        """Build the trie of an index; no loop over items.

        Raises:
            DataError: When the index has no item.
        """
        if len(index) == 0:
            raise DataError("the item index is empty; a trie needs at least one item.")
        order = np.argsort(index.keys, kind="stable")
        codes = index.codes[order].astype(np.int64)
        levels = []
        parent_of_row: NDArray[np.int64] = np.zeros(len(codes), dtype=np.int64)
        parents = 1
        for level in range(index.levels):
            new = np.ones(len(codes), dtype=bool)
            new[1:] = (parent_of_row[1:] != parent_of_row[:-1]) | (
                codes[1:, level] != codes[:-1, level]
            )
            node_of_row = np.cumsum(new) - 1
            first = np.flatnonzero(new)
            node_of_item = np.empty(len(codes), dtype=np.int64)
            node_of_item[order] = node_of_row
            children = np.bincount(parent_of_row[first], minlength=parents)
            child_start = np.concatenate([[0], np.cumsum(children)])
            levels.append(
                TrieLevel(
                    code=torch.from_numpy(codes[first, level]),
                    child_start=torch.from_numpy(child_start.astype(np.int64)),
                    leaf_count=torch.from_numpy(np.bincount(node_of_row).astype(np.int64)),
                    node_of_item=torch.from_numpy(node_of_item),
                    widest=int(children.max()),
                )
            )
            parent_of_row, parents = node_of_row, len(first)
        return cls(tuple(levels), torch.from_numpy(order.astype(np.int64)))

    def to(self, device: torch.device) -> "PrefixTrie":
        """Return a copy on another device."""
        return PrefixTrie(
            tuple(level.to(device) for level in self.levels), self.item_of_leaf.to(device)
        )

    def children(self, level: int, parent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nodes of a level below each parent node.

        Args:
            level: Level of the children; 0 asks for the children of the root (parent 0).
            parent: int64[...], nodes one level up.

        Returns:
            Nodes int64[..., widest] and bool[..., widest], true where there is such a child.
        """
        table = self.levels[level]
        start = table.child_start[parent].unsqueeze(-1)
        end = table.child_start[parent + 1].unsqueeze(-1)
        nodes = start + torch.arange(table.widest, device=start.device)
        real = nodes < end
        return nodes.clamp(max=len(table) - 1), real
