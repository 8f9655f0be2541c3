"""Read sequences: one row a user, with the user's items in time order."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from genrec.config import ItemColumns
from genrec.data.files import reading, require_file
from genrec.data.source import Block, Source, broken_rows
from genrec.data.table_reader import parquet_blocks, read_item_file
from genrec.errors import DataError

FILE_NAME = "sequences.parquet"
USER, ITEMS = "user_id", "item_ids"


def is_sequence_file(path: Path) -> bool:
    """Tell whether a Parquet file has the columns ``user_id`` and ``item_ids``."""
    with reading(path):
        return {USER, ITEMS} <= set(pq.read_schema(path).names)


def _exploded(path: Path) -> Iterator[Block]:
    """Yield one row an item; its time is its position in the user's list, from 0."""
    for block in parquet_blocks(path, {USER: USER, ITEMS: ITEMS}):
        kind = block.table[ITEMS].dtype
        if not isinstance(kind, pl.List | pl.Array):
            raise DataError(f"{path}: column {ITEMS!r} is {kind}, expected a list of ids.")
        table = block.table.with_columns(pl.col(ITEMS).cast(pl.List(kind.inner)))
        nothing = pl.col(ITEMS).is_null() | (pl.col(ITEMS).list.len() == 0)
        bare = table.filter(nothing)
        full = table.filter(~nothing).with_columns(
            pl.int_ranges(0, pl.col(ITEMS).list.len(), dtype=pl.Int64).alias("timestamp")
        )
        rows = full.explode(ITEMS, "timestamp").rename({ITEMS: "item_id"})
        broken = broken_rows(
            str(path),
            bare["row"].to_list(),
            ["item_ids is empty"] * bare.height,
            [f"user {user}" for user in bare[USER].to_list()],
        )
        yield Block(str(path), rows, broken)


def read(path: Path, items_path: Path | None, item_columns: ItemColumns) -> Source:
    """Open ``sequences.parquet`` and the ``items.parquet`` beside it.

    Args:
        path: The file, or the folder with ``sequences.parquet``.
        items_path: The item file; ``None`` takes ``items.parquet`` beside the sequences.
        item_columns: Which column of the item file holds what.

    Raises:
        DataError: When the files are not there or of another layout.
    """
    file = require_file(path / FILE_NAME if path.is_dir() else path)
    if not is_sequence_file(file):
        raise DataError(
            f"{file} has no columns {USER!r} and {ITEMS!r}; for one row an event set data.format "
            "to table."
        )
    if items_path is None and file.with_name("items.parquet").is_file():
        items_path = file.with_name("items.parquet")
    return Source(
        "sequences",
        str(path),
        lambda: _exploded(file),
        read_item_file(items_path, item_columns) if items_path else None,
        has_time=False,
        notes=("The source has an order and no times; the position in the list is the time.",),
    )
