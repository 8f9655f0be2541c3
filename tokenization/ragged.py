"""IDs of different length in one table: where an ID is over, it has the level's END code.

Between the methods and the padding, a table int64[n, L] stands for n IDs: row i holds the codes of
ID i from the left, and ``OVER`` in each level after its last.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.collisions import dense_ids, position_in_group

Ints = NDArray[np.int64]

OVER = -1
# Codes of the longest ID that a method may give, however deep its tree is.
MOST_LEVELS = 8


def to_table(tuples: Sequence[tuple[int, ...]]) -> Ints:
    """Write tuples of different length as one table, ``OVER`` where a tuple is over.

    Returns:
        int64[n, L], where L is the length of the longest.

    Example:
        >>> to_table([(3, 1), (), (2,)]).tolist()
        [[3, 1], [-1, -1], [2, -1]]
    """
    columns = list(zip_longest(*tuples, fillvalue=OVER))
    return np.array(columns, dtype=np.int64).reshape(len(columns), len(tuples)).T


def pad(table: Ints) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Give every level a code: END, the last code of the level, where an ID is over.

    Levels that no ID reaches are left out. A level that all IDs reach has no END.

    Args:
        table: int64[n, L], ``OVER`` in each level after the last code of an ID.

    Returns:
        int32[n, M] with M <= L, and the number of codes of each of the M levels.

    Example:
        >>> codes, level_sizes = pad(to_table([(3, 1), (), (2,)]))
        >>> codes.tolist(), level_sizes
        ([[3, 1], [4, 2], [2, 2]], (5, 3))
    """
    end = table.max(axis=0, initial=OVER) + 1
    table, end = table[:, end > 0], end[end > 0]
    over = table == OVER
    sizes = end + over.any(axis=0)
    return np.where(over, end, table).astype(np.int32), tuple(int(size) for size in sizes)


def pad_and_close(table: Ints, last: Ints) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Pad IDs and put one code more behind them, which is in the same level for all.

    Args:
        table: int64[n, L], see ``pad``.
        last: int64[n], the last code of each ID.

    Returns:
        int32[n, M + 1] with M <= L, and the number of codes of each level.
    """
    codes, sizes = pad(table)
    size = int(last.max(initial=OVER)) + 1
    return np.column_stack([codes, last]).astype(np.int32), (*sizes, size)


def count_within(table: Ints, place: Ints) -> Ints:
    """Number the IDs that are the same, from 0, in the order of their places.

    Args:
        table: int64[n, L], see ``pad``.
        place: int64[n], none twice.

    Returns:
        int64[n].
    """
    return position_in_group(dense_ids(pad(table)[0]), np.zeros(len(table)), place)
