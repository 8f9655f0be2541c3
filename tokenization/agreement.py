"""Do items with a common prefix belong together: by vector, by what people choose, by category."""

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.item_pairs import ItemPairs

# Prefixes of one code up to so many are looked at.
PREFIX_CODES = 3
# Rows of vectors read at once.
ROWS_AT_ONCE = 65536

Ints = NDArray[np.int64]


def neighbour_agreement(
    tree: CodeTree,
    vectors: NDArray[np.float32],
    *,
    seed: int,
    neighbours: int = 10,
    sample: int = 2000,
) -> dict[str, Any] | None:
    """Tell how often an item's nearest vectors have the same first codes as the item.

    Args:
        tree: The prefixes of the index.
        vectors: float32[n, d], may be memory-mapped; read block by block.
        seed: Draws the items.
        neighbours: Nearest vectors of each item, by Euclidean distance.
        sample: Most items to look at.

    Returns:
        ``neighbours`` and ``sample`` (numbers), and ``prefixes``, a row each for the first 1, 2
        and 3 codes as far as any items share them: ``codes``, ``share`` of the neighbours that
        agree, ``random``, the share of all other items that do, and ``lift``, the first over the
        second. None when there are fewer than two items.
    """
    n = len(vectors)
    if n < 2:
        return None
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(n, size=min(sample, n), replace=False))
    count = min(neighbours, n - 1)
    nearest = _nearest_others(vectors, chosen, count)
    rows = []
    for level in range(min(PREFIX_CODES, tree.levels)):
        node = tree.node[:, level]
        share = float((node[nearest] == node[chosen][:, None]).mean())
        others = (tree.items_below(level)[node[chosen]] - 1) / (n - 1)
        rows += _row(level, share, float(others.mean()))
    return {"neighbours": count, "sample": len(chosen), "prefixes": rows}


def _row(level: int, share: float, random: float) -> list[dict[str, Any]]:
    """Return the row of a prefix; none when no items share it, for then it tells nothing."""
    if random <= 0:
        return []
    lift = round(share / random, 2)
    return [
        {"codes": level + 1, "share": round(share, 4), "random": round(random, 6), "lift": lift}
    ]


def _nearest_others(vectors: NDArray[np.float32], chosen: Ints, count: int) -> Ints:
    """Return the rows of the nearest vectors of each chosen row but itself, int64[r, count]."""
    queries = np.ascontiguousarray(vectors[chosen], dtype=np.float32)
    distances: list[NDArray[np.float32]] = []
    rows: list[Ints] = []
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = np.ascontiguousarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float32)
        distance, row = faiss.knn(queries, block, min(count + 1, len(block)))
        distances.append(distance)
        rows.append(row + start)
    distance, row = np.hstack(distances), np.hstack(rows)
    # The item itself goes to the end; equal vectors may stand before it.
    distance[row == chosen[:, None]] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(row, order, axis=1)


def co_consumption(tree: CodeTree, pairs: ItemPairs) -> dict[str, Any] | None:
    """Tell how often an item and the item chosen next have the same first codes.

    An item chosen twice in a row tells nothing about codes and is left out. ``random`` is the
    share if every earlier item could be followed by every later one, each as often as it is in
    the pairs, so popular items alone make no lift.

    Args:
        tree: The prefixes of the index.
        pairs: Each training item and the next one.

    Returns:
        ``pairs`` (number of them) and ``prefixes`` as in ``neighbour_agreement``; None when no
        two different items follow each other.
    """
    n = len(tree.node)
    different = pairs.before != pairs.after
    before, after = pairs.before[different], pairs.after[different]
    as_before = np.bincount(before, minlength=n).astype(np.float64)
    as_after = np.bincount(after, minlength=n).astype(np.float64)
    same_item = float(as_before @ as_after)
    possible = float(len(before)) ** 2 - same_item
    if possible <= 0:
        return None
    rows = []
    for level in range(min(PREFIX_CODES, tree.levels)):
        node = tree.node[:, level]
        share = float((node[before] == node[after]).mean())
        together = np.bincount(node, weights=as_before) @ np.bincount(node, weights=as_after)
        rows += _row(level, share, (float(together) - same_item) / possible)
    return {"pairs": len(before), "prefixes": rows}


def category_agreement(
    tree: CodeTree, categories: Sequence[tuple[str, ...]], *, seed: int
) -> dict[str, Any] | None:
    """Tell how far the first code and the category of an item say the same.

    The category is the first of the path; items without any are left out. Many small groups look
    pure by themselves, so each figure stands beside its value for shuffled categories.

    Args:
        tree: The prefixes of the index.
        categories: Category path of each item, coarse to fine; empty where unknown.
        seed: Shuffles the categories.

    Returns:
        ``items`` and ``categories`` (numbers); ``normalised_mutual_information``, 2 I(code,
        category) / (H(code) + H(category)), 0 if independent, 1 if each tells the other; and
        ``purity``, the share of items that have the commonest category of their first code; both
        again with ``_shuffled``. None when fewer than two categories are known.
    """
    known = np.array([row for row, path in enumerate(categories) if path], dtype=np.int64)
    names, category = np.unique([categories[row][0] for row in known], return_inverse=True)
    if len(names) < 2:
        return None
    code = tree.node[known, 0]
    shuffled = np.random.default_rng(seed).permutation(category)
    figures: dict[str, Any] = {"items": len(known), "categories": len(names)}
    for suffix, groups in (("", category), ("_shuffled", shuffled)):
        pairs, count = np.unique(code * len(names) + groups, return_counts=True)
        apart = _entropy(np.bincount(code)), _entropy(np.bincount(groups))
        information = 2 * (sum(apart) - _entropy(count)) / sum(apart)
        most = np.zeros(tree.size(0), dtype=np.int64)
        np.maximum.at(most, pairs // len(names), count)
        figures[f"normalised_mutual_information{suffix}"] = round(information, 4)
        figures[f"purity{suffix}"] = round(float(most.sum() / len(known)), 4)
    return figures


def _entropy(counts: NDArray[np.int64]) -> float:
    """Return the entropy of groups of these sizes, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
