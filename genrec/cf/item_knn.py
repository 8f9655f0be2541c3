"""Item neighbours: what people who chose the items of a history chose as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse

from genrec.cf.arrays import read_arrays
from genrec.cf.popularity import Popularity
from genrec.cf.request import check_request
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.data.ranking import Ranking

FILE_NAME = "item_knn.safetensors"
# Rows of the similarity matrix that are made at once.
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class ItemKnn:
    """Ranks items by the sum of their similarities to the items of the history.

    The similarity of two items is the cosine of the sets of users who chose them, shrunk where few
    chose both (Sarwar et al., "Item-based Collaborative Filtering", 2001); of each item only the
    nearest are kept. Newer items of a history weigh more. Where fewer than k items are near, the
    most popular ones fill the list, with scores below those of all neighbours.

    Attributes:
        offsets: int64[n + 1]; the neighbours of item i lie at ``offsets[i]:offsets[i + 1]``.
        neighbours: int32[p], catalogue rows.
        similarities: float32[p], above 0.
        decay: What an item's similarities are multiplied by for every newer item.
        popularity: What fills short lists.
    """

    offsets: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    similarities: NDArray[np.float32]
    decay: float
    popularity: Popularity

    @classmethod
    def fit(
        cls, dataset: Dataset, *, neighbours: int = 200, shrinkage: float = 10.0, decay: float = 0.5
    ) -> "ItemKnn":
        """Compare the items of the training part.

        Args:
            dataset: Its training events are read.
            neighbours: Nearest items that are kept of each.
            shrinkage: Added to the norm of a cosine; pairs that few users chose count less.
            decay: What an item counts for less with every newer one, 0 to 1.
        """
        similar = _similar(dataset.sequences(), len(dataset.catalog), neighbours, shrinkage)
        return cls(
            similar.indptr.astype(np.int64),
            similar.indices.astype(np.int32),
            similar.data.astype(np.float32),
            decay,
            Popularity.fit(dataset),
        )

    @property
    def name(self) -> str:
        """Name in tables."""
        return "item_knn"

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank what is near the items of each history; see ``RankingModel.rank``.

        An empty history gets popular items.
        """
        excluded = check_request(histories, k, exclude, len(self.popularity.counts))
        return [
            self._rank_one(history, k, rows)
            for history, rows in zip(histories, excluded, strict=True)
        ]

    def probabilities(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return the share of each item in all that is near a history, float32[B, n].

        A row adds up to one, or is zero where nothing is near. Items of the history have none.

        Args:
            histories: Catalogue rows per user, oldest first; may be empty.
        """
        found = np.zeros((len(histories), len(self.popularity.counts)), dtype=np.float32)
        for place, history in enumerate(histories):
            scores = self._scores(history)
            scores[history] = 0.0
            total = float(scores.sum())
            if total:
                found[place] = scores / total
        return found

    def _scores(self, history: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the sum of similarities to the items of a history, float64[n]."""
        scores = np.zeros(len(self.popularity.counts), dtype=np.float64)
        weight = 1.0
        for row in history[::-1].tolist():
            near = slice(self.offsets[row], self.offsets[row + 1])
            scores[self.neighbours[near]] += weight * self.similarities[near]
            weight *= self.decay
        return scores

    def _rank_one(self, history: NDArray[np.int32], k: int, excluded: NDArray[np.int32]) -> Ranking:
        scores = self._scores(history)
        scores[excluded] = 0.0
        found = np.flatnonzero(scores)
        best = found[np.argsort(-scores[found], kind="stable")][:k]
        items, values = best.astype(np.int32), scores[best].astype(np.float32)
        below = float(values[-1]) if len(values) else 1.0
        return self.popularity.filled(Ranking(items, values), k, excluded, below)

    def save(self, folder: Path) -> None:
        """Write ``item_knn.safetensors`` into the folder."""
        arrays: dict[str, NDArray[Any]] = {
            "offsets": self.offsets,
            "neighbours": self.neighbours,
            "similarities": self.similarities,
            "decay": np.array([self.decay]),
            "popularity": self.popularity.counts,
        }
        save_file(arrays, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> "ItemKnn":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the file is missing or damaged.
        """
        names = ("offsets", "neighbours", "similarities", "decay", "popularity")
        arrays = read_arrays(folder / FILE_NAME, names)
        return cls(
            arrays["offsets"],
            arrays["neighbours"],
            arrays["similarities"],
            float(arrays["decay"][0]),
            Popularity(arrays["popularity"]),
        )


def _similar(
    sequences: Histories, items: int, neighbours: int, shrinkage: float
) -> sparse.csr_matrix:
    """Return the similarities of each item to its nearest ones, [n, n]; none to itself."""
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    chosen = sparse.csr_matrix(
        (np.ones(len(users)), (sequences.items, users)), shape=(items, len(sequences))
    )
    # Chosen twice is chosen.
    chosen.data[:] = 1.0
    counts = np.asarray(chosen.sum(axis=1)).ravel()
    blocks = []
    for start in range(0, items, ROWS_AT_ONCE):
        block = (chosen[start : start + ROWS_AT_ONCE] @ chosen.T).tocoo()
        row, column = block.row + start, block.col
        norm = np.sqrt(counts[row] * counts[column]) + shrinkage
        other = row != column
        pairs = (block.row[other], column[other])
        cosine = sparse.csr_matrix((block.data[other] / norm[other], pairs), shape=block.shape)
        blocks.append(_nearest(cosine, neighbours))
    return sparse.vstack(blocks, format="csr")


def _nearest(similar: sparse.csr_matrix, neighbours: int) -> sparse.csr_matrix:
    """Keep the largest entries of each row; of equal ones those of smaller columns."""
    rows = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    order = np.lexsort((similar.indices, -similar.data, rows))
    place = np.arange(len(order)) - similar.indptr[rows]
    kept = order[place < neighbours]
    pairs = (rows[kept], similar.indices[kept])
    return sparse.csr_matrix((similar.data[kept], pairs), shape=similar.shape)
