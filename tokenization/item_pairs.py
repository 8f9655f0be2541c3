"""Which item followed which in the training sequences."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genrec.data.histories import Histories
from genrec.errors import DataError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ItemPairs:
    """Two items of one sequence each, sequence by sequence, oldest first.

    Attributes:
        before: int64[p], catalogue row of the earlier item.
        after: int64[p], catalogue row of the later item.
        last: bool[p], whether the pair is the last of its sequence.
    """

    before: Ints
    after: Ints
    last: NDArray[np.bool_]

    @classmethod
    def of(cls, sequences: Histories, items: int, *, gap: int = 1) -> Self:
        """Pair every item with the one that came ``gap`` places later.

        Args:
            sequences: Item sequences, oldest first; their targets are not read.
            items: Number of items of the catalogue.
            gap: 1 for the next item, 2 for the one after it.

        Raises:
            DataError: When a sequence names a row that the catalogue does not have.

        Example:
            >>> from genrec.data.histories import from_lists
            >>> pairs = ItemPairs.of(from_lists([[3, 1, 2], [0], [2, 0]]), 4)
            >>> pairs.before.tolist(), pairs.after.tolist(), pairs.last.tolist()
            ([3, 1, 2], [1, 2, 0], [False, True, True])
        """
        rows = sequences.items.astype(np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < items):
            raise DataError(
                f"the sequences name rows {rows.min()} to {rows.max()}, but there are {items} "
                "items; codes and sequences must be of the same dataset."
            )
        sequence = np.repeat(np.arange(len(sequences)), sequences.lengths)
        together = sequence[gap:] == sequence[:-gap]
        return cls(
            before=rows[:-gap][together],
            after=rows[gap:][together],
            last=np.diff(sequence[gap:][together], append=-1) != 0,
        )

    def __len__(self) -> int:
        return len(self.before)

    def of_mask(self, mask: NDArray[np.bool_]) -> "ItemPairs":
        """Return the pairs where mask bool[p] is true."""
        return ItemPairs(self.before[mask], self.after[mask], self.last[mask])

    def spread(self, most: int) -> "ItemPairs":
        """Return at most so many pairs, at even steps."""
        step = -(-len(self) // most) if len(self) else 1
        return ItemPairs(self.before[::step], self.after[::step], self.last[::step])
