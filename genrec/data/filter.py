"""Drop events: small weights, repeats, and users or items with too few."""

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError


def heavy_enough(weight: NDArray[np.float32], minimum: float | None) -> NDArray[np.bool_]:
    """Return which events have at least this weight, bool[m]; all without a minimum.

    Args:
        weight: float32[m].
        minimum: Smallest weight that is kept.
    """
    if minimum is None:
        return np.ones(len(weight), dtype=np.bool_)
    return np.asarray(weight >= np.float32(minimum))


def first_of_repeats(
    user: NDArray[np.int32], item: NDArray[np.int32], method: str
) -> NDArray[np.bool_]:
    """Return which events are no repeats, bool[m].

    Args:
        user: int32[m], events of a user together.
        item: int32[m], in the order of time within a user.
        method: ``none`` keeps all; ``consecutive`` drops an event with the same item as the
            user's event before; ``pair`` keeps the first event of each user and item.

    Raises:
        DataError: When the method is another.
    """
    keep = np.ones(len(user), dtype=np.bool_)
    if method == "consecutive":
        keep[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    elif method == "pair":
        keep[:] = False
        pairs = user.astype(np.int64) * (int(item.max(initial=0)) + 1) + item
        keep[np.unique(pairs, return_index=True)[1]] = True
    elif method != "none":
        raise DataError(
            f"data.deduplicate is {method!r}, expected 'none', 'consecutive' or 'pair'."
        )
    return keep


def in_core(user: NDArray[np.int32], item: NDArray[np.int32], core: int) -> NDArray[np.bool_]:
    """Return which events are in the k-core, bool[m].

    Users and items with fewer than ``core`` events are dropped, again and again, until every user
    and every item left has at least so many. The result does not depend on the order of dropping.

    Args:
        user: int32[m].
        item: int32[m].
        core: Fewest events; 0 and 1 keep all.
    """
    keep = np.ones(len(user), dtype=np.bool_)
    if core <= 1 or len(user) == 0:
        return keep
    index = np.arange(len(user))
    while len(index):
        many_users = np.bincount(user[index]) >= core
        many_items = np.bincount(item[index]) >= core
        inside = many_users[user[index]] & many_items[item[index]]
        if inside.all():
            break
        index = index[inside]
    keep[:] = False
    keep[index] = True
    return keep
