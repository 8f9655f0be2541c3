"""The order of code tuples, found by one sort of packed numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_BITS = 64


def sorted_tuples(
    codes: NDArray[np.int32], level_sizes: Sequence[int], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.bool_]]]:
    """Sort items by their codes; those with the same codes by count, then by row.

    Args:
        codes: int32[n, L], ``0 <= codes[:, l] < level_sizes[l]``.
        level_sizes: Number of codes of each level.
        counts: int64[n]; among equal tuples the larger count comes first.

    Returns:
        Rows in order, int64[n], and for each level bool[n], true where the prefix up to that level
        differs from that of the item before.
    """
    bits = [max(1, (int(size) - 1).bit_length()) for size in level_sizes]
    row_bits = max(1, (len(codes) - 1).bit_length())
    if sum(bits) + row_bits > _BITS:
        return _sorted_by_columns(codes, counts)
    packed = np.zeros(len(codes), dtype=np.uint64)
    for column, width in zip(codes.T, bits, strict=True):
        packed = (packed << np.uint64(width)) | column.astype(np.uint64)
    # The row in the lowest bits makes every number another, so any sort is a stable one.
    places = (packed << np.uint64(row_bits)) | np.arange(len(codes), dtype=np.uint64)
    places.sort()
    order = (places & np.uint64(2**row_bits - 1)).astype(np.int64)
    packed = places >> np.uint64(row_bits)
    first, below = [], sum(bits)
    for width in bits:
        below -= width
        first.append(_changes(packed >> np.uint64(below)))
    if not first[-1].all():
        _order_inside(order, first[-1], counts)
    return order, first


def _changes(words: Words) -> NDArray[np.bool_]:
    """Return bool[n], true where a number differs from the one before."""
    new = np.ones(len(words), dtype=bool)
    np.not_equal(words[1:], words[:-1], out=new[1:])
    return new


def _order_inside(
    order: NDArray[np.int64], new: NDArray[np.bool_], counts: NDArray[np.int64]
) -> None:
    """Put the rows of each tuple, given by row, in the order of their counts; changes ``order``."""
    group = np.cumsum(new) - 1
    several = np.bincount(group)[group] > 1
    rows = order[several]
    inside = np.lexsort((-counts[rows], group[several]))
    order[several] = rows[inside]


def _sorted_by_columns(
    codes: NDArray[np.int32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.bool_]]]:
    """Do the same for tuples that do not fit into one number."""
    order = np.lexsort((-counts, *codes.T[::-1]))
    first, new = [], np.zeros(len(codes), dtype=bool)
    new[:1] = True
    for column in codes[order].T:
        new = new | _changes(column.astype(np.uint64))
        first.append(new)
    return order, first
