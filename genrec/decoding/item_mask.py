"""Which items may be recommended, counted for every node of the trie.

A node with no allowed item below it is never entered, so a search always ends at an allowed item.
Counts rather than flags let an item come and go in as many steps as it has codes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError


# Two masks are the same only when they are one: what they hold may change.
@dataclass(frozen=True, eq=False)
class ItemMask:
    """A set of allowed items.

    Attributes:
        trie: The catalogue.
        allowed: bool[n] by catalogue row.
        counts: For each step of the trie int32[N], the allowed items below each node.
    """

    trie: PrefixTrie
    allowed: Tensor
    counts: tuple[Tensor, ...]

    @classmethod
    def of(cls, trie: PrefixTrie, allowed: NDArray[np.bool_] | Tensor) -> "ItemMask":
        """Count a set of items.

        Args:
            trie: The catalogue.
            allowed: bool[n] by catalogue row.

        Raises:
            RequestError: When it is not one flag an item.
        """
        flags = torch.as_tensor(allowed, dtype=torch.bool, device=trie.item_of_leaf.device)
        if flags.shape != (trie.items,):
            raise RequestError(
                f"a mask has shape {tuple(flags.shape)}, expected one flag for each of the "
                f"{trie.items} items."
            )
        counts = [flags[trie.item_of_leaf].int()]
        for level in reversed(trie.steps[1:]):
            before = torch.nn.functional.pad(counts[-1].cumsum(0, dtype=torch.int32), (1, 0))
            counts.append(before[level.child_start].diff())
        return cls(trie, flags.clone(), tuple(reversed(counts)))

    @property
    def items(self) -> int:
        """Number of allowed items."""
        return int(self.counts[0].sum())

    def set(self, rows: NDArray[np.integer] | Tensor, allowed: bool) -> None:
        """Allow or forbid some items from now on; rows that are so already stay.

        Args:
            rows: int[m], catalogue rows; repeats are harmless.
            allowed: What they shall be.
        """
        wanted = torch.unique(torch.as_tensor(rows, device=self.allowed.device).long())
        changed = wanted[self.allowed[wanted] != allowed]
        self.allowed[changed] = allowed
        leaves = self.trie.leaf_of_item[changed]
        change = torch.full((len(changed),), 1 if allowed else -1, dtype=torch.int32)
        change = change.to(self.allowed.device)
        for step, counts in enumerate(self.counts):
            counts.index_add_(0, self.trie.nodes_of_leaves(step, leaves), change)

    def __and__(self, other: "ItemMask") -> "ItemMask":
        """Return the items that both allow."""
        return ItemMask.of(self.trie, self.allowed & other.allowed)
