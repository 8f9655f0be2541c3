"""Codes with bounded size: no code of a codebook has more items than its share.

Plain k-means makes clusters of very different sizes, so some codes name thousands of items and
others a few. Here each of K codes may have at most ``ceil(n / K)`` of n items, as in constrained
k-means (Bradley, Bennett, Demiriz, "Constrained k-means clustering", 2000), which methods for
semantic IDs use for balanced codebooks. That paper finds the cheapest assignment by linear
programming; this one takes rounds, which cost a few per cent more and manage a million items.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.collisions import position_in_group
from genrec.tokenization.kmeans import (
    Floats,
    Ints,
    blocks,
    distinct_rows,
    fit_codebook,
    nearest,
)

# Refining stops when the error falls by a smaller share than this.
_LEAST_GAIN = 1e-3


def capacity(items: int, codes: int) -> int:
    """Return the most items a code may have, ``ceil(items / codes)``."""
    return -(-items // codes)


def bounded_codes(
    vectors: Callable[[Ints], Floats], items: int, codebook: Floats, most: int
) -> tuple[Ints, NDArray[np.float64]]:
    """Give each item a near code so that no code has more than ``most`` items.

    Each item starts with its nearest code. In a round every code with too many closes: it keeps
    those that lose most if they go, and the others go to their nearest code that is still open.
    What an item loses is the squared distance to that code less the one it has. (To keep the
    nearest instead is simpler, but sends far-out items still farther away.) Call it under
    ``one_thread``.

    Args:
        vectors: Takes rows int64[r], ascending, returns their vectors float32[r, d]; asked for
            one block of rows at a time.
        items: Number of items.
        codebook: float32[m, d], one centroid a code; ``m * most`` is at least ``items``.
        most: Items that a code may have.

    Returns:
        Code of each item, int64[n], and its squared distance, float64[n]. Of items that lose
        the same the first row is kept; nothing else depends on the order of the rows.
    """
    code, distance = _ask(vectors, np.arange(items), codebook, np.arange(len(codebook)))
    is_open = np.ones(len(codebook), dtype=bool)
    while True:
        crowded = np.bincount(code, minlength=len(codebook)) > most
        if not crowded.any():
            return code, distance
        is_open &= ~crowded
        rows = np.flatnonzero(crowded[code])
        other, farther = _ask(vectors, rows, codebook, np.flatnonzero(is_open))
        goes = position_in_group(code[rows], distance[rows] - farther, rows) >= most
        code[rows[goes]], distance[rows[goes]] = other[goes], farther[goes]


def _ask(
    vectors: Callable[[Ints], Floats], rows: Ints, codebook: Floats, codes: Ints
) -> tuple[Ints, NDArray[np.float64]]:
    """Return the nearest of some codes for each row, int64[r], and its distance, float64[r]."""
    nearest_code = np.empty(len(rows), dtype=np.int64)
    distance = np.empty(len(rows))
    for block in blocks(len(rows)):
        place, distance[block] = nearest(vectors(rows[block]), codebook[codes])
        nearest_code[block] = codes[place]
    return nearest_code, distance


def fit_bounded_codebook(
    x: Floats, codes: int, *, iterations: int, restarts: int, seed: int
) -> Floats:
    """Return centroids for codes of bounded size, float32[min(codes, n), d].

    k-means first; then codes of bounded size and the means of their items in turn, until the
    error falls no more. With fewer distinct vectors than codes a vector that many items share has
    several codes, because one would not have room for them. Call it under ``one_thread``.

    Args:
        x: float32[n, d].
        codes: Size of the codebook.
        iterations: Most iterations, of k-means and of what follows.
        restarts: k-means runs, of which the best is taken.
        seed: Seed of k-means.
    """
    codebook = fit_codebook(x, codes, iterations=iterations, restarts=restarts, seed=seed)
    size = min(codes, len(x))
    if len(codebook) < size:
        codebook = _repeated(x, size)
    most = capacity(len(x), codes)
    best, least = codebook, np.inf
    for _ in range(iterations + 1):
        code, distance = bounded_codes(lambda rows: x[rows], len(x), codebook, most)
        error = float(distance.sum())
        if error >= (1 - _LEAST_GAIN) * least:
            return codebook if error < least else best
        best, least = codebook, error
        codebook = _means(x, code, codebook)
    return best


def _means(x: Floats, code: Ints, codebook: Floats) -> Floats:
    """Return the mean of each code's vectors; a code without any keeps its centroid."""
    order = np.argsort(code, kind="stable")
    used, starts, counts = np.unique(code[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(x[order], starts, axis=0, dtype=np.float64)
    means = codebook.copy()
    means[used] = sums / counts[:, None]
    return means


def _repeated(x: Floats, size: int) -> Floats:
    """Return the distinct vectors, those of many items several times, ``size`` rows in all."""
    first, inverse = distinct_rows(x)
    items = np.bincount(inverse)
    copies = np.ones(len(first), dtype=np.int64)
    for _ in range(size - len(first)):
        copies[np.argmax(items / copies)] += 1
    repeated: NDArray[np.float32] = np.repeat(x[first], copies, axis=0)
    return repeated
