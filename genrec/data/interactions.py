"""Who did what, when."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interactions:
    """Events sorted by user, then time, then input order.

    Attributes:
        user: int32[m], row of the user in ``Dataset.user_ids``.
        item: int32[m], row of the item in the catalogue.
        time: int64[m], seconds since 1970 or, where the source has only an order, the position.
        weight: float32[m], rating or count; 1 where the source has none.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.user)

    def of(self, mask: NDArray[np.bool_]) -> "Interactions":
        """Return the events where the mask (bool[m]) is true, in the same order."""
        return Interactions(self.user[mask], self.item[mask], self.time[mask], self.weight[mask])
