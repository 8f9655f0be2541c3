"""The user vectors of a collaborative model after every beginning of a history, not trained."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.sasrec_ranker import SasRecRanker

# Beginnings asked for at once, so that what is held besides the answer does not grow.
AT_ONCE = 2**16


class FrozenUsers:
    """Gives what users are aligned with: what the model says when asked with each beginning.

    All are asked for once, for the model does not change. SASRec counts places from the newest
    item back, so its states inside a long history are not those of the beginnings alone.

    Args:
        model: SASRec, LightGCN or BPR, fitted on the training part.
        sequences: Items per user, oldest first.
    """

    def __init__(
        self, model: SasRecRanker | GraphRanker, sequences: Sequence[NDArray[np.int32]]
    ) -> None:
        lengths = [len(sequence) for sequence in sequences]
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        parts: list[NDArray[np.float32]] = []
        waiting: list[NDArray[np.int32]] = []
        for sequence in sequences:
            waiting += [sequence[:t] for t in range(len(sequence))]
            if len(waiting) >= AT_ONCE:
                parts.append(model.user_vectors(waiting))
                waiting = []
        parts.append(model.user_vectors(waiting))
        self._vectors = torch.from_numpy(np.concatenate(parts))

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return self._vectors.shape[1]

    def states(self, rows: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """Return the vectors before each item of some sequences, end to end, float32[total, d].

        Row t of a sequence is the vector of a user who chose its first t items; the first, of a
        user who chose none, is zero where the model knows nothing of such a user.

        Args:
            rows: Positions of the sequences.
        """
        starts, ends = self._offsets[:-1], self._offsets[1:]
        return torch.cat([self._vectors[starts[row] : ends[row]] for row in rows])
