"""A random sample of users that is the same for all who ask for it."""

import numpy as np
from numpy.typing import NDArray


def sample(examples: int, users: int | None, seed: int) -> NDArray[np.int64]:
    """Return sorted positions of a random sample without repeats; all when users is None.

    Args:
        examples: How many there are.
        users: How many are wanted; all are taken when there are no more.
        seed: Same seed, same sample.
    """
    if users is None or users >= examples:
        return np.arange(examples, dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(examples, size=users, replace=False)
    return np.sort(drawn).astype(np.int64)
