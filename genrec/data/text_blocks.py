"""Read separated text (CSV, TSV) in blocks, keeping row numbers and the rows that do not fit."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from genrec.data.files import first_lines, open_text, reading
from genrec.data.source import Block, broken_rows
from genrec.errors import DataError

SEPARATORS = (",", "\t", ";", "|")
_BLOCK_BYTES = 1 << 24
_MOST_SWALLOWED_LINES = 100


def guess_separator(line: str) -> str:
    """Return the separator that cuts a header line into most fields; a comma when none does."""
    return max(SEPARATORS, key=lambda separator: len(split_line(line, separator)))


def split_line(line: str, separator: str, quoted: bool = True) -> list[str]:
    """Return the fields of one line, stripped of white space around them."""
    if not quoted:
        return [field.strip() for field in line.split(separator)]
    try:
        fields = next(csv.reader([line.replace("\r", " ")], delimiter=separator), [])
    except csv.Error as error:
        raise DataError(f"The line {line[:60]!r} cannot be cut into fields: {error}.") from error
    return [field.strip() for field in fields]


def check_separator(separator: str) -> str:
    r"""Return a separator as one character; ``\t`` may be written out.

    Raises:
        DataError: When it is not one character.
    """
    separator = "\t" if separator in ("\\t", "tab") else separator
    if len(separator) != 1 or not separator.isascii():
        raise DataError(
            f"data.separator is {separator!r}, expected one ASCII character such as ',' or '\\t'; "
            "for '::' files set data.format to movielens."
        )
    return separator


def header_of(path: Path, separator: str | None, quoted: bool = True) -> tuple[list[str], str]:
    """Return the column names in the first line of a file and the separator between them."""
    line = first_lines(path)[0]
    if separator is None:
        separator = "\t" if ".tsv" in path.name.lower() else guess_separator(line)
    separator = check_separator(separator)
    return split_line(line, separator, quoted), separator


def separated_blocks(
    path: Path,
    names: Sequence[str],
    separator: str,
    *,
    header: bool = True,
    quoted: bool = True,
    wanted: dict[str, str] | None = None,
) -> Iterator[Block]:
    """Yield the rows of a separated text file; all fields are strings.

    A row with too few or too many fields goes to ``Block.broken``. Row numbers count records, the
    header included; they are line numbers unless quoted fields hold line breaks.

    Args:
        path: The file.
        names: Names of its columns, in order.
        separator: One character.
        header: The first line is a header.
        quoted: Fields may stand in double quotes.
        wanted: New name -> name of the columns to keep; ``None`` keeps all.

    Raises:
        DataError: When the file cannot be read.
    """
    keep = wanted or {name: name for name in names}
    positions = {f"f{i}": name for i, name in enumerate(names)}
    fields = {new: next(f for f, n in positions.items() if n == old) for new, old in keep.items()}
    with reading(path):
        handle = open_text(path)
        reader, bad = _open(
            handle, list(positions), list(fields.values()), separator, header, quoted
        )
    next_row = 1 + int(header)
    with handle:
        while True:
            with reading(path):
                batch = next(iter(reader), None)
            if batch is None:
                break
            frame = pl.DataFrame(pl.from_arrow(batch))
            skipped = _skipped_among(bad, next_row, frame.height)
            rows = _row_numbers(next_row, frame.height, [row.number for row in skipped])
            next_row += frame.height + len(skipped)
            yield _block(path, frame, rows, fields, skipped, len(names))
    if bad:
        yield _block(path, None, pl.Series(dtype=pl.Int64), fields, list(bad), len(names))


def separated_table(
    path: Path, names: Sequence[str], separator: str, *, quoted: bool = True
) -> tuple[pl.DataFrame, pl.Series, pl.DataFrame]:
    """Read a whole separated text file with a header.

    Returns:
        The table, all strings; the row number of each of its rows; and the rows that do not fit.

    Raises:
        DataError: When the file cannot be read or has no rows.
    """
    # Numbered names, since the file may have a column called row itself.
    numbered = {f"column {i}": name for i, name in enumerate(names)}
    blocks = list(separated_blocks(path, names, separator, quoted=quoted, wanted=numbered))
    if not blocks:
        raise DataError(f"{path} has a header line and no rows below it; expected one row an item.")
    table = pl.concat([block.table for block in blocks])
    broken = pl.concat([block.broken for block in blocks])
    return table.drop("row").rename(numbered), table["row"], broken


def _open(
    handle: IO[bytes],
    names: list[str],
    wanted: list[str],
    separator: str,
    header: bool,
    quoted: bool,
) -> tuple[arrow_csv.CSVStreamingReader, deque[arrow_csv.InvalidRow]]:
    """Open a streaming reader; rows that do not fit are put into the queue as it meets them."""
    bad: deque[arrow_csv.InvalidRow] = deque()

    def remember(row: arrow_csv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    reader = arrow_csv.open_csv(
        pa.PythonFile(handle, mode="r"),
        read_options=arrow_csv.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=names,
            skip_rows=int(header),
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=separator,
            quote_char='"' if quoted else False,
            newlines_in_values=quoted,
            ignore_empty_lines=False,
            invalid_row_handler=remember,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(dict.fromkeys(wanted)),
            strings_can_be_null=False,
        ),
    )
    return reader, bad


def _skipped_among(
    bad: deque[arrow_csv.InvalidRow], first: int, height: int
) -> list[arrow_csv.InvalidRow]:
    """Take from the queue the rows that lie among ``height`` good ones from row ``first`` on.

    The reader runs ahead, so the queue may hold rows of later batches too.
    """
    taken: list[arrow_csv.InvalidRow] = []
    while bad and bad[0].number < first + height + len(taken):
        taken.append(bad.popleft())
    return taken


def _row_numbers(first: int, height: int, skipped: Sequence[int]) -> pl.Series:
    """Return the numbers of the rows that were kept, when those at ``skipped`` were not."""
    every = pl.int_range(first, first + height + len(skipped), dtype=pl.Int64, eager=True)
    return every.filter(~every.is_in(skipped)) if skipped else every


def _block(
    path: Path,
    frame: pl.DataFrame | None,
    rows: pl.Series,
    fields: dict[str, str],
    bad: Sequence[arrow_csv.InvalidRow],
    width: int,
) -> Block:
    """Build a block: rename the fields, drop lines without any content, list the bad rows."""
    if frame is None:
        table = pl.DataFrame(schema={"row": pl.Int64, **dict.fromkeys(fields, pl.String)})
    else:
        table = frame.select(rows.alias("row"), *(pl.col(f).alias(n) for n, f in fields.items()))
    _require_closed_quotes(path, table, bad)
    full = table.filter(pl.any_horizontal(pl.col(name) != "" for name in fields))
    ragged = [row for row in bad if row.text.strip()]
    return Block(
        str(path),
        full,
        broken_rows(
            str(path),
            [row.number for row in ragged],
            [_reason(row, width) for row in ragged],
            [row.text for row in ragged],
        ),
        empty=table.height - full.height + len(bad) - len(ragged),
    )


def _require_closed_quotes(
    path: Path, table: pl.DataFrame, bad: Sequence[arrow_csv.InvalidRow]
) -> None:
    """Stop when one value has swallowed so many lines that rows would be lost without a trace."""
    swallowed = [(row.number, row.text) for row in bad]
    for name in table.columns[1:]:
        long = pl.col(name).str.len_bytes() > _MOST_SWALLOWED_LINES
        swallowed += table.filter(long).select("row", name).rows()
    for row, text in swallowed:
        lines = text.count("\n")
        if lines > _MOST_SWALLOWED_LINES:
            raise DataError(
                f"{path}: in row {row} a quoted value runs over {lines} lines, so a quote is "
                f"opened there and never closed: {text[:60]!r}. Close or remove it."
            )


def _reason(row: arrow_csv.InvalidRow, width: int) -> str:
    if "\n" in row.text:
        return "a quote is opened and never closed; the lines after it were swallowed"
    return f"has {row.actual_columns} fields, expected {width}"
