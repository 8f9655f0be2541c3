"""Read items that come after the dataset was made, and say which rows cannot be taken and why."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from genrec.config import ItemColumns
from genrec.data.catalog import Catalog
from genrec.data.cleaning import clean_ids
from genrec.data.detect import read_items
from genrec.data.item_table import clean_text, normalise_items
from genrec.data.source import BROKEN_SCHEMA, Items
from genrec.errors import DataError

logger = logging.getLogger(__name__)

IN_CATALOGUE = "item_id is in the catalogue already"
TWICE = "item_id came before in this file"


@dataclass(frozen=True)
class NewItems:
    """Items of a file that a catalogue does not have.

    Attributes:
        table: One row an item, the columns and types of the catalogue.
        file: The file they come from.
        rows: Row number in the file of each.
        refused: Rows that were not taken: ``file``, ``row``, ``reason``, ``text``.
    """

    table: pl.DataFrame
    file: str
    rows: pl.Series
    refused: pl.DataFrame

    @property
    def ids(self) -> list[str]:
        """The outside id of each item."""
        return self.table["item_id"].to_list()

    def take(self, places: Sequence[int]) -> "NewItems":
        """Return the items at some places, in the order of the places; refused rows stay."""
        rows = list(places)
        return replace(self, table=self.table[rows], rows=self.rows[rows])

    def refuse(self, places: Sequence[int], reason: str) -> "NewItems":
        """Return the items without those at some places, which join the refused rows."""
        out = pl.int_range(self.table.height, eager=True).is_in(list(places))
        reasons = pl.Series([reason]).new_from_index(0, self.table.height)
        more = _rows(self.file, self.rows, self.table["item_id"], out, reasons)
        return replace(
            self,
            table=self.table.filter(~out),
            rows=self.rows.filter(~out),
            refused=pl.concat([self.refused, more]),
        )


def read_new_items(
    path: Path,
    catalog: Catalog,
    columns: ItemColumns,
    *,
    text_columns: Sequence[str] | None = None,
    separator: str | None = None,
) -> NewItems:
    """Read an item file as the data stage does and keep the items that are new.

    Of rows with the same id the first is taken. Columns that the catalogue does not have are left
    out, and those that the file does not have are empty; the log names both.

    Args:
        path: An item file of any layout that the data stage reads.
        catalog: The items that are there.
        columns: Which column of the file holds what.
        text_columns: Columns that the texts of the catalogue were joined from, so that those of
            new items say the same things; None takes what ``columns`` says.
        separator: Field separator of text files; None guesses.

    Raises:
        DataError: When the file cannot be read, lacks every text column or holds no new item.
    """
    items = read_items(path, columns, separator)
    if text_columns is not None and columns.text is None:
        items = replace(items, text=_present(text_columns, items, path))
    ids, reason = _judged(items, catalog)
    rows = items.rows
    if rows is None:
        rows = pl.int_range(1, ids.len() + 1, eager=True, dtype=pl.Int64)
    keep = reason.is_null()
    refused = pl.concat([items.broken, _rows(items.file, rows, ids, ~keep, reason)])
    if not keep.any():
        raise DataError(f"{path} holds no new item: {_counted(refused)}.")
    kept = replace(items, table=items.table.filter(keep), rows=rows.filter(keep))
    table = _like(normalise_items(kept).table, catalog.table, path)
    return NewItems(table, items.file, rows.filter(keep), refused)


def _judged(items: Items, catalog: Catalog) -> tuple[pl.Series, pl.Series]:
    """Return the cleaned ids and why each cannot be taken; null where it can."""
    try:
        ids, reason = clean_ids(items.table["item_id"], "item_id")
    except TypeError as error:
        raise DataError(f"{items.file}: the item id column is of type {error}.") from error
    there = ids.is_in(catalog.table["item_id"].implode())
    frame = pl.DataFrame({"id": ids, "reason": reason, "there": there})
    judged = frame.select(
        pl.coalesce(
            "reason",
            pl.when("there").then(pl.lit(IN_CATALOGUE)),
            pl.when(~pl.col("id").is_first_distinct()).then(pl.lit(TWICE)),
        ).alias("reason")
    )
    return ids, judged["reason"]


def _rows(
    file: str, rows: pl.Series, ids: pl.Series, which: pl.Series, reason: pl.Series
) -> pl.DataFrame:
    """Return some rows of the file as refused ones."""
    return pl.DataFrame(
        {
            "file": [file] * int(which.sum()),
            "row": rows.filter(which),
            "reason": reason.filter(which),
            "text": ids.filter(which).fill_null(""),
        },
        schema=BROKEN_SCHEMA,
    )


def _counted(refused: pl.DataFrame) -> str:
    """Return the reasons in words, the most frequent first."""
    counts = refused["reason"].value_counts(sort=True).head(3)
    reasons = "; ".join(f"{reason} ({count} rows)" for reason, count in counts.iter_rows())
    return reasons or "it has no rows"


def _present(wanted: Sequence[str], items: Items, path: Path) -> list[str]:
    """Return the text columns that the file has; say which it lacks."""
    # The title is found under other names as well.
    names = [items.title if name == "title" and items.title else name for name in wanted]
    present = [name for name in names if name in items.table.columns]
    if wanted and not present:
        raise DataError(
            f"{path} has none of the columns that the texts of the catalogue were made from "
            f"({', '.join(wanted)}); its columns are {', '.join(items.table.columns[:20])}."
        )
    if len(present) < len(names):
        logger.warning(
            "%s has no column %s: the texts of its items say less than those of the catalogue.",
            path,
            ", ".join(name for name in names if name not in present),
        )
    return present


def _like(table: pl.DataFrame, catalogue: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return a table with the columns and types of the catalogue."""
    unknown = [name for name in table.columns if name not in catalogue.columns]
    missing = [name for name in catalogue.columns if name not in table.columns]
    if unknown:
        logger.info("%s: the catalogue has no column %s; left out.", path, ", ".join(unknown))
    if missing:
        logger.info("%s has no column %s; left empty.", path, ", ".join(missing))
    series = []
    for name, kind in catalogue.schema.items():
        if name in missing:
            series.append(pl.Series(name, [None] * table.height, dtype=kind))
        else:
            series.append(_cast(table[name], kind, path))
    return pl.DataFrame(series)


def _cast(column: pl.Series, kind: pl.DataType, path: Path) -> pl.Series:
    if kind == pl.String and isinstance(column.dtype, pl.List | pl.Array):
        column = clean_text(column)
    try:
        cast = column.cast(kind, strict=False)
    except pl.exceptions.PolarsError:
        cast = pl.Series(column.name, [None] * len(column), dtype=kind)
    lost = cast.null_count() - column.null_count()
    if lost:
        logger.warning(
            "%s: %d values of column %s are not %s, as the catalogue has them; left empty.",
            path,
            lost,
            column.name,
            kind,
        )
    return cast
