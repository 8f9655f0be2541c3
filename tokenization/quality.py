"""How good the semantic IDs are: what collided, which codes are used, what is lost, neighbours."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.collisions import Resolution, dense_ids
from genrec.tokenization.quantizer import Quantizer

logger = logging.getLogger(__name__)

# Below this share of used codes a level wastes tokens; the run says so.
USAGE_GATE = 0.5


def measure(
    x: NDArray[np.float32],
    quantizer: Quantizer,
    raw: NDArray[np.int32],
    resolution: Resolution,
    titles: Sequence[str],
    *,
    seed: int,
    examples: int = 5,
    neighbours: int = 5,
) -> dict[str, Any]:
    """Measure an index and warn about levels that hardly use their codes.

    Args:
        x: float32[n, d], the vectors that were quantized.
        quantizer: Fitted.
        raw: int32[n, L], codes as the quantizer gave them.
        resolution: The codes of the index.
        titles: Title of each row.
        seed: Draws the example items.
        examples: Number of example items.
        neighbours: Neighbours shown for each.

    Returns:
        Plain values: ``items``, ``level_sizes``, ``collisions_before`` and ``collisions_after``
        (see ``collisions``), ``items_moved``, ``extra_level``, ``levels_before`` and
        ``levels_after`` (see ``usage``), ``error`` (see ``errors``) and ``neighbours``.
    """
    before = usage(raw, quantizer.level_sizes)
    for row in before:
        if row["used"] < USAGE_GATE * row["size"]:
            logger.warning(
                "level %d uses %d of its %d codes; fewer codes (index.codes_per_level) would "
                "lose nothing.",
                row["level"],
                row["used"],
                row["size"],
            )
    return {
        "items": len(raw),
        "level_sizes": list(resolution.level_sizes),
        "collisions_before": collisions(raw),
        "collisions_after": collisions(resolution.codes),
        "items_moved": resolution.moves,
        "extra_level": len(resolution.level_sizes) > raw.shape[1],
        "levels_before": before,
        "levels_after": usage(resolution.codes, resolution.level_sizes),
        "error": errors(x, quantizer, raw),
        "neighbours": neighbour_titles(
            x, resolution.codes, titles, seed=seed, examples=examples, count=neighbours
        ),
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

    Perplexity is ``exp(-sum_k p_k ln p_k)`` with p_k the share of items that have code k: the
    number of codes that would be as varied if all were used alike.

    Args:
        codes: int32[n, L].
        level_sizes: Number of codes of each level.

    Example:
        >>> usage(np.array([[0], [0], [3], [3]], dtype=np.int32), (4,))
        [{'level': 0, 'size': 4, 'used': 2, 'perplexity': 2.0}]
    """
    rows: list[dict[str, Any]] = []
    for level, size in enumerate(level_sizes):
        counts = np.bincount(codes[:, level], minlength=size)
        share = counts[counts > 0] / max(len(codes), 1)
        perplexity = float(np.exp(-(share * np.log(share)).sum()))
        rows.append(
            {
                "level": level,
                "size": int(size),
                "used": len(share),
                "perplexity": round(perplexity, 2),
            }
        )
    return rows


def errors(
    x: NDArray[np.float32], quantizer: Quantizer, codes: NDArray[np.int32]
) -> list[dict[str, float]]:
    """Tell how much of the vectors is lost after each level.

    ``relative_error`` is ``sum |x - x_l|^2 / sum |x - mean|^2`` with x_l what the first l codes
    stand for: 1 is no better than one vector for all items, 0 loses nothing.

    Args:
        x: float32[n, d].
        quantizer: Fitted.
        codes: int32[n, L], as the quantizer gave them.

    Returns:
        One row a level with ``level`` and ``relative_error``; 0 when all vectors are the same.
    """
    spread = float(((x - x.mean(axis=0, dtype=np.float64)) ** 2).sum())
    rows: list[dict[str, float]] = []
    for level in range(codes.shape[1]):
        rest = x.astype(np.float64) - quantizer.decode(codes, level + 1)
        error = float((rest**2).sum()) / spread if spread > 0 else 0.0
        rows.append({"level": level, "relative_error": round(error, 4)})
    return rows


