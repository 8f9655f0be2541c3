"""Read RecBole's atomic files: ``NAME.inter`` and ``NAME.item`` with ``name:type`` headers."""

from collections.abc import Iterator
from pathlib import Path

from genrec.config import ColumnNames, ItemColumns
from genrec.data.columns import find_columns, find_item_columns
from genrec.data.files import first_lines, require_file
from genrec.data.source import Block, Items, Source
from genrec.data.text_blocks import (
    check_separator,
    separated_blocks,
    separated_table,
    split_line,
)
from genrec.errors import DataError

TYPES = ("token", "token_seq", "float", "float_seq")


def _header(path: Path, separator: str) -> list[str]:
    """Return the column names of an atomic file, without their types."""
    fields = split_line(first_lines(require_file(path))[0], separator, quoted=False)
    names = []
    for field in fields:
        name, _, kind = field.rpartition(":")
        if not name or kind not in TYPES:
            raise DataError(
                f"{path} starts with {field[:60]!r}, expected NAME:TYPE fields between tabs with "
                f"one of the types {', '.join(TYPES)}; for another separator use "
                "--set data.separator=','."
            )
        names.append(name)
    return names


def read_items(path: Path, columns: ItemColumns, separator: str | None = None) -> Items:
    """Read a ``.item`` file.

    Args:
        path: The file.
        columns: Which of its columns holds what, without types.
        separator: Field separator; ``None`` is a tab.

    Raises:
        DataError: When it is not there or of another layout.
    """
    separator = check_separator(separator or "\t")
    names = _header(path, separator)
    item_id, title = find_item_columns(names, columns, path)
    table, rows, broken = separated_table(path, names, separator, quoted=False)
    if item_id != "item_id":
        table = table.drop("item_id", strict=False).rename({item_id: "item_id"})
    return Items(table, title, columns.text, broken, str(path), rows)


def inter_in(folder: Path) -> list[Path]:
    """Return the interaction files of a folder."""
    return sorted(folder.glob("*.inter"))


def read(
    path: Path,
    items_path: Path | None,
    columns: ColumnNames,
    item_columns: ItemColumns,
    separator: str | None = None,
) -> Source:
    """Open RecBole atomic files.

    Args:
        path: The ``.inter`` file, or the folder with one.
        items_path: The ``.item`` file; ``None`` takes the one of the same name beside it.
        columns: Which column of the interactions holds what, without types.
        item_columns: Which column of the item file holds what, without types.
        separator: Field separator; ``None`` is a tab.

    Raises:
        DataError: When the files are not there or of another layout.
    """
    files = inter_in(path) if path.is_dir() else [require_file(path)]
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path} must hold one .inter file, found: {names}; name one as data.path.")
    file = files[0]
    separator = check_separator(separator or "\t")
    names_found = _header(file, separator)
    mapping, notes = find_columns(names_found, columns, file)
    if items_path is None and file.with_suffix(".item").is_file():
        items_path = file.with_suffix(".item")

    def blocks() -> Iterator[Block]:
        return separated_blocks(file, names_found, separator, quoted=False, wanted=mapping)

    return Source(
        "recbole",
        str(path),
        blocks,
        read_items(items_path, item_columns, separator) if items_path else None,
        has_time="timestamp" in mapping,
        notes=notes,
    )
