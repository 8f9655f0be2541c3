"""Choose the reader for a path: by names first, then by what the first lines hold."""

from pathlib import Path

from genrec.config import DataConfig, ItemColumns
from genrec.data import (
    amazon_reader,
    movielens_reader,
    recbole_reader,
    sequence_reader,
    table_reader,
)
from genrec.data.files import first_lines, layout_of, reading
from genrec.data.source import Items, Source
from genrec.errors import DataError

EVENT_STEMS = ("interactions", "ratings", "events", "reviews")
ITEM_STEMS = ("items", "movies", "catalog", "products", "item")
_EXPECTED = (
    "interactions.parquet (or .csv, .tsv, .jsonl) with items beside it, sequences.parquet, "
    "ratings.dat, u.data, NAME.inter, or one Amazon review file"
)


def _stem(path: Path) -> str:
    return path.name.lower().split(".")[0]


def _named(folder: Path, stems: tuple[str, ...]) -> list[Path]:
    """Return the table files of a folder with one of these names, in the order of the names."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and layout_of(path))
    return [path for stem in stems for path in files if _stem(path) == stem]


def _only(files: list[Path], folder: Path, key: str) -> Path:
    same = [path for path in files if _stem(path) == _stem(files[0])]
    if len(same) > 1:
        names = ", ".join(path.name for path in same)
        raise DataError(f"{folder} holds {names}: which one? Name it with --set {key}=FILE.")
    return same[0]


def event_files(folder: Path) -> list[Path]:
    """Return the interaction tables of a folder.

    That is the one with a usual name, or all tables that are not items when there is no such
    name and they are of one kind (``part-0.parquet``, ``part-1.parquet``).

    Raises:
        DataError: When there is none, or it is not clear which.
    """
    named = _named(folder, EVENT_STEMS)
    if named:
        return [_only(named, folder, "data.path")]
    others = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and layout_of(path)
        and _stem(path) not in ITEM_STEMS
        and not path.name.startswith((".", "_", "meta_"))
        and path.suffix != ".txt"
    ]
    if len({layout_of(path) for path in others}) > 1:
        names = ", ".join(path.name for path in others)
        raise DataError(f"{folder} holds {names}: which are events? Name one with data.path.")
    return others


def item_file(events: Path) -> Path | None:
    """Return the item table beside an interaction file, if there is one."""
    found = [path for path in _named(events.parent, ITEM_STEMS) if path != events]
    return _only(found, events.parent, "data.items_path") if found else None


def detect(path: Path) -> str:
    """Return the format of a file or folder.

    Raises:
        DataError: When it is not there or nothing in it is known.
    """
    if not path.exists():
        raise DataError(
            f"data.path {path} does not exist; give a file or folder with --set data.path=..., or "
            "download a public set with `genrec data fetch NAME`."
        )
    with reading(path):
        found = _detect_folder(path) if path.is_dir() else _detect_file(path)
    if found is None:
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:20]) if path.is_dir() else ""
        raise DataError(
            f"{path} holds nothing that genrec knows ({inside or 'it is empty'}); expected "
            f"{_EXPECTED}. Name the file with data.path and its layout with data.format."
        )
    return found


def _detect_folder(folder: Path) -> str | None:
    if _named(folder, ("interactions",)):
        return "table"
    if recbole_reader.inter_in(folder):
        return "recbole"
    if movielens_reader.ratings_in(folder):
        return "movielens"
    if (folder / sequence_reader.FILE_NAME).is_file():
        return "sequences"
    if any(amazon_reader.is_review_file(path) for path in sorted(folder.iterdir())):
        return "amazon"
    return "table" if event_files(folder) else None


def _detect_file(path: Path) -> str:
    if path.suffix == ".inter":
        return "recbole"
    if path.name in movielens_reader.RATING_NAMES or path.suffix == ".dat":
        return "movielens"
    layout = layout_of(path)
    columns = table_reader.columns_of(path)
    if layout == "parquet":
        return "sequences" if sequence_reader.is_sequence_file(path) else "table"
    if amazon_reader.is_review_file(path):
        return "amazon"
    if layout == "text" and len(columns) == 1 and "::" in first_lines(path)[0]:
        return "movielens"
    return "table"


def read_items(path: Path, columns: ItemColumns, separator: str | None = None) -> Items:
    """Read an item file alone, by the reader that its name calls for.

    Args:
        path: ``movies.dat``, ``u.item``, ``NAME.item``, ``meta_NAME.jsonl``, or a table.
        columns: Which of its columns holds what.
        separator: Field separator of text files; ``None`` guesses.

    Raises:
        DataError: When it is not there, not known, or cannot be read.
    """
    if path.name == "u.item" or path.suffix == ".dat":
        return movielens_reader.read_items(path)
    if path.suffix == ".item":
        return recbole_reader.read_items(path, columns, separator)
    if path.name.startswith("meta_"):
        return amazon_reader.read_metadata(path)
    return table_reader.read_item_file(path, columns, separator)


def open_source(config: DataConfig) -> Source:
    """Open what the recipe's data section names, with the right reader.

    Raises:
        DataError: When it is not there, not known, or cannot be read.
    """
    if config.path is None:
        raise DataError(
            f"data.format is {config.format!r} but data.path is not set; give a file or folder "
            "with --set data.path=..."
        )
    path = Path(config.path).expanduser()
    items = Path(config.items_path).expanduser() if config.items_path else None
    kind = detect(path) if config.format == "auto" or not path.exists() else config.format
    if kind == "movielens":
        return movielens_reader.read(path, items)
    if kind == "amazon":
        return amazon_reader.read(path, items)
    if kind == "sequences":
        return sequence_reader.read(path, items, config.item_columns)
    if kind == "recbole":
        return recbole_reader.read(
            path, items, config.columns, config.item_columns, config.separator
        )
    files = event_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no table of interactions; expected {_EXPECTED}.")
    return table_reader.read(
        files, items or item_file(files[0]), config.columns, config.item_columns, config.separator
    )
