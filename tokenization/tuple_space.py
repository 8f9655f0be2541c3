"""The tuples that new items may get, nearest prefixes first, and how much room each has."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.collisions import Ints, dense_ids
from genrec.tokenization.prefix_beam import nearest_prefixes
from genrec.tokenization.quantizer import Quantizer

# Prefixes looked at when an item's own is full; twice as many each time these are full as well.
FIRST_WIDTH = 16
# Room of a tuple that any number of items may share.
UNLIMITED = 2**31


class TupleSpace:
    """The tuples that new items may get, and in what order a vector comes to them.

    A tuple is L codes, as the quantizer gives them; a prefix its first L - 1. Stage 0 holds the
    tuples of the vector's own prefix; stage 1 those of the ``FIRST_WIDTH`` nearest prefixes; each
    stage after it those of twice as many prefixes; without those of stages before. The last stage
    holds all that is left.

    Args:
        quantizer: Fitted.
        index: The items that are there; its first L levels are the quantizer's.
        known: For each of the L levels bool[K_l], the codes that new items may get.
        places: Items that a tuple has room for; ``UNLIMITED`` when any number may share it.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        index: ItemIndex,
        known: Sequence[NDArray[np.bool_]],
        places: int,
    ) -> None:
        self.quantizer = quantizer
        self.known = known
        self.places = places
        self.levels = len(known)
        self.size = len(known[-1])
        before = self.levels - 1
        self._last_codes = index.codes[:, before]
        self._taken = ItemIndex(
            index.codes[:, :before], index.level_sizes[:before], {}, shared=True
        )
        self._prefixes = 1
        for allowed in known[:-1]:
            self._prefixes *= int(allowed.sum())

    def width(self, stage: int) -> int:
        """Return the number of prefixes that the stages up to this one look at."""
        return min(FIRST_WIDTH << (stage - 1) if stage else 1, self._prefixes)

    def has(self, stage: int) -> bool:
        """Tell whether there are prefixes that no stage before this one looks at."""
        return stage == 0 or self.width(stage - 1) < self._prefixes

    def own_prefixes(self, x: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the prefix of each vector, int32[m, L - 1].

        It is what the quantizer gives; where that has a code that new items may not get, the
        nearest code that they may, level by level.
        """
        own = self.quantizer.codes_of(x)[:, : self.levels - 1].astype(np.int32)
        foreign = np.zeros(len(x), dtype=bool)
        for codes, allowed in zip(own.T, self.known[:-1], strict=True):
            foreign |= ~allowed[codes]
        own[foreign] = nearest_prefixes(self.quantizer, x[foreign], 1, self.known[:-1])[:, 0]
        return own

    def prefixes(
        self, x: NDArray[np.float32], own: NDArray[np.int32], stage: int
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return the prefixes int32[m, w, L - 1] up to a stage, and which are new, bool[m, w]."""
        if stage == 0:
            return own[:, None], np.ones((len(x), 1), dtype=bool)
        beam = nearest_prefixes(self.quantizer, x, self.width(stage), self.known[:-1])
        seen = own[:, None]
        if stage > 1:
            width = self.width(stage - 1)
            earlier = nearest_prefixes(self.quantizer, x, width, self.known[:-1])
            seen = np.concatenate([seen, earlier], axis=1)
        m, w, _ = beam.shape
        both = np.concatenate([beam, seen], axis=1)
        ids = dense_ids(both.reshape(-1, self.levels - 1)).reshape(m, both.shape[1])
        of_row = np.arange(m)[:, None] * (int(ids.max(initial=0)) + 1) + ids
        return beam, ~np.isin(of_row[:, :w], of_row[:, w:])

    def room(self, prefixes: NDArray[np.int32]) -> Ints:
        """Return how many new items the tuples below prefixes int32[g, L - 1] take, int64[g, K]."""
        rows, offsets = self._taken.rows_of(prefixes)
        group = np.repeat(np.arange(len(prefixes)), np.diff(offsets))
        slots = group * self.size + self._last_codes[rows]
        used = np.bincount(slots, minlength=len(prefixes) * self.size)
        room = np.maximum(self.places - used.reshape(len(prefixes), self.size), 0)
        return np.asarray(np.where(self.known[-1], room, 0), dtype=np.int64)


def number_together(
    prefixes: NDArray[np.int32], others: NDArray[np.int32]
) -> tuple[NDArray[np.int32], Ints, Ints]:
    """Number the distinct prefixes int32[r, l] in lexicographic order, and find others among them.

    Returns:
        The distinct prefixes int32[g, l]; the number of each prefix, int64[r]; the number of each
        of the others, -1 where it is none of the prefixes.
    """
    both = np.concatenate([prefixes, others])
    ids = dense_ids(both)
    numbers, first = np.unique(ids[: len(prefixes)], return_index=True)
    place = np.searchsorted(numbers, ids)
    found = np.isin(ids[len(prefixes) :], numbers)
    return both[first], place[: len(prefixes)], np.where(found, place[len(prefixes) :], -1)
