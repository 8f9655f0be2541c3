"""How much the dense side counts: chosen by what it does for validation users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.hybrid_ranker import Candidates

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))


@dataclass(frozen=True)
class Figures:
    """How well lists name the item that came."""

    recall: float
    ndcg: float

    @classmethod
    def of(
        cls, rankings: Sequence[Ranking], targets: NDArray[np.integer], k: int = 10
    ) -> "Figures":
        """Measure the first k of one list a user; each has one item to be found."""
        places = [
            np.flatnonzero(ranking.items[:k] == target)
            for ranking, target in zip(rankings, targets, strict=True)
        ]
        found = np.asarray([place[0] for place in places if len(place)], dtype=np.float64)
        return cls(len(found) / len(places), float((1 / np.log2(found + 2)).sum()) / len(places))


def figures_by_weight(
    candidates: Sequence[Candidates], targets: NDArray[np.integer]
) -> dict[float, Figures]:
    """Measure the sum of both sides for every weight from 0 to 1."""
    return {
        weight: Figures.of([each.ranking(weight, 10) for each in candidates], targets)
        for weight in WEIGHTS
    }


def best_weight(figures: dict[float, Figures]) -> float:
    """Return the weight with the best NDCG@10; the smaller one of equals."""
    return max(figures, key=lambda weight: (figures[weight].ndcg, -weight))
