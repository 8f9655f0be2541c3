"""What a request may not get: items struck out of the trie before the search, not after it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding.trie import PrefixTrie


@dataclass(frozen=True)
class Exclusions:
    """Nodes of the trie that lead only to excluded items, for each request of a batch.

    A node dies when every item below it is excluded, so a search that avoids dead nodes never
    ends without an item and never returns an excluded one.

    Attributes:
        dead: For each level of ``PrefixTrie.steps``, sorted int64 keys ``request * nodes + node``.
        nodes: Number of nodes of each level.
        most: No request excludes more items than this.
    """

    dead: tuple[Tensor, ...]
    nodes: tuple[int, ...]
    most: int

    @classmethod
    def from_rows(
        cls, trie: PrefixTrie, excluded: Sequence[NDArray[np.int32]], device: torch.device
    ) -> "Exclusions":
        """Find the dead nodes.

        Args:
            trie: The catalogue.
            excluded: Catalogue rows of each request; repeats are harmless.
            device: Where the search runs.
        """
        lengths = torch.tensor([len(rows) for rows in excluded])
        request = torch.repeat_interleave(torch.arange(len(excluded)), lengths)
        none = np.zeros(0, dtype=np.int64)
        item = torch.from_numpy(
            np.concatenate([none, *(np.asarray(rows, dtype=np.int64) for rows in excluded)])
        )
        pairs = torch.unique(request * trie.items + item).to(device)
        request, item = pairs // trie.items, pairs % trie.items
        dead = []
        for level in trie.steps:
            keys, count = torch.unique(
                request * len(level) + level.node_of_item[item], return_counts=True
            )
            dead.append(keys[count == level.leaf_count[keys % len(level)]])
        most = max(map(len, excluded), default=0)
        return cls(tuple(dead), tuple(len(level) for level in trie.steps), most)

    def allows(self, level: int, nodes: Tensor) -> Tensor:
        """Tell which nodes (int64[requests, ...]) still lead to an item, as bool of that shape."""
        dead = self.dead[level]
        if len(dead) == 0:
            return torch.ones_like(nodes, dtype=torch.bool)
        request = torch.arange(len(nodes), device=nodes.device)
        keys = request.view(-1, *[1] * (nodes.dim() - 1)) * self.nodes[level] + nodes
        place = torch.searchsorted(dead, keys).clamp(max=len(dead) - 1)
        return dead[place] != keys
