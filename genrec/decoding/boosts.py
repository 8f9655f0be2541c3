"""Items that a request would rather, or rather not, get: numbers added to their scores."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genrec.decoding.node_keys import find, node_keys
from genrec.decoding.trie import PrefixTrie


class BatchBoosts:
    """The best that the items below a node can still gain, for each request of a batch.

    A search that adds it to the score of a prefix goes where boosted items are before it has
    reached them, and at an item it is the item's own boost. So a wide beam finds what sorting all
    items by their boosted scores would find.

    Args:
        trie: The catalogue.
        boosts: For each request what is added to the score of which catalogue row.
    """

    def __init__(self, trie: PrefixTrie, boosts: Sequence[Mapping[int, float]]) -> None:
        device = trie.item_of_leaf.device
        pairs = [
            (request, row, value)
            for request, each in enumerate(boosts)
            for row, value in sorted(each.items())
        ]
        request = torch.tensor([pair[0] for pair in pairs], dtype=torch.int64, device=device)
        rows = torch.tensor([pair[1] for pair in pairs], dtype=torch.int64, device=device)
        values = torch.tensor([pair[2] for pair in pairs], dtype=torch.float32, device=device)
        leaves = trie.leaf_of_item[rows]
        self._sizes = [len(step) for step in trie.steps]
        self._keys: list[Tensor] = []
        self._gains: list[Tensor] = []
        for step, size in enumerate(self._sizes):
            node = trie.nodes_of_leaves(step, leaves)
            keys, place, count = torch.unique(
                node_keys(request, node, size), return_inverse=True, return_counts=True
            )
            best = torch.full((len(keys),), -torch.inf, device=device)
            best = best.scatter_reduce(0, place, values, "amax")
            # Where some item has no boost, nothing worse than 0 has to be taken.
            some = count < trie.leaf_start[step].diff()[keys % size]
            self._keys.append(keys)
            self._gains.append(torch.where(some, best.clamp(min=0), best))

    def gain(self, step: int, nodes: Tensor) -> Tensor:
        """Return what can still be gained below nodes int64[requests, ...], float of that shape."""
        if not len(self._keys[step]):
            return torch.zeros(nodes.shape, device=nodes.device)
        place, there = find(self._keys[step], nodes, self._sizes[step])
        return torch.where(there, self._gains[step][place], 0.0)
