"""The baseline to beat: what directly followed the user's last item, counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from genrec.cf.arrays import read_arrays
from genrec.cf.popularity import Popularity
from genrec.cf.request import check_request
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.data.ranking import Ranking


@dataclass(frozen=True)
class Transition:
    """Ranks items by how often they directly followed the last item of the history.

    Ties go to the pair that occurred first: users in row order, each user's events in time order.
    Where fewer than k items followed, the most popular items fill the list. A follower's score is
    its count, at least 1; a filling item's score lies below 1.

    Attributes:
        offsets: int64[n + 1]; what followed item i lies at ``offsets[i]:offsets[i + 1]``.
        followers: int32[p], catalogue rows, most frequent follower first.
        counts: int64[p], how often each of them followed.
        popularity: What fills short lists.
    """

    offsets: NDArray[np.int64]
    followers: NDArray[np.int32]
    counts: NDArray[np.int64]
    popularity: Popularity

    @classmethod
    def fit(cls, dataset: Dataset) -> "Transition":
        """Count the neighbouring pairs of every training sequence."""
        return cls.count(dataset.sequences(), Popularity.fit(dataset))

    @classmethod
    def count(cls, sequences: Histories, popularity: Popularity) -> "Transition":
        """Count the neighbouring pairs of these sequences.

        Args:
            sequences: Item sequences, oldest first; their targets are not read.
            popularity: What fills short lists.
        """
        n = len(popularity.counts)
        sequence = np.repeat(np.arange(len(sequences)), sequences.lengths)
        same = sequence[1:] == sequence[:-1]
        before = sequences.items[:-1][same].astype(np.int64)
        after = sequences.items[1:][same].astype(np.int64)
        pairs, first, counts = np.unique(before * n + after, return_index=True, return_counts=True)
        order = np.lexsort((first, -counts, pairs // n))
        pairs_of_item = np.bincount(pairs // n, minlength=n)
        return cls(
            offsets=np.concatenate([[0], np.cumsum(pairs_of_item)]).astype(np.int64),
            followers=(pairs % n)[order].astype(np.int32),
            counts=counts[order].astype(np.int64),
            popularity=popularity,
        )

    @property
    def name(self) -> str:
        """Name in tables."""
        return "transition"

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank what followed each history's last item; an empty history gets popular items.

        Args:
            histories: Catalogue rows per user, oldest first; may be empty.
            k: Number of items wanted; fewer are returned only when fewer are eligible.
            exclude: Catalogue rows per user that must not be returned.

        Raises:
            RequestError: When k is below 1, a row is outside the catalogue, or ``exclude`` does
                not have one entry a history.
        """
        excluded = check_request(histories, k, exclude, len(self.popularity.counts))
        return [
            self._rank_one(history, k, rows)
            for history, rows in zip(histories, excluded, strict=True)
        ]

    def _rank_one(self, history: NDArray[np.int32], k: int, excluded: NDArray[np.int32]) -> Ranking:
        start, end = self.offsets[history[-1] : history[-1] + 2] if len(history) else (0, 0)
        followers = self.followers[start:end]
        kept = np.flatnonzero(~np.isin(followers, excluded))[:k]
        items = followers[kept]
        scores = self.counts[start:end][kept].astype(np.float32)
        return self.popularity.filled(Ranking(items, scores), k, excluded, below=1)

    def save(self, folder: Path) -> None:
        """Write ``transition.safetensors`` into the folder."""
        arrays: dict[str, NDArray[Any]] = {
            "offsets": self.offsets,
            "followers": self.followers,
            "counts": self.counts,
            "popularity": self.popularity.counts,
        }
        save_file(arrays, folder / "transition.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "Transition":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the file is missing or damaged.
        """
        arrays = read_arrays(
            folder / "transition.safetensors", ("offsets", "followers", "counts", "popularity")
        )
        return cls(
            offsets=arrays["offsets"],
            followers=arrays["followers"],
            counts=arrays["counts"],
            popularity=Popularity(arrays["popularity"]),
        )
