"""What happens to items whose codes are the same: one entry for all policies.

``nearest_free``
    All but the nearest move to the nearest free code of the last level (see ``collisions``).
``sinkhorn``
    The items of a tuple are spread evenly over the codes of the last level, as in LC-Rec (Zheng
    et al. 2024, arXiv 2311.09049, section 3.1.2); what still collides after 20 rounds is resolved
    as by ``nearest_free``.
``extra_digit``
    Every item gets one digit more, which counts the items with the same tuple, nearest first, as
    in TIGER (Rajput et al. 2023, arXiv 2305.05065, section 3.1).
``shared``
    Nothing: the items share their tuple.

No policy changes codes where nothing collides, and to none the order of the rows means anything.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from genrec.errors import ConfigError, DataError
from genrec.tokenization.collisions import (
    DISTANCES_AT_ONCE,
    Distances,
    Ints,
    Resolution,
    batches,
    dense_ids,
    position_in_group,
    ranks,
    resolve,
)
from genrec.tokenization.sinkhorn import uniform_codes

Policy = Literal["nearest_free", "sinkhorn", "extra_digit", "shared"]

# LC-Rec's settings of the repair.
ROUNDS = 20
EPSILON = 0.003
ITERATIONS = 50


def settle(
    codes: NDArray[np.int32],
    level_sizes: Sequence[int],
    item_ids: Sequence[str],
    policy: Policy,
    distances: Distances | None,
    *,
    quiet: bool = True,
) -> Resolution:
    """Deal with the collisions among proposed codes.

    Args:
        codes: int32[n, L], as the indexer proposed them.
        level_sizes: Number of codes of each of the L levels.
        item_ids: Outside id of each row, none twice; they break ties.
        policy: What to do with items whose codes are the same.
        distances: Takes rows int64[r], returns float64[r, K]: squared distance of each item to
            every code of the last level under its own prefix. None when the indexer knows none;
            then ``nearest_free`` and ``sinkhorn`` cannot be had, and ``extra_digit`` counts by
            item id. Asked only where items collide.
        quiet: No progress bar.

    Returns:
        Codes, one tuple an item unless the policy is ``shared``; the same codes when nothing
        collides. When a prefix has more items than the last level has codes, the policies that
        move items add a digit too.

    Raises:
        ConfigError: When items collide and the policy needs distances that there are not.
        DataError: When ids, levels and codes do not fit together.
    """
    _check(codes, level_sizes, policy)
    rank = ranks(item_ids, len(codes))
    group = dense_ids(codes)
    sharing = int((np.bincount(group)[group] > 1).sum())
    if policy == "shared" or not sharing:
        return _unmoved(codes, level_sizes, shared=policy == "shared")
    if policy == "extra_digit":
        return _count(codes, level_sizes, rank, distances)
    if distances is None:
        raise ConfigError(
            f"index.collisions is {policy}, but {sharing} items share their codes and this "
            "index.method knows no distances to move them by; set index.collisions: extra_digit "
            "or shared."
        )
    if policy == "nearest_free":
        return resolve(codes, level_sizes, item_ids, distances)
    spread = _spread(codes, level_sizes[-1], rank, distances, quiet)
    resolved = resolve(spread, level_sizes, item_ids, distances)
    return _since(codes, resolved, distances)


def _check(codes: NDArray[np.int32], level_sizes: Sequence[int], policy: str) -> None:
    if policy not in get_args(Policy):
        raise ConfigError(
            f"index.collisions is {policy!r}, expected one of {', '.join(get_args(Policy))}."
        )
    if codes.ndim != 2 or codes.shape[1] != len(level_sizes) or not level_sizes:
        raise DataError(
            f"codes have shape {codes.shape} for {len(level_sizes)} level sizes; expected "
            "[items, levels], at least one level."
        )


def _unmoved(
    codes: NDArray[np.int32], level_sizes: Sequence[int], *, shared: bool = False
) -> Resolution:
    """Return a resolution in which no item changed its codes."""
    none = np.zeros(0)
    sizes = tuple(int(size) for size in level_sizes)
    return Resolution(codes, sizes, np.zeros(len(codes), dtype=bool), none, none, shared)


def _count(
    codes: NDArray[np.int32],
    level_sizes: Sequence[int],
    rank: Ints,
    distances: Distances | None,
) -> Resolution:
    """Append a digit that counts the items with the same tuple."""
    group = dense_ids(codes)
    counts = np.bincount(group)
    own = np.zeros(len(codes))
    if distances is not None:
        rows = np.flatnonzero(counts[group] > 1)
        own[rows] = _measured(distances, rows, codes[:, -1:], level_sizes[-1])[:, 0]
    digit = position_in_group(group, own, rank)
    counted = np.column_stack([codes, digit]).astype(np.int32)
    return _unmoved(counted, (*level_sizes, int(counts.max())))


def _spread(
    codes: NDArray[np.int32], size: int, rank: Ints, distances: Distances, quiet: bool
) -> NDArray[np.int32]:
    """Give the items of each shared tuple last codes that are spread evenly, round after round.

    In a round each group of items with the same tuple is mapped anew, alone, so a group may meet
    others where it goes; the next round sees to that.

    Returns:
        int32[n, L]; some items may still share their tuple.
    """
    codes = codes.copy()
    console = Console(stderr=True)
    for _ in track(range(ROUNDS), "Spread items", console=console, disable=quiet):
        before = codes[:, -1].copy()
        group = dense_ids(codes)
        sharing = np.flatnonzero(np.bincount(group)[group] > 1)
        # Sums round by their order, so the order is that of the ids, not that of the rows.
        sharing = sharing[np.argsort(rank[sharing])]
        for rows in batches(sharing, group, size):
            codes[rows, -1] = _mapped(distances(rows), group[rows], before[rows])
        if np.array_equal(codes[:, -1], before):
            break
    return codes


def _mapped(table: NDArray[np.float64], group: Ints, last: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return new last codes of items that lie group by group, int32[r].

    A group stays where it is when its items are all alike, because no plan can tell them apart.

    Args:
        table: float64[r, K], distance of each item to each code.
        group: int64[r], items with the same tuple, neighbours.
        last: int32[r], the last codes they share now.
    """
    last = last.copy()
    bounds = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    starts, sizes = bounds[:-1], np.diff(bounds)
    differs = (table != np.repeat(table[starts], sizes, axis=0)).any(axis=1)
    mixed = np.logical_or.reduceat(differs, starts)
    for size in np.unique(sizes[mixed]).tolist():
        rows = starts[mixed & (sizes == size)][:, None] + np.arange(size)
        last[rows] = uniform_codes(table[rows], EPSILON, ITERATIONS)
    return last


def _since(codes: NDArray[np.int32], resolved: Resolution, distances: Distances) -> Resolution:
    """Return a resolution with its moves counted from other codes than it began with."""
    level = codes.shape[1] - 1
    ends = np.column_stack([codes[:, level], resolved.codes[:, level]])
    moved = ends[:, 0] != ends[:, 1]
    rows = np.flatnonzero(moved)
    before, after = _measured(distances, rows, ends, resolved.level_sizes[level]).T
    return Resolution(resolved.codes, resolved.level_sizes, moved, before, after)


def _measured(
    distances: Distances, rows: Ints, codes: NDArray[np.int32], size: int
) -> NDArray[np.float64]:
    """Return the distance of items to some last codes each.

    Args:
        distances: See ``settle``.
        rows: int64[r], the items.
        codes: int32[n, c], last codes of every item.
        size: Number of codes of the last level.

    Returns:
        float64[r, c].
    """
    measured = np.zeros((len(rows), codes.shape[1]))
    step = max(1, DISTANCES_AT_ONCE // size)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        measured[start : start + step] = np.take_along_axis(
            distances(part), codes[part].astype(np.int64), axis=1
        )
    return measured
