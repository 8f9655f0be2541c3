"""The groups of items that codes serve worst: too many items in one, or items too unlike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from genrec.tokenization.code_tree import CodeTree

# Smaller groups are loose by chance.
SMALLEST_GROUP = 5
TITLES_SHOWN = 6
# Rows of vectors read at once.
ROWS_AT_ONCE = 65536


def largest_groups(
    tree: CodeTree, codes: NDArray[np.int32], titles: Sequence[str], *, levels: int, count: int = 5
) -> list[dict[str, Any]]:
    """Return the prefixes of so many codes that the most items share, largest first.

    Args:
        tree: The prefixes of the index.
        codes: int32[n, L].
        titles: Title of each item.
        levels: Codes of a prefix, from 1; L looks for items with the same tuple.
        count: Most prefixes returned.

    Returns:
        For each prefix of two items or more ``codes``, ``items`` (number) and ``titles`` (a few).
    """
    sizes = tree.items_below(levels - 1)
    order = np.argsort(-sizes, kind="stable")[:count]
    return [_group(tree, codes, titles, levels, int(node)) for node in order if sizes[node] > 1]


def loosest_groups(
    tree: CodeTree,
    codes: NDArray[np.int32],
    titles: Sequence[str],
    vectors: NDArray[np.float32],
    *,
    count: int = 5,
) -> list[dict[str, Any]]:
    """Return the first codes whose items are least alike, loosest first.

    ``spread`` is the mean squared distance of the group's vectors from their mean, over the same
    for all items: 1 is no closer than the whole catalogue. Groups below five items are left out.

    Args:
        tree: The prefixes of the index.
        codes: int32[n, L].
        titles: Title of each item.
        vectors: float32[n, d], may be memory-mapped.
        count: Most groups returned.

    Returns:
        As ``largest_groups``, with ``spread``; none when all vectors are the same.
    """
    sizes = tree.items_below(0)
    spread = _spread(tree.node[:, 0], sizes, vectors)
    if spread is None:
        return []
    large = np.flatnonzero(sizes >= SMALLEST_GROUP)
    order = large[np.argsort(-spread[large], kind="stable")[:count]]
    return [
        _group(tree, codes, titles, 1, int(node)) | {"spread": round(float(spread[node]), 3)}
        for node in order
    ]


def _group(
    tree: CodeTree, codes: NDArray[np.int32], titles: Sequence[str], levels: int, node: int
) -> dict[str, Any]:
    rows = np.flatnonzero(tree.node[:, levels - 1] == node)
    return {
        "codes": codes[rows[0], :levels].tolist(),
        "items": len(rows),
        "titles": [titles[row] for row in rows[:TITLES_SHOWN]],
    }


def _spread(
    node: NDArray[np.int64], sizes: NDArray[np.int64], vectors: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """Return the spread of each group over that of all items; None when that is 0."""
    width = vectors.shape[1]
    sums, squares = np.zeros((len(sizes), width)), np.zeros(len(sizes))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float64)
        of_group = node[start : start + ROWS_AT_ONCE]
        shape = (len(sizes), len(block))
        member = csr_array((np.ones(len(block)), (of_group, np.arange(len(block)))), shape=shape)
        sums += member @ block
        squares += np.bincount(of_group, weights=(block**2).sum(axis=1), minlength=len(sizes))
    total = squares.sum() / len(vectors) - ((sums.sum(axis=0) / len(vectors)) ** 2).sum()
    # Sums of squares of equal vectors differ in their last digits.
    if total <= 1e-9 * squares.sum() / len(vectors):
        return None
    within = squares / sizes - ((sums / sizes[:, None]) ** 2).sum(axis=1)
    return np.asarray(np.maximum(within, 0.0) / total)
