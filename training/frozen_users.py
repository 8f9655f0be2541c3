"""The user vectors of a collaborative model after every beginning of a history, not trained."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.sasrec_ranker import SasRecRanker


class FrozenUsers:
    """Gives what users are aligned with.

    Args:
        model: SASRec, LightGCN or BPR, fitted on the training part.
    """

    def __init__(self, model: SasRecRanker | GraphRanker) -> None:
        self._model = model
        if isinstance(model, SasRecRanker):
            model.network.eval().requires_grad_(False)

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        if isinstance(self._model, GraphRanker):
            return self._model.items.shape[1]
        return self._model.network.item_vectors.embedding_dim

    @torch.no_grad()
    def states(self, sequences: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the vector before each item of a sequence, end to end, float32[total, d].

        Row t of a sequence is the vector of a user who chose its first t items; the first, of a
        user who chose none, is zero where the model knows nothing of such a user.
        """
        if isinstance(self._model, GraphRanker):
            beginnings = [sequence[:t] for sequence in sequences for t in range(len(sequence))]
            return torch.from_numpy(self._model.user_vectors(beginnings))
        network = self._model.network
        rows, lengths = network.pad([sequence[:-1] for sequence in sequences])
        states: Tensor = network(rows, lengths)
        real = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]
        return states[real]
