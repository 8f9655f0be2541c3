"""Given vectors as a layer can learn from them: centred, with entries near one.

Vectors of texts have length 1 and lie close together, so a layer that starts small hears the same
faint thing of every item and takes epochs to wake up.
"""

import numpy as np
from numpy.typing import NDArray


def spread(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors without what all share, scaled as a whole to entries of mean square 1.

    Args:
        vectors: float32[n, w]; a zero row is an unknown vector, counts for nothing and stays zero.
    """
    known = np.asarray(vectors.any(axis=1))
    if not known.any():
        return np.zeros_like(vectors)
    centred = np.where(known[:, None], vectors - vectors[known].mean(axis=0), 0)
    return np.asarray(centred / max(1e-6, float(centred[known].std())), dtype=np.float32)
