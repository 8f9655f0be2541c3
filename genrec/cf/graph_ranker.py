"""LightGCN and BPR as recommenders: from histories to ranked items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from genrec.cf.arrays import read_arrays
from genrec.cf.lightgcn import LightGcn
from genrec.cf.request import check_request
from genrec.data.ranking import Ranking

# Scores held at once (64 MB).
SCORES_AT_ONCE = 2**24


@dataclass(frozen=True)
class GraphRanker:
    """Ranks items by the product of a user vector and theirs.

    A history stands for its user: the vector is made from its items, so that users who came after
    the training, and events after it, count as well. The order of a history plays no part.

    Attributes:
        name: ``lightgcn`` or ``bpr``.
        items: float32[n, d], the item vectors.
        folding: float32[n, d], what an item adds to a user's vector.
    """

    name: str
    items: NDArray[np.float32]
    folding: NDArray[np.float32]

    @classmethod
    def of(cls, network: LightGcn) -> "GraphRanker":
        """Take the vectors out of a trained network."""
        name = "lightgcn" if network.layers else "bpr"
        return cls(name, network.item_vectors(), network.folding_vectors())

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return the vector of each history, float32[B, d]; zeros for an empty one."""
        vectors = np.zeros((len(histories), self.items.shape[1]), dtype=np.float32)
        for row, history in enumerate(histories):
            chosen = np.unique(history)
            if len(chosen):
                vectors[row] = self.folding[chosen].sum(0) / np.sqrt(len(chosen))
        return vectors

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history; see ``RankingModel.rank``.

        For an empty history all items score 0.
        """
        excluded = check_request(histories, k, exclude, len(self.items))
        users = self.user_vectors(histories)
        rankings: list[Ranking] = []
        step = max(1, SCORES_AT_ONCE // len(self.items))
        for start in range(0, len(users), step):
            scores = users[start : start + step] @ self.items.T
            for row, barred in zip(scores, excluded[start : start + step], strict=True):
                row[barred] = -np.inf
                rankings.append(_best(row, k))
        return rankings

    def save(self, folder: Path) -> None:
        """Write ``NAME.safetensors`` into the folder."""
        save_file(
            {"items": self.items, "folding": self.folding}, folder / f"{self.name}.safetensors"
        )

    @classmethod
    def load(cls, folder: Path, name: str) -> "GraphRanker":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the file is missing or damaged.
        """
        arrays = read_arrays(folder / f"{name}.safetensors", ("items", "folding"))
        return cls(name, arrays["items"], arrays["folding"])


def _best(scores: NDArray[np.float32], k: int) -> Ranking:
    """Return the k best rows; those at minus infinity are left out."""
    most = min(k, len(scores))
    near = np.argpartition(-scores, most - 1)[:most]
    order = near[np.lexsort((near, -scores[near]))]
    order = order[np.isfinite(scores[order])]
    return Ranking(order.astype(np.int32), scores[order])
