"""Item sequences, many users at once, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histories:
    """For each of n examples: a user, the items before, oldest first, and the item that came next.

    Attributes:
        user: int32[n], row in ``Dataset.user_ids``.
        items: int32[total], all histories end to end.
        offsets: int64[n + 1], history i is ``items[offsets[i]:offsets[i + 1]]``.
        target: int32[n], the item to predict; -1 where there is none (training sequences).
    """

    user: NDArray[np.int32]
    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    target: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Return history i, int32[length], oldest first."""
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of items in each history, int64[n]."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.integer]) -> "Histories":
        """Return the examples at these positions, in this order."""
        parts = [self[int(row)] for row in rows]
        return from_lists(parts, self.user[rows], self.target[rows])


def from_lists(
    sequences: Sequence[NDArray[np.int32]] | Sequence[Sequence[int]],
    user: NDArray[np.int32] | None = None,
    target: NDArray[np.int32] | None = None,
) -> Histories:
    """Build histories from one sequence an example; users default to 0..n-1, targets to -1."""
    n = len(sequences)
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    items = (
        np.concatenate([np.asarray(sequence, dtype=np.int32) for sequence in sequences])
        if offsets[-1]
        else np.zeros(0, dtype=np.int32)
    )
    return Histories(
        user=np.arange(n, dtype=np.int32) if user is None else user.astype(np.int32),
        items=items.astype(np.int32),
        offsets=offsets,
        target=np.full(n, -1, dtype=np.int32) if target is None else target.astype(np.int32),
    )
