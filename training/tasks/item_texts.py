"""What is known of items in words: title, description, and values such as brand and category."""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from genrec.data.catalog import Catalog
from genrec.data.item_table import clean_text
from genrec.errors import ConfigError

# Columns whose values say what kind of thing an item is, where the recipe names none.
FACET_COLUMNS = (
    "brand", "category", "categories", "genres", "attributes", "department", "tier", "colour",
    "color",
)  # fmt: skip
# Columns that hold a description, the first that exists is read; without one it is the item's text.
DESCRIPTION_COLUMNS = ("description", "overview", "summary")
# A word without a blank in it, as in Chinese, is cut at so many characters.
_LONGEST_WORD = 40
_LONGEST_FACET = 60


class ItemTexts:
    """Words about the items of a catalogue, short enough for a prompt.

    Args:
        catalog: The items.
        facet_columns: Columns whose values describe an item in a few words; None takes those of
            ``FACET_COLUMNS`` that exist.
        most_words: Words of a title or description that are kept.

    Attributes:
        titles: One an item; empty where it has none, for an id says nothing.
        descriptions: One an item; empty where it has none.
        facets: Values of each item.

    Raises:
        ConfigError: When a column that is named does not exist.
    """

    def __init__(
        self, catalog: Catalog, facet_columns: Sequence[str] | None = None, most_words: int = 50
    ) -> None:
        table = catalog.table
        missing = [name for name in facet_columns or () if name not in table.columns]
        if missing:
            raise ConfigError(
                f"train.task_texts.facet_columns names {', '.join(missing)}, but the catalogue has "
                f"the columns {', '.join(table.columns)}."
            )
        usual = [name for name in FACET_COLUMNS if name in table.columns]
        self.facet_columns = usual if facet_columns is None else list(facet_columns)
        self.most_words = most_words
        self.titles = [self.short(title) for title in catalog.title_words]
        self.descriptions = [self.short(text) for text in _descriptions(catalog)]
        columns = [_values(table[name]) for name in self.facet_columns]
        self.facets = [
            tuple(dict.fromkeys(value for values in row for value in values))
            for row in zip(*columns, strict=True)
        ] or [()] * len(catalog)

    def short(self, text: str) -> str:
        """Return the first words of a text on one line."""
        words = text.split(maxsplit=self.most_words)[: self.most_words]
        return " ".join(words)[: self.most_words * _LONGEST_WORD]


def _descriptions(catalog: Catalog) -> list[str]:
    """Return a description of each item without its title in front, empty where there is none."""
    found = [name for name in DESCRIPTION_COLUMNS if name in catalog.table.columns]
    texts = clean_text(catalog.table[found[0]]).to_list() if found else catalog.texts
    return [
        text.removeprefix(title).lstrip(" ,.;:-")
        for text, title in zip(texts, catalog.title_words, strict=True)
    ]


def _values(column: pl.Series) -> list[list[str]]:
    """Return the values of one column, several where it holds lists or texts with bars.

    Of a path such as ``Photography > Cameras`` the last step is kept.
    """
    texts: list[list[Any]]
    if isinstance(column.dtype, pl.List | pl.Array):
        texts = [list(row) if row is not None else [] for row in column.to_list()]
    else:
        texts = [re.split(r"\s*\|\s*", text) for text in clean_text(column).to_list()]
    last = [
        [str(text).rpartition(">")[2].strip() for text in row if text is not None] for row in texts
    ]
    return [[text for text in row if 0 < len(text) <= _LONGEST_FACET] for row in last]
