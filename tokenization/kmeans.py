"""k-means for one codebook, and reading tables of vectors that are too large for memory.

What residual and product quantization share. Vectors may be memory-mapped and of any number type;
they are read in blocks of rows and worked on as float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError
from genrec.tokenization.quantizer import Quantized

# A codebook is learned from at most so many vectors a code; more change the centroids little.
VECTORS_PER_CODE = 256

# Rows read at once: 50 MB at 768 dimensions.
BLOCK_ROWS = 16384

# Above this squared length a distance between two vectors can leave the range of float32.
_LONGEST = float(np.finfo(np.float32).max) / 8

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def checked(x: NDArray[Any], width: int | None) -> NDArray[Any]:
    """Return x as it is; refuse another shape and vectors that cannot be clustered.

    Args:
        x: Numbers [n, d] of any type, perhaps memory-mapped.
        width: What d has to be; None takes any.

    Raises:
        DataError: When x is not a table of numbers of that width, or holds NaN, infinite values
            or values whose squares are infinite in float32.
    """
    if x.ndim != 2 or (width is not None and x.shape[1] != width):
        expected = "[items, dimensions]" if width is None else f"[items, {width}]"
        raise DataError(f"vectors have shape {x.shape}, expected {expected}.")
    if x.dtype.kind not in "fiu":
        raise DataError(f"vectors have type {x.dtype}, expected numbers, such as float32.")
    for rows in blocks(len(x)):
        with np.errstate(over="ignore", invalid="ignore"):
            block = as_float32(x[rows])
            usable = np.einsum("nd,nd->n", block, block) <= _LONGEST
        if not usable.all():
            raise DataError(
                f"vectors hold NaN or infinite values, or values too large to square, first in "
                f"row {rows.start + int(np.argmin(usable))}; make the vectors again."
            )
    return x


def not_empty(x: NDArray[Any]) -> NDArray[Any]:
    """Return x, checked; refuse a table without rows or columns as well.

    Raises:
        DataError: As ``checked``, and when there is nothing to learn from.
    """
    x = checked(x, None)
    if not x.size:
        raise DataError(
            f"there are no vectors to learn codes from; the table has {len(x) or 'no'} rows and "
            f"{x.shape[1]} dimensions."
        )
    return x


def blocks(n: int) -> list[slice]:
    """Cut n rows into blocks that fit into memory."""
    return [slice(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]


def as_float32(x: NDArray[Any]) -> Floats:
    """Return rows of a table as contiguous float32, without a copy where they are."""
    return np.ascontiguousarray(x, dtype=np.float32)


def sample_rows(n: int, codes: int, seed: int) -> Ints:
    """Return the rows to learn a codebook from, ascending; all when there are few enough."""
    most = VECTORS_PER_CODE * codes
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=most, replace=False))


def distinct_rows(x: Floats) -> tuple[Ints, Ints]:
    """Find equal rows of float32[n, d].

    Returns:
        The first row of each distinct vector, int64[m], and for each row the place of its vector
        among them, int64[n]. Vectors come in an order that depends on their values alone.
    """
    # -0 equals 0 but has other bytes; adding 0 makes it 0.
    rows = np.ascontiguousarray(x + np.float32(0))
    whole = rows.view(np.dtype((np.void, max(rows.shape[1], 1) * 4))).reshape(-1)
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return first, inverse


def quantized(x: NDArray[Any], codes: NDArray[np.int32], vectors: Floats) -> Quantized:
    """Return codes with the vectors they stand for and how far these are from x."""
    lost = 0.0
    for rows in blocks(len(x)):
        rest = as_float32(x[rows]) - vectors[rows]
        lost += float(np.square(rest, dtype=np.float64).sum())
    return Quantized(codes, vectors, lost / max(len(x), 1))


def fit_codebook(x: Floats, codes: int, *, iterations: int, restarts: int, seed: int) -> Floats:
    """Return centroids for vectors float32[n, d]: float32[m, d] with m at most ``codes``.

    With no more distinct vectors than codes these are the centroids; otherwise those of k-means,
    always ``codes`` of them. Call it under ``one_thread``.
    """
    # A few rows are mostly enough to see that there are many distinct vectors.
    for count in (2 * codes, len(x)):
        distinct = np.unique(x[:count], axis=0)
        if len(distinct) > codes:
            break
    else:
        return distinct
    kmeans = faiss.Kmeans(
        x.shape[1],
        codes,
        niter=iterations,
        nredo=restarts,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=VECTORS_PER_CODE,
    )
    kmeans.train(x)
    centroids: Any = kmeans.centroids
    if len(np.unique(nearest(x, centroids)[0])) < codes:
        # Several centroids may have started on equal vectors, and all but one stay without any.
        distinct, weights = np.unique(x, axis=0, return_counts=True)
        if len(distinct) < len(x):
            kmeans.train(distinct, weights=weights.astype(np.float32))
            centroids = kmeans.centroids
    return as_float32(centroids)


def nearest(x: Floats, codebook: Floats) -> tuple[Ints, Floats]:
    """Return for each vector the row of the nearest centroid, int64[n], and its squared distance.

    Call it under ``one_thread``.
    """
    index = faiss.IndexFlatL2(codebook.shape[1])
    index.add(codebook)
    distance, code = index.search(x, 1)
    return code[:, 0], distance[:, 0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run faiss on one thread: work split over threads would round differently."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
