"""Read MovieLens and MovieTweetings: ``ratings.dat`` and ``movies.dat``, ``u.data``, ``u.item``."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from genrec.data.files import first_lines, line_blocks, reading, require_file
from genrec.data.source import Block, Items, Source, broken_rows
from genrec.data.text_blocks import separated_blocks
from genrec.errors import DataError

SEPARATOR = "::"
FIELDS = ("user_id", "item_id", "weight", "timestamp")
RATING_NAMES = ("ratings.dat", "u.data")
ITEM_NAMES = {"ratings.dat": "movies.dat", "u.data": "u.item"}
# Order of the flags in u.item, as its documentation lists them.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


def _double_colon_blocks(path: Path) -> Iterator[Block]:
    """Yield ``user::item::rating::time`` lines; ids stay strings, leading zeros and all."""
    for lines in line_blocks(path):
        full = lines.filter(pl.col("line").str.strip_chars() != "")
        parts = full.with_columns(pl.col("line").str.split(SEPARATOR).alias("parts"))
        fits = pl.col("parts").list.len() == len(FIELDS)
        ragged = parts.filter(~fits)
        table = parts.filter(fits).select(
            "row", *(pl.col("parts").list.get(i).alias(name) for i, name in enumerate(FIELDS))
        )
        broken = broken_rows(
            str(path),
            ragged["row"].to_list(),
            [f"has {n} fields, expected 4" for n in ragged["parts"].list.len().to_list()],
            ragged["line"].to_list(),
        )
        yield Block(str(path), table, broken, lines.height - full.height)


def _decoded(path: Path) -> list[str]:
    """Return the lines of an item file in UTF-8 or, as the older sets have it, Latin-1."""
    with reading(path):
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        return data.decode("latin-1").split("\n")


def _read_movies(path: Path) -> Items:
    """Read ``id::title (year)::Genre|Genre``; a ``::`` inside a title is kept."""
    good: list[tuple[str, str, str]] = []
    bad: list[tuple[int, str]] = []
    for row, line in enumerate(_decoded(require_file(path)), start=1):
        fields = line.strip().split(SEPARATOR)
        if len(fields) >= 3:
            good.append((fields[0], SEPARATOR.join(fields[1:-1]), fields[-1]))
        elif line.strip():
            bad.append((row, line.strip()))
    table = pl.DataFrame(
        good, schema=dict.fromkeys(("item_id", "title", "genres"), pl.String), orient="row"
    )
    return _items(path, table, bad, 3)


def _read_u_item(path: Path) -> Items:
    """Read the ``|`` table of MovieLens 100k with its 19 genre flags."""
    good: list[tuple[str, str, str, str]] = []
    bad: list[tuple[int, str]] = []
    for row, line in enumerate(_decoded(require_file(path)), start=1):
        fields = line.strip().split("|")
        if len(fields) == 5 + len(GENRES):
            flags = zip(GENRES, fields[5:], strict=True)
            genres = ", ".join(name for name, flag in flags if flag == "1")
            good.append((fields[0], fields[1], genres, fields[2]))
        elif line.strip():
            bad.append((row, line.strip()))
    names = ("item_id", "title", "genres", "release_date")
    table = pl.DataFrame(good, schema=dict.fromkeys(names, pl.String), orient="row")
    return _items(path, table, bad, 5 + len(GENRES))


def _items(path: Path, table: pl.DataFrame, bad: list[tuple[int, str]], width: int) -> Items:
    if table.is_empty():
        raise DataError(f"{path} holds no line with {width} fields; is it the item file?")
    reasons = [f"does not have {width} fields"] * len(bad)
    broken = broken_rows(str(path), [row for row, _ in bad], reasons, [text for _, text in bad])
    return Items(table, broken=broken, file=str(path))


def read_items(path: Path) -> Items:
    """Read an item file: ``u.item``, or one laid out as ``movies.dat``.

    Raises:
        DataError: When it is not there, or no line of it has the fields of its layout.
    """
    return _read_u_item(path) if path.name == "u.item" else _read_movies(path)


def ratings_in(folder: Path) -> Path | None:
    """Return the rating file of a folder, if it has one."""
    return next((folder / name for name in RATING_NAMES if (folder / name).is_file()), None)


def read(path: Path, items_path: Path | None = None) -> Source:
    """Open MovieLens ratings: ``::`` lines, or the tab lines of MovieLens 100k.

    Args:
        path: ``ratings.dat``, ``u.data``, or the folder that holds one of them.
        items_path: The item file; ``None`` takes the one beside the ratings.

    Raises:
        DataError: When the files are not there or of another layout.
    """
    ratings = ratings_in(path) if path.is_dir() else require_file(path)
    if ratings is None:
        raise DataError(
            f"{path} holds neither ratings.dat nor u.data; put a MovieLens set there, or set "
            "data.format to another layout."
        )
    require_file(ratings)
    start = first_lines(ratings)[0]
    tabs = SEPARATOR not in start and start.count("\t") == len(FIELDS) - 1
    if not tabs and SEPARATOR not in start:
        raise DataError(
            f"{ratings} starts with {start[:60]!r}, expected user::item::rating::timestamp or the "
            "same with tabs; for a file with a header line set data.format to table."
        )
    if items_path is None:
        beside = ratings.with_name(ITEM_NAMES.get(ratings.name, "movies.dat"))
        items_path = beside if beside.is_file() else None
    items = read_items(items_path) if items_path is not None else None

    def blocks() -> Iterator[Block]:
        if not tabs:
            return _double_colon_blocks(ratings)
        return separated_blocks(ratings, FIELDS, "\t", header=False, quoted=False)

    return Source("movielens", str(path), blocks, items)
