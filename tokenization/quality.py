"""How good the semantic IDs are: what collided, which codes are used, what is lost, who agrees."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.agreement import (
    category_agreement,
    co_consumption,
    neighbour_agreement,
)
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.collisions import Resolution, dense_ids
from genrec.tokenization.indexer import ItemTables, Proposal
from genrec.tokenization.item_groups import largest_groups, loosest_groups
from genrec.tokenization.item_pairs import ItemPairs
from genrec.tokenization.neighbour_titles import neighbour_titles
from genrec.tokenization.quality_tables import to_markdown
from genrec.tokenization.quantizer import Quantizer

__all__ = ["collisions", "errors", "measure", "prefix_sizes", "to_markdown", "usage"]

logger = logging.getLogger(__name__)

# Below this share of used codes a level wastes tokens; the run says so.
USAGE_GATE = 0.5
# Rows of vectors read at once.
ROWS_AT_ONCE = 65536


def measure(
    tables: ItemTables,
    codes: NDArray[np.int32],
    level_sizes: Sequence[int],
    *,
    seed: int,
    proposal: Proposal | None = None,
    resolution: Resolution | None = None,
    examples: int = 5,
    neighbours: int = 5,
) -> dict[str, Any]:
    """Measure an index and warn about levels that hardly use their codes.

    What cannot be measured is None: without a proposal (codes from elsewhere) all that compares
    with it, without a quantizer the error, without vectors, sequences or categories what is
    measured against them.

    Args:
        tables: Titles; and the vectors, sequences and categories to compare with, where known.
        codes: int32[n, L], the codes of the index.
        level_sizes: Number of codes of each level.
        seed: Draws samples and examples.
        proposal: The codes before collisions were resolved, and the quantizer that gave them.
        resolution: What became of the collisions.
        examples: Number of items shown with their neighbours.
        neighbours: Neighbours shown for each.

    Returns:
        Plain values: ``items``, ``level_sizes``, ``collisions_before``, ``collisions_after`` (see
        ``collisions``); ``items_moved``, ``spare_moves``, ``added_distance`` (see ``Resolution``)
        and ``extra_level``; ``levels_before``, ``levels_after`` (see ``usage``); ``prefixes``
        (see ``prefix_sizes``); ``quantized``, whether a quantizer gave the codes; ``error`` (see
        ``errors``), of the codes before collisions were resolved, and ``error_after``, the
        relative error of those of the index; ``neighbour_agreement``,
        ``co_consumption`` and ``category_agreement`` (see ``agreement``); ``crowded_prefixes``
        and ``loose_codes`` (see ``item_groups``) and ``neighbours`` (see ``neighbour_titles``).
    """
    tree = CodeTree.of(codes, level_sizes)
    before = None if proposal is None else usage(proposal.codes, proposal.level_sizes)
    after = usage(codes, level_sizes)
    quantized = proposal is not None and proposal.quantizer is not None
    _warn(after if before is None else before, quantized=quantized)
    return {
        "items": len(codes),
        "level_sizes": [int(size) for size in level_sizes],
        "collisions_before": None if proposal is None else collisions(proposal.codes),
        "collisions_after": collisions(codes),
        **_moves(resolution),
        "extra_level": None if before is None else len(after) > len(before),
        "levels_before": before,
        "levels_after": after,
        "prefixes": prefix_sizes(tree),
        "quantized": quantized,
        "error": _errors_of(tables, proposal),
        "error_after": _error_after(tables, proposal, resolution),
        **_agreement(tables, tree, seed),
        "crowded_prefixes": largest_groups(
            tree, codes, tables.titles, levels=max(tree.levels - 1, 1)
        ),
        "loose_codes": None
        if tables.vectors is None
        else loosest_groups(tree, codes, tables.titles, tables.vectors),
        "neighbours": neighbour_titles(
            tables.vectors, codes, tables.titles, seed=seed, examples=examples, count=neighbours
        ),
    }


def _warn(levels: Sequence[dict[str, Any]], *, quantized: bool) -> None:
    advice = "; fewer codes (index.codes_per_level) would lose nothing" if quantized else ""
    for row in levels:
        if row["used"] < USAGE_GATE * row["size"]:
            logger.warning(
                "level %d uses %d of its %d codes%s.",
                row["level"] + 1,
                row["used"],
                row["size"],
                advice,
            )


def _moves(resolution: Resolution | None) -> dict[str, Any]:
    if resolution is None:
        return {"items_moved": None, "spare_moves": None, "added_distance": None}
    added = resolution.added_distance
    return {
        "items_moved": resolution.moves,
        "spare_moves": resolution.spare_moves,
        "added_distance": None if added is None else round(added, 4),
    }


def _errors_of(tables: ItemTables, proposal: Proposal | None) -> list[dict[str, float]] | None:
    if proposal is None or proposal.quantizer is None or tables.vectors is None:
        return None
    return errors(tables.vectors, proposal.quantizer, proposal.codes)


def _error_after(
    tables: ItemTables, proposal: Proposal | None, resolution: Resolution | None
) -> float | None:
    """Return the share of the spread that the codes of the index lose.

    Items whose new code stands for no vector are left out.
    """
    if proposal is None or resolution is None or proposal.quantizer is None:
        return None
    if tables.vectors is None:
        return None
    kept = np.ones(len(resolution.codes), dtype=bool)
    kept[np.flatnonzero(resolution.moved)[np.isinf(resolution.after)]] = False
    codes = resolution.codes[:, : len(proposal.level_sizes)]
    return _lost(tables.vectors, proposal.quantizer, codes, [len(proposal.level_sizes)], kept)[0]


def _agreement(tables: ItemTables, tree: CodeTree, seed: int) -> dict[str, Any]:
    vectors, sequences, categories = tables.vectors, tables.sequences, tables.categories
    return {
        "neighbour_agreement": None
        if vectors is None
        else neighbour_agreement(tree, vectors, seed=seed),
        "co_consumption": None
        if sequences is None
        else co_consumption(tree, ItemPairs.of(sequences, len(tree.node))),
        "category_agreement": None
        if categories is None
        else category_agreement(tree, categories, seed=seed),
    }


def collisions(codes: NDArray[np.int32]) -> dict[str, int]:
    """Count items that share their tuple.

    Args:
        codes: int32[n, L].

    Returns:
        ``items_sharing`` (items whose tuple another item has too), ``unique_tuples`` (distinct
        tuples) and ``largest_group`` (most items with one tuple).

    Example:
        >>> collisions(np.array([[0, 1], [0, 1], [2, 2]], dtype=np.int32))
        {'items_sharing': 2, 'unique_tuples': 2, 'largest_group': 2}
    """
    counts = np.bincount(dense_ids(codes))
    return {
        "items_sharing": int(counts[counts > 1].sum()),
        "unique_tuples": len(counts),
        "largest_group": int(counts.max(initial=0)),
    }


def usage(codes: NDArray[np.int32], level_sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Tell for each level how many codes are used, and how evenly.

    With p_k the share of items that have code k, entropy is ``-sum_k p_k log2 p_k`` bits, and
    perplexity is 2 to that power: the number of codes that would be as varied if all were used
    alike.

    Args:
        codes: int32[n, L].
        level_sizes: Number of codes of each level.

    Returns:
        One row a level: ``level``, ``size``, ``used``, ``dead`` (codes no item has),
        ``perplexity`` and ``entropy``.

    Example:
        >>> usage(np.array([[0], [0], [3], [3]], dtype=np.int32), (4,))
        [{'level': 0, 'size': 4, 'used': 2, 'dead': 2, 'perplexity': 2.0, 'entropy': 1.0}]
    """
    rows: list[dict[str, Any]] = []
    for level, size in enumerate(level_sizes):
        counts = np.bincount(codes[:, level], minlength=size)
        share = counts[counts > 0] / max(len(codes), 1)
        # Adding 0 turns the minus zero of a single code into a zero.
        entropy = float(-(share * np.log2(share)).sum()) + 0.0
        rows.append(
            {
                "level": level,
                "size": int(size),
                "used": len(share),
                "dead": int(size) - len(share),
                "perplexity": round(2**entropy, 2),
                "entropy": round(entropy, 3),
            }
        )
    return rows


