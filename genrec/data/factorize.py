"""Turn ids into whole numbers, block by block, without keeping every id twice."""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def codes_in(ids: pl.Series, vocabulary: pl.Series) -> NDArray[np.int32]:
    """Return the position of every id in a vocabulary that holds them all, int32[m].

    Args:
        ids: Strings.
        vocabulary: Strings without repeats.
    """
    if vocabulary.is_empty():
        return np.zeros(0, dtype=np.int32)
    return ids.cast(pl.Enum(vocabulary)).to_physical().to_numpy().astype(np.int32)


class Factorizer:
    """Collects columns of ids and numbers them in order of first appearance."""

    def __init__(self) -> None:
        self._codes: list[NDArray[np.int32]] = []
        self._vocabularies: list[pl.Series] = []

    def add(self, ids: pl.Series) -> None:
        """Take the ids (strings, not null) of the next block."""
        vocabulary = ids.unique(maintain_order=True)
        self._codes.append(codes_in(ids, vocabulary))
        self._vocabularies.append(vocabulary)

    def finish(self) -> tuple[NDArray[np.int32], pl.Series]:
        """Return the number of every id in input order, int32[m], and the ids by number."""
        if not self._vocabularies:
            return np.zeros(0, dtype=np.int32), pl.Series("id", [], dtype=pl.String)
        every = pl.concat([part.rename("id") for part in self._vocabularies])
        ids = every.unique(maintain_order=True)
        number = codes_in(every, ids)
        starts = np.cumsum([0] + [len(part) for part in self._vocabularies])
        codes = [
            number[start:end][code]
            for start, end, code in zip(starts, starts[1:], self._codes, strict=False)
        ]
        return np.concatenate(codes), ids
