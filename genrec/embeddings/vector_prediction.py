"""A guess at a vector that an item lacks, its cf or image vector, from its text."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from genrec.embeddings.table import unit_rows

FOLDS = 5
# More items would make the map no better, only slower to find.
MOST_ITEMS = 50_000

# Shares of the mean eigenvalue of the texts' second moments, from hardly any pull to zero to a
# strong one.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

Doubles = NDArray[np.float64]


def spaced(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows to learn from: all, or of very many 50,000 evenly spaced ones."""
    if len(rows) <= MOST_ITEMS:
        return rows
    return rows[np.arange(MOST_ITEMS) * len(rows) // MOST_ITEMS]


@dataclass(frozen=True)
class VectorPrediction:
    """A linear map from text vectors to the direction of others, called cf vectors below.

    Ridge regression without intercept, both sides at length 1 and the cf vectors without their
    mean: ``W`` minimises ``|T W - C|^2 + penalty |W|^2`` over the known items. The penalty is the
    one with the highest mean cosine between guess and truth on items held out in turn, a fifth
    each time. An item whose text vector is zero gets zero: nothing is known of it.

    The mean is what all items share. Left in, a map that is unsure guesses little else, and all
    guesses lie in one place, far from every item whose vector is known, where clustering gives
    them codes of their own.

    Attributes:
        weights: float32[dt, dc].
        facts: Of the fit: number of items learned from, the penalty, and the mean held-out
            cosine without what all share, which is none for fewer than two items.
    """

    weights: NDArray[np.float32]
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(cls, text: NDArray[np.float32], cf: NDArray[np.float32]) -> Self:
        """Learn from items with both vectors.

        Args:
            text: float32[n, dt], each row of length 1, or zero.
            cf: float32[n, dc], each row of length 1.
        """
        if len(cf) > 1:
            cf = unit_rows(cf - cf.mean(axis=0))
        fold = np.arange(len(text)) % FOLDS
        # Sums split over threads would round differently.
        with threadpool_limits(limits=1, user_api="blas"):
            moments = [_moments(text[fold == part], cf[fold == part]) for part in range(FOLDS)]
            second = np.sum([each[0] for each in moments], axis=0)
            cross = np.sum([each[1] for each in moments], axis=0)
            scores = np.zeros(len(PENALTIES))
            for part, (own_second, own_cross) in enumerate(moments):
                maps = _solutions(second - own_second, cross - own_cross)
                rows = fold == part
                scores += [float((_directions(text[rows], w) * cf[rows]).sum()) for w in maps]
            best = int(np.argmax(scores))
            weights = _solutions(second, cross)[best].astype(np.float32)
        cosine = round(float(scores[best]) / len(text), 4) if len(text) > 1 else None
        facts = {"items": len(text), "penalty": PENALTIES[best], "held_out_cosine": cosine}
        return cls(weights, facts)

    def predict(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return guesses of length 1, float32[m, dc], for text vectors float32[m, dt]."""
        with threadpool_limits(limits=1, user_api="blas"):
            return _directions(text, self.weights)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what ``from_arrays`` takes."""
        return {"weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Put back what ``arrays`` returned."""
        return cls(arrays["weights"])


def _directions(text: NDArray[np.float32], weights: NDArray[Any]) -> NDArray[np.float32]:
    return unit_rows(text @ weights)


def _moments(text: NDArray[np.float32], cf: NDArray[np.float32]) -> tuple[Doubles, Doubles]:
    """Return T'T float64[dt, dt] and T'C float64[dt, dc]."""
    wide = text.astype(np.float64)
    return wide.T @ wide, wide.T @ cf


def _solutions(second: Doubles, cross: Doubles) -> list[Doubles]:
    """Return the map float64[dt, dc] of each penalty, from one eigendecomposition."""
    values, vectors = np.linalg.eigh(second)
    rotated = vectors.T @ cross
    # Without any text all is zero, and so is the map.
    scale = float(values.mean()) or 1.0
    return [
        vectors @ (rotated / (np.maximum(values, 0) + penalty * scale)[:, None])
        for penalty in PENALTIES
    ]
