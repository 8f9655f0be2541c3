"""Tell of lists that are shorter than was asked for, where no answer can carry a reason."""

import logging

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def warn_of_short_lists(lengths: NDArray[np.integer], k: int, what: str) -> None:
    """Log how many lists have fewer than k items, and why that can be.

    Args:
        lengths: int[lists], items in each.
        k: Items that were asked for.
        what: What the lists are of, for the message.
    """
    short = int((lengths < k).sum())
    if short:
        logger.warning(
            "%s: %d of %d lists have fewer than %d items, %d have none: the catalogue, less what "
            "is seen and what rules bar, holds no more for them.",
            what, short, len(lengths), k, int((lengths == 0).sum()),
        )  # fmt: skip
