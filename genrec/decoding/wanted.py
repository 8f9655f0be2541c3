"""Items that a search scores whatever its beams are, because something else found them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding import selection
from genrec.decoding.node_keys import find, node_keys
from genrec.decoding.trie import PrefixTrie

# Above every log-probability; only the order of what is kept depends on it.
_AHEAD = 1e6


class BatchWanted:
    """The prefixes of wanted items, for each request of a batch.

    They are kept beside the beams, not in their places: the width grows by as many as one request
    wants. Rules go before wishes, an item that a request may not get is not kept.

    Args:
        trie: The catalogue.
        rows: Catalogue rows that each request wants, int[m] a request.
    """

    def __init__(self, trie: PrefixTrie, rows: Sequence[NDArray[np.integer]]) -> None:
        device = trie.item_of_leaf.device
        lengths = [len(each) for each in rows]
        request = torch.repeat_interleave(
            torch.arange(len(rows), device=device), torch.tensor(lengths, device=device)
        )
        wanted = np.concatenate([np.zeros(0, dtype=np.int64), *rows]).astype(np.int64)
        leaves = trie.leaf_of_item[torch.from_numpy(wanted).to(device)]
        self.most = max(lengths, default=0)
        self._sizes = [len(step) for step in trie.steps]
        self._keys = [
            torch.unique(node_keys(request, trie.nodes_of_leaves(step, leaves), size))
            for step, size in enumerate(self._sizes)
        ]

    def best_of(
        self, step: int, nodes: Tensor, scores: Tensor, width: int, stable: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the best candidates of each request and those on wanted paths, best first.

        Args:
            step: One of ``PrefixTrie.steps``.
            nodes: int64[B, C], the candidates.
            scores: float[B, C]; minus infinity for what is no candidate.
            width: Candidates to keep beside the wanted ones.
            stable: See ``selection.best_of``.

        Returns:
            Scores float[B, W] and places int64[B, W] with ``W <= width + most``.
        """
        there = find(self._keys[step], nodes, self._sizes[step])[1]
        ahead = scores + _AHEAD * there
        _, place = selection.best_of(ahead, width + self.most, stable=stable)
        kept = scores.gather(1, place)
        best, order = kept.sort(dim=1, descending=True, stable=True)
        return best, place.gather(1, order)
