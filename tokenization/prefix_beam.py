"""The prefixes that fit a vector best, found by a beam: no need to look at all there are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.quantizer import Quantizer

# Most pairs of a vector and a prefix that a quantizer is asked about at once.
_PAIRS_AT_ONCE = 2**15


def nearest_prefixes(
    quantizer: Quantizer,
    x: NDArray[np.float32],
    width: int,
    known: Sequence[NDArray[np.bool_]],
) -> NDArray[np.int32]:
    """Return the prefixes nearest to each vector, level by level the ``width`` nearest.

    Width 1 goes the way that a quantizer goes which takes the nearest code at each level. When
    the width is at least the number of prefixes, all of them are returned.

    Args:
        quantizer: Tells how far a vector is from what a prefix stands for.
        x: float32[m, d].
        width: Most prefixes kept at a level.
        known: For each of the P levels of a prefix bool[K_l], the codes that it may have; at
            least one a level.

    Returns:
        int32[m, w, P] with ``w = min(width, number of prefixes)``, in lexicographic order. Of
        equally near ones those with smaller codes are kept.
    """
    m = len(x)
    beam = np.zeros((m, 1, 0), dtype=np.int32)
    for allowed in known:
        codes = np.flatnonzero(allowed).astype(np.int32)
        table = prefix_distances(quantizer, x, beam)[:, :, codes]
        table = table.reshape(m, beam.shape[1] * len(codes))
        best = np.sort(np.argsort(table, axis=1, kind="stable")[:, :width], axis=1)
        parents = np.take_along_axis(beam, (best // len(codes))[:, :, None], axis=1)
        beam = np.concatenate([parents, codes[best % len(codes)][:, :, None]], axis=2)
    return beam


def prefix_distances(
    quantizer: Quantizer, x: NDArray[np.float32], prefixes: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return how far each vector is from every code after each of its prefixes.

    Args:
        quantizer: See ``Quantizer.distances``.
        x: float32[m, d].
        prefixes: int32[m, w, l], w prefixes of each vector.

    Returns:
        float64[m, w, K].
    """
    m, w, levels = prefixes.shape
    size = quantizer.level_sizes[levels]
    table = np.empty((m * w, size))
    flat = prefixes.reshape(m * w, levels)
    for start in range(0, m * w, _PAIRS_AT_ONCE):
        pairs = np.arange(start, min(start + _PAIRS_AT_ONCE, m * w))
        table[pairs] = quantizer.distances(x[pairs // w], flat[pairs])
    return table.reshape(m, w, size)
