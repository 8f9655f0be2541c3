"""Read JSON lines: interactions vectorised in blocks, item records one by one."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from genrec.data.files import first_lines, line_blocks, open_text, reading
from genrec.data.source import Block, broken_rows
from genrec.errors import DataError


def parse_record(line: str) -> dict[str, Any] | None:
    """Return the object written on a line, or ``None`` when there is none.

    Besides JSON this reads Python literals in braces, as the Amazon dumps of 2014 have them.
    Nothing is executed.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return value if isinstance(value, dict) else None


def keys_of(path: Path, lines: int = 50) -> list[str]:
    """Return the keys in the first records of a file, in order of appearance.

    Raises:
        DataError: When none of them is a record.
    """
    keys: dict[str, None] = {}
    start = first_lines(path, lines)
    for line in start:
        keys.update(dict.fromkeys(parse_record(line) or {}))
    if not keys:
        hint = " It is one JSON array: write one object a line." if start[0][:1] == "[" else ""
        raise DataError(
            f"{path} is not JSON lines: its first line is {start[0][:60]!r}, expected one object "
            f"in braces a line.{hint}"
        )
    return list(keys)


def _as_text(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return a value as valid text; half a surrogate pair, which JSON can spell, is U+FFFD."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def json_blocks(path: Path, wanted: Mapping[str, str]) -> Iterator[Block]:
    """Yield the records of a JSON lines file as rows of strings.

    Args:
        path: The file, plain or gzip.
        wanted: New name -> key of the records.

    Raises:
        DataError: When the file cannot be read.
    """
    for lines in line_blocks(path):
        full = lines.filter(pl.col("line").str.strip_chars() != "")
        table = full.select(
            "row",
            *(
                pl.col("line").str.json_path_match(f"$[{json.dumps(key)}]").alias(name)
                for name, key in wanted.items()
            ),
        )
        empty = lines.height - full.height
        nothing = table.select(pl.all_horizontal(pl.col(n).is_null() for n in wanted)).to_series()
        if not nothing.any():
            yield Block(str(path), table, empty=empty)
            continue
        rescued, broken = _rescue(path, full.filter(nothing), wanted)
        whole = pl.concat([table.filter(~nothing), rescued]).sort("row")
        yield Block(str(path), whole, broken, empty)


def _rescue(
    path: Path, lines: pl.DataFrame, wanted: Mapping[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read lines that the fast path could not, one by one; return rows and broken rows."""
    good: list[tuple[int, dict[str, Any]]] = []
    bad: list[tuple[int, str]] = []
    for row, line in lines.iter_rows():
        record = parse_record(line)
        if record is None:
            bad.append((row, line))
        else:
            good.append((row, record))
    table = pl.DataFrame(
        {
            "row": [row for row, _ in good],
            **{n: [_as_text(record.get(key)) for _, record in good] for n, key in wanted.items()},
        },
        schema={"row": pl.Int64, **dict.fromkeys(wanted, pl.String)},
    )
    reasons = ["is not a JSON object"] * len(bad)
    return table, broken_rows(str(path), [r for r, _ in bad], reasons, [t for _, t in bad])


def _flat(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Join nested lists into one text; keep numbers and texts."""
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in map(_flat, value) if part not in (None, ""))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def json_table(
    path: Path, keys: tuple[str, ...] | None = None
) -> tuple[pl.DataFrame, pl.Series, pl.DataFrame]:
    """Read a whole JSON lines file of items.

    Args:
        path: The file, plain or gzip.
        keys: Keys to keep; ``None`` keeps all.

    Returns:
        A table of strings, lists joined by commas; the line number of each of its rows; and the
        lines that could not be read.

    Raises:
        DataError: When the file cannot be read or holds no record.
    """
    records: list[dict[str, Any]] = []
    rows: list[int] = []
    bad: list[tuple[int, str]] = []
    with reading(path), open_text(path) as handle:
        for row, line in enumerate(handle, start=1):
            text = line.decode("utf-8")
            record = parse_record(text) if text.strip() else {}
            if record is None:
                bad.append((row, text))
            elif record:
                rows.append(row)
                records.append({k: _flat(v) for k, v in record.items() if not keys or k in keys})
    if not records:
        raise DataError(f"{path} holds no JSON object; expected one a line.")
    names = list(dict.fromkeys(name for record in records for name in record))
    table = pl.DataFrame(
        {name: [_as_text(record.get(name)) for record in records] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )
    reasons = ["is not a JSON object"] * len(bad)
    broken = broken_rows(str(path), [r for r, _ in bad], reasons, [t for _, t in bad])
    return table, pl.Series(rows, dtype=pl.Int64), broken
