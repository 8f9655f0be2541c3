"""How much each side counts: chosen by what it does for validation users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.hybrid_ranker import Candidates

SHARES = tuple(round(0.05 * step, 2) for step in range(21))


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
        found = np.asarray([place[0] for place in places if len(place)], dtype=np.int64)
        return cls.at(found, len(places))

    @classmethod
    def at(cls, places: NDArray[np.int64], users: int) -> "Figures":
        """Return the figures of targets found at these places, from 0, of so many users."""
        return cls(len(places) / users, float((1 / np.log2(places + 2)).sum()) / users)


class SideWeights:
    """The figures of the sum of all sides, for any weights.

    Args:
        candidates: What the sides say, one a user.
        targets: int64[users], the item that came.
    """

    def __init__(self, candidates: Sequence[Candidates], targets: NDArray[np.integer]) -> None:
        self._users = len(candidates)
        rows = [
            (each, np.flatnonzero(each.items == target))
            for each, target in zip(candidates, targets, strict=True)
        ]
        named = [(each, int(place[0])) for each, place in rows if len(place)]
        width = max((len(each.items) for each, _ in named), default=0)
        # What is no candidate is behind all that are.
        self._sides = np.full((3, len(named), width), -np.inf, dtype=np.float32)
        for row, (each, _) in enumerate(named):
            own = np.stack([each.generative, each.dense, each.cf]) + each.boosts
            self._sides[:, row, : len(each.items)] = own
        self._target = np.array([place for _, place in named], dtype=np.int64)
        self._has_cf = any((each.cf != each.dense).any() for each, _ in named)

    def figures(self, weight: float, cf_share: float) -> Figures:
        """Measure lists of ten.

        Args:
            weight: Share of the dense side.
            cf_share: Share of the collaborative model in it.
        """
        generative, dense, cf = self._sides
        with np.errstate(invalid="ignore"):
            total = (1 - weight) * generative + weight * ((1 - cf_share) * dense + cf_share * cf)
        total = np.where(np.isnan(total), -np.inf, total)
        own = np.take_along_axis(total, self._target[:, None], 1)
        earlier = np.arange(total.shape[1]) < self._target[:, None]
        place = ((total > own) | ((total == own) & earlier)).sum(1)
        return Figures.at(place[place < 10], self._users)

    def best(self) -> tuple[float, float]:
        """Return the weights with the best NDCG@10; of equal ones the smaller."""
        pairs = [
            (weight, share)
            for share in (SHARES if self._has_cf else (0.0,))
            for weight in SHARES
            if weight or not share
        ]
        return max(pairs, key=lambda pair: (self.figures(*pair).ndcg, -pair[1], -pair[0]))
