"""The role every way to index items plays: tables of the training part in, codes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from genrec.data.histories import Histories
from genrec.errors import DataError
from genrec.tokenization.quantizer import Quantizer

Need = Literal["vectors", "collaborative", "sequences", "categories"]
_HINTS: dict[Need, str] = {
    "categories": "; no item column is called categories, category, genres or attributes, so name "
    "the one that holds them by index.classic.categories, or choose another index.method"
}


@dataclass(frozen=True)
class ItemTables:
    """All that an indexer may learn from; entry i of each table belongs to catalogue row i.

    Attributes:
        item_ids: Outside id of each item, none twice; they break ties.
        titles: Title of each item.
        vectors: float32[n, d], what is quantized; may be memory-mapped.
        collaborative: float32[n, c], item vectors of a collaborative model.
        sequences: The users' training items, oldest first.
        categories: Path of each item in a category tree, coarse to fine; empty where unknown.
    """

    item_ids: Sequence[str]
    titles: Sequence[str]
    vectors: NDArray[np.float32] | None = None
    collaborative: NDArray[np.float32] | None = None
    sequences: Histories | None = None
    categories: Sequence[tuple[str, ...]] | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.item_ids)

    def require(self, *needs: Need) -> None:
        """Raise ``DataError`` when there is no item, or a table that is needed is missing."""
        if not len(self):
            raise DataError("there is no item to index; the catalogue is empty.")
        for need in needs:
            table: Any = getattr(self, need)
            if table is None:
                hint = _HINTS.get(need, "")
                raise DataError(f"this way to index items needs {need}, and none were given{hint}.")
            if need != "sequences" and len(table) != len(self):
                raise DataError(f"{need} has {len(table)} rows for {len(self)} items.")


@dataclass(frozen=True)
class Proposal:
    """Codes as an indexer gives them, before collisions are resolved.

    Attributes:
        codes: int32[n, L]; several items may have the same tuple.
        level_sizes: Number of codes of each level.
        quantizer: Encodes items that were never seen; None when the method cannot.
        facts: What is worth keeping about how the codes were made.
    """

    codes: NDArray[np.int32]
    level_sizes: tuple[int, ...]
    quantizer: Quantizer | None
    facts: dict[str, Any] = field(default_factory=dict)


class Indexer(Protocol):
    """Names the items of a catalogue; the same tables and seed give the same codes."""

    @property
    def name(self) -> str:
        """Name of the method in recipes and tables."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """The tables that it reads, besides ids and titles."""
        ...

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give codes to every item.

        Raises:
            DataError: When a table is missing or holds nothing to learn from.
        """
        ...
