"""The items: the only place where outside ids become rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl


@dataclass(frozen=True)
class Catalog:
    """The items in row order.

    Attributes:
        table: One row an item. Columns ``item_id``, ``title`` and ``text`` (all strings, never
            null; ``text`` is what an embedding reads), then any attributes the source has.
    """

    table: pl.DataFrame

    def __len__(self) -> int:
        return self.table.height

    @cached_property
    def item_ids(self) -> list[str]:
        """The outside id of each row."""
        return self.table["item_id"].to_list()

    @cached_property
    def titles(self) -> list[str]:
        """What to show a person for each row; the id where the source has no title."""
        return self.table["title"].to_list()

    @cached_property
    def title_words(self) -> list[str]:
        """The title of each row, empty where the source has none and its id is shown.

        An id of several words counts as a title: there are shops that name items in no other way.
        """
        return [
            title if title != item_id or " " in title else ""
            for title, item_id in zip(self.titles, self.item_ids, strict=True)
        ]

    @cached_property
    def texts(self) -> list[str]:
        """What an embedding reads for each row; may be empty."""
        return self.table["text"].to_list()

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    def row(self, item_id: str) -> int:
        """Return the row of an outside id; ``KeyError`` when the catalogue has no such item."""
        return self._rows[item_id]

    def rows(self, item_ids: Sequence[str]) -> tuple[list[int], list[str]]:
        """Split outside ids into rows of known items and the ids that are unknown, in order."""
        known = [self._rows[item_id] for item_id in item_ids if item_id in self._rows]
        unknown = [item_id for item_id in item_ids if item_id not in self._rows]
        return known, unknown

    def save(self, folder: Path) -> None:
        """Write ``catalog.parquet`` into the folder."""
        self.table.write_parquet(folder / "catalog.parquet")

    @classmethod
    def load(cls, folder: Path) -> "Catalog":
        """Read ``catalog.parquet`` from the folder."""
        return cls(pl.read_parquet(folder / "catalog.parquet", glob=False))