def prefix_sizes(tree: CodeTree) -> list[dict[str, Any]]:
    """Tell for prefixes of each length how many there are and how large the largest is.

    Returns:
        One row a level: ``level``, ``distinct`` (prefixes up to this level), ``largest`` (items
        of the one with the most) and ``largest_share`` (of all items).
    """
    rows: list[dict[str, Any]] = []
    for level in range(tree.levels):
        largest = int(tree.items_below(level).max(initial=0))
        rows.append(
            {
                "level": level,
                "distinct": tree.size(level),
                "largest": largest,
                "largest_share": round(largest / max(len(tree.node), 1), 4),
            }
        )
    return rows


def errors(
    vectors: NDArray[np.float32], quantizer: Quantizer, codes: NDArray[np.int32]
) -> list[dict[str, float]]:
    """Tell how much of the vectors is lost after each level.

    ``relative_error`` is ``sum |x - x_l|^2 / sum |x - mean|^2`` with x_l what the first l codes
    stand for: 1 is no better than one vector for all items, 0 loses nothing.

    Args:
        vectors: float32[n, d], may be memory-mapped.
        quantizer: Fitted.
        codes: int32[n, L], as the quantizer gave them.

    Returns:
        One row a level with ``level`` and ``relative_error``; 0 when all vectors are the same.
    """
    counts = range(1, codes.shape[1] + 1)
    lost = _lost(vectors, quantizer, codes, counts)
    return [{"level": level, "relative_error": error} for level, error in enumerate(lost)]


def _lost(
    vectors: NDArray[np.float32],
    quantizer: Quantizer,
    codes: NDArray[np.int32],
    counts: Sequence[int],
    kept: NDArray[np.bool_] | None = None,
) -> list[float]:
    """Return the relative error of the first so many codes, for each count, over the kept items."""
    mean = np.mean(vectors, axis=0, dtype=np.float64)
    spread, lost = 0.0, np.zeros(len(counts))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(vectors)))
        if kept is not None:
            rows = rows[kept[rows]]
        block = np.asarray(vectors[rows], dtype=np.float64)
        spread += float(((block - mean) ** 2).sum())
        for place, count in enumerate(counts):
            lost[place] += ((block - quantizer.decode(codes[rows], count)) ** 2).sum()
    return [round(float(error) / spread if spread > 0 else 0.0, 4) for error in lost]
