"""The simplest baseline: the most frequent items, the same for everyone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from genrec.cf.arrays import read_arrays
from genrec.cf.request import check_request
from genrec.data.dataset import Dataset
from genrec.data.ranking import Ranking


@dataclass(frozen=True)
class Popularity:
    """Ranks items by how often they were chosen in the training part.

    Ties go to the smaller catalogue row. Scores are training counts.

    Attributes:
        counts: int64[n], training events of each catalogue row.
    """

    counts: NDArray[np.int64]

    @classmethod
    def fit(cls, dataset: Dataset) -> "Popularity":
        """Count the training events of each item."""
        return cls(dataset.item_counts)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "popularity"

    @cached_property
    def order(self) -> NDArray[np.int32]:
        """Catalogue rows from the most to the least frequent, int32[n]."""
        return np.argsort(-self.counts, kind="stable").astype(np.int32)

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank the most frequent items for each history; the history itself is not read.

        Args:
            histories: Catalogue rows per user, oldest first; may be empty.
            k: Number of items wanted; fewer are returned only when fewer are eligible.
            exclude: Catalogue rows per user that must not be returned.

        Raises:
            RequestError: When k is below 1, a row is outside the catalogue, or ``exclude`` does
                not have one entry a history.
        """
        excluded = check_request(histories, k, exclude, len(self.counts))
        return [self.top(k, rows) for rows in excluded]

    def top(self, k: int, excluded: NDArray[np.int32]) -> Ranking:
        """Return the k most frequent items that are not among the excluded rows (int32[m])."""
        # Among the first k + m items at most m are excluded, so k are left if the catalogue has k.
        head = self.order[: k + len(excluded)]
        items = head[~np.isin(head, excluded)][:k]
        return Ranking(items, self.counts[items].astype(np.float32))

    def filled(
        self, ranking: Ranking, k: int, excluded: NDArray[np.int32], below: float
    ) -> Ranking:
        """Return a list with the most frequent other items put behind it, so that it has k.

        Args:
            ranking: At most k items, best first.
            k: Number of items wanted.
            excluded: int32[m], catalogue rows that must not be in it.
            below: The scores of what is put in lie between 0 and this.
        """
        if len(ranking) == k:
            return ranking
        fill = self.top(k - len(ranking), np.concatenate([excluded, ranking.items]))
        scores = np.float32(below) * fill.scores / np.float32(self.counts.max() + 1)
        return Ranking(
            np.concatenate([ranking.items, fill.items]), np.concatenate([ranking.scores, scores])
        )

    def save(self, folder: Path) -> None:
        """Write ``popularity.safetensors`` into the folder."""
        save_file({"counts": self.counts}, folder / "popularity.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "Popularity":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the file is missing or damaged.
        """
        return cls(read_arrays(folder / "popularity.safetensors", ("counts",))["counts"])
