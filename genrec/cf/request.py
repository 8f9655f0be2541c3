"""What a ranking model may be asked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.errors import RequestError


def check_request(
    histories: Sequence[NDArray[np.int32]],
    k: int,
    exclude: Sequence[NDArray[np.int32]] | None,
    items: int,
) -> Sequence[NDArray[np.int32]]:
    """Check what was asked of a baseline; return the excluded rows, one array a history.

    Args:
        histories: Catalogue rows per user.
        k: Number of items wanted.
        exclude: Catalogue rows per user that must not be returned, or none.
        items: Size of the catalogue.

    Raises:
        RequestError: When k is below 1, a row is outside the catalogue, or ``exclude`` does not
            have one entry a history.
    """
    if k < 1:
        raise RequestError(f"k is {k}; ask for at least 1 item.")
    if exclude is None:
        exclude = [np.zeros(0, dtype=np.int32)] * len(histories)
    if len(exclude) != len(histories):
        raise RequestError(
            f"exclude has {len(exclude)} entries for {len(histories)} histories; "
            "give one array of catalogue rows a history, empty where nothing is excluded."
        )
    for name, rows in (("history", histories), ("exclude", exclude)):
        for position, row in enumerate(rows):
            if len(row) and (row.min() < 0 or row.max() >= items):
                raise RequestError(
                    f"{name} {position} holds catalogue rows from {row.min()} to {row.max()}, "
                    f"but the catalogue has rows 0 to {items - 1}."
                )
    return exclude
