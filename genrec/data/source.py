"""What every reader gives: blocks of raw rows, and the raw item table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

BLOCK_ROWS = 1 << 19

BROKEN_SCHEMA = {"file": pl.String, "row": pl.Int64, "reason": pl.String, "text": pl.String}


def broken_rows(
    file: str = "",
    rows: list[int] | None = None,
    reasons: list[str] | None = None,
    texts: list[str] | None = None,
) -> pl.DataFrame:
    """Return a table of rows that cannot be used; empty without arguments.

    Args:
        file: The file they are in.
        rows: 1-based row number of each; in text files the header line is row 1.
        reasons: Why each cannot be used.
        texts: What is written there.
    """
    rows = rows or []
    return pl.DataFrame(
        {"file": [file] * len(rows), "row": rows, "reason": reasons or [], "text": texts or []},
        schema=BROKEN_SCHEMA,
    )


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of one interaction file, as they are written there.

    Attributes:
        file: The file.
        table: Columns ``row`` (1-based row number), ``user_id``, ``item_id`` and, where the
            source has them, ``timestamp`` and ``weight``, of any type.
        broken: Rows whose fields could not be told apart (``BROKEN_SCHEMA``).
        empty: Number of empty lines that were passed over.
    """

    file: str
    table: pl.DataFrame
    broken: pl.DataFrame = field(default_factory=broken_rows)
    empty: int = 0


@dataclass(frozen=True)
class Items:
    """The raw item table of a source.

    Attributes:
        table: One row an item, columns as in the source, ids in ``item_id``.
        title: Column to show to people; ``None`` shows the id.
        text: Columns that are joined into the text; ``None`` takes the usual ones.
        broken: Rows that could not be read.
        file: The file they come from.
        rows: Row number in the file of each row of the table; ``None`` counts from 1.
    """

    table: pl.DataFrame
    title: str | None = "title"
    text: list[str] | None = None
    broken: pl.DataFrame = field(default_factory=broken_rows)
    file: str = ""
    rows: pl.Series | None = None


@dataclass(frozen=True)
class Source:
    """An opened source: nothing of the interactions is read before ``blocks`` is called.

    Attributes:
        format: Name of the layout.
        path: The file or folder that was given.
        blocks: Reads the interactions from the start, block by block, in input order.
        items: The raw item table, when there is one.
        has_time: False when the source only has an order.
        notes: What was decided while opening it, for the report.
    """

    format: str
    path: str
    blocks: Callable[[], Iterator[Block]]
    items: Items | None = None
    has_time: bool = True
    notes: tuple[str, ...] = ()


def one_block(file: Path | str, table: pl.DataFrame) -> Iterator[Block]:
    """Yield a table that is already in memory as blocks, numbering its rows from 1."""
    numbered = table.with_row_index("row", offset=1).with_columns(pl.col("row").cast(pl.Int64))
    for part in numbered.iter_slices(BLOCK_ROWS):
        yield Block(str(file), part)
