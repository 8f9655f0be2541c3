"""A few items with their neighbours by vectors and by codes, as titles for people to judge."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rows of vectors read at once.
ROWS_AT_ONCE = 65536


def neighbour_titles(
    vectors: NDArray[np.float32] | None,
    codes: NDArray[np.int32],
    titles: Sequence[str],
    *,
    seed: int,
    examples: int,
    count: int,
) -> list[dict[str, Any]]:
    """Show the neighbours of a few items by their vectors and by their codes.

    Args:
        vectors: float32[n, d], may be memory-mapped; None when there are none.
        codes: int32[n, L] of the index.
        titles: Title of each row.
        seed: Draws the items.
        examples: Number of items.
        count: Neighbours of each.

    Returns:
        One entry an item: ``title``, ``codes``, ``by_vectors`` (titles, nearest first; None
        without vectors) and ``by_codes`` (``title`` and ``shared``, the levels that agree before
        the first that does not; most first, among equals the nearer vector, then the smaller row).
    """
    n = len(codes)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(n, size=min(examples, n), replace=False)
    distances = None if vectors is None else _squared_distances(vectors, chosen)
    entries: list[dict[str, Any]] = []
    for place, item in enumerate(chosen.tolist()):
        shared = np.cumprod(codes == codes[item], axis=1).sum(axis=1)
        others = np.flatnonzero(np.arange(n) != item)
        distance = np.zeros(n) if distances is None else distances[place]
        by_vectors = others[np.argsort(distance[others], kind="stable")[:count]]
        by_codes = others[np.lexsort((distance[others], -shared[others]))[:count]]
        entries.append(
            {
                "title": titles[item],
                "codes": codes[item].tolist(),
                "by_vectors": None if distances is None else [titles[row] for row in by_vectors],
                "by_codes": [
                    {"title": titles[row], "shared": int(shared[row])} for row in by_codes
                ],
            }
        )
    return entries


def _squared_distances(
    vectors: NDArray[np.float32], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the squared distance of each chosen row to every row, float64[r, n]."""
    distances = np.empty((len(chosen), len(vectors)))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float64)
        for place, item in enumerate(chosen.tolist()):
            gap = block - vectors[item]
            distances[place, start : start + len(block)] = np.einsum("ij,ij->i", gap, gap)
    return distances
