"""Given vectors, whitened: the directions in which items differ most, all of them equally loud.

Vectors of texts differ a little in a few directions that most items share (their category, how long
their text is) and hardly at all in those that tell apart two items of a kind. A layer that learns
from them by gradients hears the former for epochs. The last directions are left out: there is
nothing in them but chance, which would be as loud as all else.
"""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

# Of the largest variance; a direction with less is rounding.
LEAST_VARIANCE = 1e-6


def whitened(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Return the principal directions of vectors, each with mean 0 and variance 1.

    Args:
        vectors: float32[n, w]; a zero row is an unknown vector, counts for nothing and stays zero.
        dimensions: Directions wanted; there are fewer where the vectors differ in fewer.

    Returns:
        float32[n, m], m at most ``dimensions``; at least 1, all zero where vectors say nothing.
    """
    known = np.asarray(vectors.any(axis=1))
    if not known.any():
        return np.zeros((len(vectors), 1), dtype=np.float32)
    centre = vectors[known].mean(axis=0, dtype=np.float64)
    # Sums split over threads would round differently.
    with threadpool_limits(limits=1, user_api="blas"):
        second = _second_moments(vectors[known], centre)
        variances, directions = np.linalg.eigh(second)
        order = np.argsort(-variances, kind="stable")[:dimensions]
        largest = variances[order[0]]
        kept = order[variances[order] > max(LEAST_VARIANCE * largest, np.finfo(np.float32).tiny)]
        if not len(kept):
            return np.zeros((len(vectors), 1), dtype=np.float32)
        scaled = directions[:, kept] / np.sqrt(variances[kept])
        found = vectors @ scaled.astype(np.float32) - (centre @ scaled).astype(np.float32)
    return np.where(known[:, None], found, 0).astype(np.float32)


def _second_moments(rows: NDArray[np.float32], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of rows, float64[w, w]."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), 65_536):
        part = rows[start : start + 65_536] - centre
        total += part.T @ part
    return total / len(rows)
