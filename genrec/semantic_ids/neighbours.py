"""Vectors for items that came later: what their nearest relatives by code have."""

import numpy as np
from numpy.typing import NDArray


def with_neighbours(
    vectors: NDArray[np.float32],
    old_rows: NDArray[np.int64],
    old_codes: NDArray[np.int32],
    codes: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Return the vectors of a later catalogue, float32[n, d].

    An item that was there keeps its vector. Another one gets the mean of those that share the
    longest beginning of its codes; of all, where none shares its first code.

    Args:
        vectors: float32[m, d] of the old catalogue.
        old_rows: int64[n], the row in the old catalogue of each item; -1 for none.
        old_codes: int32[m, L], codes of the old catalogue.
        codes: int32[n, L].
    """
    found = vectors[old_rows]
    for row in np.flatnonzero(old_rows < 0):
        alike = np.ones(len(old_codes), dtype=bool)
        for level in range(codes.shape[1]):
            closer = alike & (old_codes[:, level] == codes[row, level])
            if not closer.any():
                break
            alike = closer
        found[row] = vectors[alike].mean(0)
    return found
