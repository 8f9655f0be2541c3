"""Read Parquet, CSV, TSV and JSON lines whose columns the recipe names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from genrec.config import ColumnNames, ItemColumns
from genrec.data.columns import find_columns, find_item_columns
from genrec.data.files import layout_of, reading, require_file, suffix_of
from genrec.data.json_lines import json_blocks, json_table, keys_of
from genrec.data.source import BLOCK_ROWS, Block, Items, Source, broken_rows
from genrec.data.text_blocks import header_of, separated_blocks, separated_table
from genrec.errors import DataError

READABLE = "Parquet (.parquet), CSV (.csv), TSV (.tsv) or JSON lines (.jsonl), text also as .gz"


def columns_of(path: Path, separator: str | None = None) -> list[str]:
    """Return the column names of a table file.

    Raises:
        DataError: When the file is not there, not whole, or of a kind that cannot be read.
    """
    layout = layout_of(require_file(path))
    if layout == "parquet":
        with reading(path):
            return list(pq.read_schema(path).names)
    if layout == "json":
        return keys_of(path)
    if layout == "text":
        return header_of(path, separator)[0]
    raise DataError(f"{path} ends in {suffix_of(path)!r}; expected {READABLE}.")


def parquet_blocks(path: Path, wanted: dict[str, str]) -> Iterator[Block]:
    """Yield the rows of a Parquet file; ``wanted`` is new name -> column.

    Raises:
        DataError: When the file is damaged.
    """
    row = 1
    columns = list(dict.fromkeys(wanted.values()))
    with reading(path):
        batches = pq.ParquetFile(path).iter_batches(batch_size=BLOCK_ROWS, columns=columns)
    while True:
        with reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        frame = pl.DataFrame(pl.from_arrow(batch))
        rows = pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row")
        yield Block(
            str(path),
            frame.select(rows, *(pl.col(old).alias(new) for new, old in wanted.items())),
        )
        row += frame.height


def _blocks(path: Path, wanted: dict[str, str], separator: str | None) -> Iterator[Block]:
    layout = layout_of(path)
    if layout == "parquet":
        return parquet_blocks(path, wanted)
    if layout == "json":
        return json_blocks(path, wanted)
    names, found = header_of(path, separator)
    return separated_blocks(path, names, found, wanted=wanted)


def read_item_file(
    path: Path, columns: ItemColumns, separator: str | None = None, keys: Sequence[str] = ()
) -> Items:
    """Read an item file of any table kind.

    Args:
        path: The file.
        columns: Which of its columns holds what.
        separator: Field separator of text files; ``None`` guesses.
        keys: Keys to keep of JSON records; empty keeps all.

    Raises:
        DataError: When the file or a column is not there, or cannot be read.
    """
    item_id, title = find_item_columns(columns_of(path, separator), columns, path)
    layout = layout_of(path)
    rows, broken = None, broken_rows()
    if layout == "parquet":
        with reading(path):
            table = pl.read_parquet(path, glob=False)
    elif layout == "json":
        table, rows, broken = json_table(path, tuple(keys) or None)
    else:
        names, found = header_of(path, separator)
        table, rows, broken = separated_table(path, names, found)
    if item_id != "item_id":
        table = table.drop("item_id", strict=False).rename({item_id: "item_id"})
    return Items(table, title, columns.text, broken, str(path), rows)


def read(
    paths: Sequence[Path],
    items_path: Path | None,
    columns: ColumnNames,
    item_columns: ItemColumns,
    separator: str | None = None,
) -> Source:
    """Open interactions in one or several table files with the same columns.

    Args:
        paths: The interaction files, read one after the other.
        items_path: The item file, if there is one.
        columns: Which column of the interactions holds what.
        item_columns: Which column of the item file holds what.
        separator: Field separator of text files; ``None`` guesses.

    Raises:
        DataError: When a file or a column is not there, or cannot be read.
    """
    mappings: list[dict[str, str]] = []
    notes: dict[str, None] = {}
    for path in paths:
        mapping, found = find_columns(columns_of(path, separator), columns, path)
        mappings.append(mapping)
        notes.update(dict.fromkeys(found))
    if len({tuple(mapping) for mapping in mappings}) > 1:
        raise DataError(
            f"{paths[0].parent} holds interaction files with different columns; give one file as "
            "data.path, or make the columns the same."
        )

    def blocks() -> Iterator[Block]:
        for path, mapping in zip(paths, mappings, strict=True):
            yield from _blocks(path, mapping, separator)

    return Source(
        format="table",
        path=str(paths[0] if len(paths) == 1 else paths[0].parent),
        blocks=blocks,
        items=read_item_file(items_path, item_columns, separator) if items_path else None,
        has_time="timestamp" in mappings[0],
        notes=tuple(notes),
    )