def neighbour_titles(
    x: NDArray[np.float32],
    codes: NDArray[np.int32],
    titles: Sequence[str],
    *,
    seed: int,
    examples: int,
    count: int,
) -> list[dict[str, Any]]:
    """Show the neighbours of a few items by their vectors and by their codes.

    Args:
        x: float32[n, d].
        codes: int32[n, L] of the index.
        titles: Title of each row.
        seed: Draws the items.
        examples: Number of items.
        count: Neighbours of each.

    Returns:
        One entry an item: ``title``, ``codes``, ``by_vectors`` (titles, nearest first) and
        ``by_codes`` (``title`` and ``shared``, the levels that agree before the first that does
        not; most first, the nearer vector first among equals).
    """
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(x), size=min(examples, len(x)), replace=False)
    entries: list[dict[str, Any]] = []
    for item in chosen.tolist():
        distance = ((x - x[item]) ** 2).sum(axis=1)
        shared = np.cumprod(codes == codes[item], axis=1).sum(axis=1)
        others = np.flatnonzero(np.arange(len(x)) != item)
        by_vectors = others[np.argsort(distance[others], kind="stable")[:count]]
        by_codes = others[np.lexsort((distance[others], -shared[others]))[:count]]
        entries.append(
            {
                "title": titles[item],
                "codes": codes[item].tolist(),
                "by_vectors": [titles[row] for row in by_vectors],
                "by_codes": [
                    {"title": titles[row], "shared": int(shared[row])} for row in by_codes
                ],
            }
        )
    return entries


def to_markdown(quality: dict[str, Any]) -> str:
    """Turn what ``measure`` returned into a page for people."""
    before, after = quality["collisions_before"], quality["collisions_after"]
    sizes = " x ".join(str(size) for size in quality["level_sizes"])
    lines = [
        "# Semantic IDs",
        "",
        f"{quality['items']} items, codes {sizes}.",
        "",
        "## Collisions",
        "",
        "| | before | after |",
        "|---|---|---|",
        *(
            f"| {label} | {before[key]} | {after[key]} |"
            for key, label in (
                ("items_sharing", "items that share their codes"),
                ("unique_tuples", "distinct codes"),
                ("largest_group", "most items with the same codes"),
            )
        ),
        "",
        f"{quality['items_moved']} items moved to another code of the last level.",
    ]
    if quality["extra_level"]:
        lines.append(
            "Some prefixes have more items than the last level has codes, so every item got one "
            "digit more."
        )
    lines += ["", "## Levels", "", *_level_table(quality), "", "## Neighbours", ""]
    for entry in quality["neighbours"]:
        lines += [
            f"**{entry['title']}** ({', '.join(str(code) for code in entry['codes'])})",
            "",
            "- by vectors: " + "; ".join(entry["by_vectors"]),
            "- by codes (levels shared): "
            + "; ".join(f"{row['title']} ({row['shared']})" for row in entry["by_codes"]),
            "",
        ]
    return "\n".join(lines)


def _level_table(quality: dict[str, Any]) -> list[str]:
    lines = [
        "Perplexity is the number of codes that would be as varied if all were used alike. The "
        "error is the share of the vectors' spread that is lost up to this level.",
        "",
        "| level | codes | used by the quantizer | perplexity | used in the index | perplexity "
        "| error |",
        "|---|---|---|---|---|---|---|",
    ]
    for after in quality["levels_after"]:
        level = after["level"]
        learned = level < len(quality["levels_before"])
        before = quality["levels_before"][level] if learned else None
        cells = [
            str(level + 1),
            str(after["size"]),
            str(before["used"]) if before else "-",
            f"{before['perplexity']:.1f}" if before else "-",
            str(after["used"]),
            f"{after['perplexity']:.1f}",
            f"{quality['error'][level]['relative_error']:.3f}" if learned else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
