"""What every recommender gives back, and the role they all play."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """A user's list, best first: catalogue rows (int32[k]) and scores (float32[k]).

    At most k items, every one in the catalogue, none twice, none that was excluded. Scores fall
    from first to last; they are comparable within a list, not between models.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)


class RankingModel(Protocol):
    """Ranks catalogue rows for histories; popularity, transitions, SASRec and the LLM all do."""

    @property
    def name(self) -> str:
        """Name in tables: ``popularity``, ``transition``, ``sasrec``, ``genrec``."""
        ...

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history.

        Args:
            histories: Catalogue rows per user, oldest first; may be empty.
            k: Number of items wanted; fewer are returned only when fewer are eligible.
            exclude: Catalogue rows per user that must not be returned (seen items, say).

        Returns:
            One ranking a history, in order.
        """
        ...
