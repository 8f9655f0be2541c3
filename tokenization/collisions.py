"""One tuple an item: who keeps the codes that several items have, and where the others go.

The policy ``nearest_free`` (for the others see ``collision_policy``), for the items that share all
levels but the last (a prefix) and K codes in the last:

1. A prefix with n items gives each tuple room for ``q = ceil(n / K)`` items: one, unless the
   prefix has more items than codes.
2. Of the items with the same tuple the q nearest to its centroid keep it.
3. The others move to the nearest code of the last level that has room under the same prefix.
   Of two that want the last place, the nearer one gets it.
4. When some q is above 1, every item gets one digit more, which counts the items with the same
   tuple, nearest first; it is 0 for an item that is alone.

Ties go to the smaller item id, then to the smaller code. Rows play no part: items in another
order get the same codes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError
from genrec.semantic_ids.item_index import number_prefixes

# Most distances held at once (8 bytes each), unless one prefix has more.
DISTANCES_AT_ONCE = 2**22

Ints = NDArray[np.int64]
Distances = Callable[[Ints], NDArray[np.float64]]


@dataclass(frozen=True)
class Resolution:
    """Codes after the collisions are dealt with.

    Attributes:
        codes: int32[n, L], or int32[n, L + 1] when items are told apart by a digit more.
        level_sizes: Number of codes of each level of ``codes``.
        moved: bool[n], true where the last of the L codes is not the one the quantizer gave.
        before: float64[moves], squared distance of each item that moved, in row order, to what
            its codes stood for.
        after: float64[moves], to what its codes stand for now; infinite for a code that stands
            for no vector.
        shared: Whether items may still have the same codes.
    """

    codes: NDArray[np.int32]
    level_sizes: tuple[int, ...]
    moved: NDArray[np.bool_]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    shared: bool = False

    @property
    def moves(self) -> int:
        """Number of items that moved to another code."""
        return int(self.moved.sum())

    @property
    def spare_moves(self) -> int:
        """Number of items that moved to a code that stands for no vector."""
        return int(np.isinf(self.after).sum())

    @property
    def added_distance(self) -> float | None:
        """How much farther the moved items are from what their codes stand for.

        ``(sum of after - sum of before) / sum of before`` over the items whose new code stands
        for a vector: 0.5 is half as far again, in squared distance. None when there is no such
        item, or when all of them stood exactly where their codes did.
        """
        measured = np.isfinite(self.after)
        before = float(self.before[measured].sum())
        return (float(self.after[measured].sum()) - before) / before if before > 0 else None


def resolve(
    codes: NDArray[np.int32],
    level_sizes: Sequence[int],
    item_ids: Sequence[str],
    distances: Distances,
) -> Resolution:
    """Give every item a tuple of its own, as near to the quantizer's as there is room.

    Args:
        codes: int32[n, L], as the quantizer gave them.
        level_sizes: Number of codes of each of the L levels.
        item_ids: Outside id of each row, none twice; they break ties.
        distances: Takes rows int64[r], returns float64[r, K]: squared distance of each item to
            every code of the last level under its own prefix. Called only for items of prefixes
            that have a collision.

    Returns:
        Codes, level sizes and which items moved. Levels before the last are never changed.

    Raises:
        DataError: When ids and codes differ in number or an id occurs twice.
    """
    rank = ranks(item_ids, len(codes))
    prefix = dense_ids(codes[:, :-1])
    room = -(-np.bincount(prefix) // level_sizes[-1])
    tuples = dense_ids(codes)
    crowded = np.bincount(tuples)[tuples] > room[prefix]
    has_mover = np.zeros(len(room), dtype=bool)
    has_mover[prefix[crowded]] = True

    last = codes[:, -1].astype(np.int64)
    before, after = np.zeros(len(codes)), np.zeros(len(codes))
    # The extra digit counts by distance, so prefixes with room for two need distances as well.
    needed = np.flatnonzero((has_mover | (room > 1))[prefix])
    for rows in batches(needed, prefix, level_sizes[-1]):
        table = distances(rows)
        groups = np.unique(prefix[rows], return_inverse=True)[1]
        before[rows] = table[np.arange(len(rows)), last[rows]]
        last[rows] = _place(table, last[rows], groups, room[prefix[rows]], rank[rows])
        after[rows] = table[np.arange(len(rows)), last[rows]]

    resolved = codes.copy()
    resolved[:, -1] = last
    sizes = tuple(int(size) for size in level_sizes)
    most = int(room.max(initial=1))
    if most > 1:
        digit = position_in_group(dense_ids(resolved), after, rank)
        resolved = np.column_stack([resolved, digit]).astype(np.int32)
        sizes = (*sizes, most)
    moved = last != codes[:, -1]
    return Resolution(resolved, sizes, moved, before[moved], after[moved])


def ranks(item_ids: Sequence[str], n: int) -> Ints:
    """Return the place of each id in sorted order, int64[n]."""
    if len(item_ids) != n:
        raise DataError(f"there are {len(item_ids)} item ids for {n} rows of codes.")
    distinct, rank, count = np.unique(
        np.asarray(item_ids, dtype=np.str_), return_inverse=True, return_counts=True
    )
    if len(distinct) < n:
        raise DataError(
            f"the item id {str(distinct[count > 1][0])!r} occurs more than once; ids must be "
            "unique."
        )
    return rank


def dense_ids(codes: NDArray[np.int32]) -> Ints:
    """Number the distinct rows of codes int32[n, L] in lexicographic order, int64[n]."""
    return number_prefixes(codes, codes.max(axis=0, initial=0).astype(np.int64) + 1)[1]


def batches(rows: Ints, group: Ints, size: int) -> list[Ints]:
    """Cut rows into batches whose distances fit into memory, group by group.

    Args:
        rows: int64[r]; their order is kept within a group.
        group: int64[n], group of every item; a batch holds whole groups.
        size: Number of distances of a row.

    Returns:
        Batches of about ``DISTANCES_AT_ONCE`` distances.
    """
    if not len(rows):
        return []
    rows = rows[np.argsort(group[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(group[rows], prepend=-1))
    batch = starts // max(1, DISTANCES_AT_ONCE // size)
    cuts = starts[np.flatnonzero(np.diff(batch, prepend=-1))][1:]
    return [np.asarray(part) for part in np.split(rows, cuts)]


def _place(table: NDArray[np.float64], last: Ints, group: Ints, room: Ints, rank: Ints) -> Ints:
    """Return the last code of each of r items, so that no tuple holds more than its room.

    Args:
        table: float64[r, K], distance of each item to each code.
        last: int64[r], the code the quantizer gave.
        group: int64[r], prefix of each item, numbered from 0.
        room: int64[r], items a tuple may hold under the item's prefix.
        rank: int64[r], breaks ties.
    """
    size = table.shape[1]
    slot = group * size + last
    own = table[np.arange(len(last)), last]
    kept = position_in_group(slot, own, rank) < room
    room_of_group = np.zeros(int(group.max()) + 1, dtype=np.int64)
    room_of_group[group] = room
    free = np.repeat(room_of_group, size)
    free -= np.bincount(slot[kept], minlength=len(free))
    movers = np.flatnonzero(~kept)
    if len(movers):
        last = last.copy()
        last[movers] = _match(table[movers], group[movers], rank[movers], free)
    return last


def _match(table: NDArray[np.float64], group: Ints, rank: Ints, free: Ints) -> Ints:
    """Match movers to free places so that no mover and place would both rather have each other.

    Deferred acceptance (Gale and Shapley, 1962), all movers at once: each asks for its nearest
    code that has not refused it; each code holds the nearest that asked. Both sides order by
    distance, so the result is the same as taking the pairs one by one, shortest first.

    Args:
        table: float64[r, K], distance of each mover to each code.
        group: int64[r], prefix of each mover.
        rank: int64[r], breaks ties.
        free: int64[groups * K], places left in each tuple; at least one a mover in each group.

    Returns:
        int64[r], a code for each mover.
    """
    movers, size = table.shape
    wishes = np.argsort(table, axis=1, kind="stable")
    asked = np.zeros(movers, dtype=np.int64)
    rows = np.arange(movers)
    while True:
        code = wishes[rows, asked]
        slot = group * size + code
        refused = position_in_group(slot, table[rows, code], rank) >= free[slot]
        if not refused.any():
            return code
        asked[refused] += 1


def position_in_group(group: Ints, distance: NDArray[np.floating], rank: Ints) -> Ints:
    """Return each item's place in its group by distance, then rank, from 0, int64[n]."""
    order = np.lexsort((rank, distance, group))
    ordered = group[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    lengths = np.diff(np.append(starts, len(ordered)))
    position = np.empty(len(group), dtype=np.int64)
    position[order] = np.arange(len(group)) - np.repeat(starts, lengths)
    return position
