"""Read Amazon reviews: the dumps of 2014 and 2018, the rating files, and the form of 2023."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from genrec.config import ColumnNames, ItemColumns
from genrec.data.columns import find_columns
from genrec.data.files import first_lines, layout_of, require_file
from genrec.data.json_lines import json_blocks, keys_of, parse_record
from genrec.data.source import Block, Items, Source
from genrec.data.table_reader import read_item_file
from genrec.data.text_blocks import header_of, separated_blocks, split_line
from genrec.errors import DataError

_OLD = {"user_id": "reviewerID", "item_id": "asin", "timestamp": "unixReviewTime",
        "weight": "overall"}  # fmt: skip
_NEW = {"user_id": "user_id", "item_id": "parent_asin", "timestamp": "timestamp",
        "weight": "rating"}  # fmt: skip
# What is kept of a product record; the rest is pictures, prices of others and sales ranks.
_ITEM_KEYS = (
    "asin", "parent_asin", "title", "brand", "store", "main_category", "category", "categories",
    "features", "description", "price", "average_rating", "rating_number",
)  # fmt: skip
_ITEM_TEXT = ("title", "brand", "store", "category", "categories", "features", "description")
_PRODUCT = re.compile(r"[A-Z0-9]{10}")


def fields_of(keys: Sequence[str]) -> dict[str, str] | None:
    """Return which key holds what, or ``None`` when these are not review records."""
    for fields in (_OLD, _NEW):
        if all(key in keys for key in fields.values()):
            return dict(fields)
    return None


def ratings_order(path: Path) -> tuple[str, ...] | None:
    """Return the columns of a rating file without a header, or ``None`` when it is not one.

    The files of 2014 hold user, item, rating, time, those of 2018 item, user, rating, time. A
    product code has ten characters and a user's code more, which tells them apart.
    """
    rows = [split_line(line, ",", quoted=False) for line in first_lines(path, 200)]
    if any(len(row) != 4 or not re.fullmatch(r"\d{8,13}", row[3]) for row in rows):
        return None
    products = [sum(bool(_PRODUCT.fullmatch(row[i])) for row in rows) for i in (0, 1)]
    if max(products) < len(rows) or products[0] == products[1]:
        return None
    first, second = ("item_id", "user_id") if products[0] > products[1] else ("user_id", "item_id")
    return first, second, "weight", "timestamp"


def _review_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [require_file(path)]
    return [p for p in sorted(path.iterdir()) if is_review_file(p)]


def is_review_file(path: Path) -> bool:
    """Tell whether a file holds Amazon reviews or ratings, by its first lines."""
    if not path.is_file() or path.name.startswith(("meta_", ".")) or path.stat().st_size == 0:
        return False
    layout = layout_of(path)
    if layout == "json":
        return fields_of(list(parse_record(first_lines(path)[0]) or {})) is not None
    if layout != "text":
        return False
    return ratings_order(path) is not None or "parent_asin" in header_of(path, None)[0]


def _find_items(folder: Path) -> Path | None:
    found = sorted(p for p in folder.iterdir() if p.name.startswith("meta_") and layout_of(p))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise DataError(
            f"{folder} holds several item files ({names}); name one as data.items_path."
        )
    return found[0] if found else None


def read_metadata(path: Path) -> Items:
    """Read an Amazon product file: JSON lines or, as in 2014, Python literals.

    Raises:
        DataError: When the file cannot be read or its records have no product code.
    """
    keys = keys_of(require_file(path)) if layout_of(path) == "json" else []
    new = "parent_asin" in keys
    columns = ItemColumns(item_id="parent_asin" if new else "asin")
    items = read_item_file(path, columns, keys=_ITEM_KEYS)
    text = [name for name in _ITEM_TEXT if name in items.table.columns]
    return replace(items, text=text)


def read(path: Path, items_path: Path | None = None) -> Source:
    """Open Amazon reviews or ratings, plain or gzip.

    Args:
        path: One file, or a folder with one review file and, if wanted, one ``meta_`` file.
        items_path: The product file; ``None`` takes the ``meta_`` file beside the reviews.

    Raises:
        DataError: When the files are not there or hold something else.
    """
    files = _review_files(path)
    if len(files) != 1:
        found = ", ".join(p.name for p in files) or "none"
        raise DataError(
            f"{path} must hold one file of Amazon reviews or ratings, found: {found}. Name the "
            "file itself as data.path."
        )
    file = files[0]
    items_path = items_path or _find_items(file.parent)
    items = read_metadata(items_path) if items_path else None
    fields, names = _layout(file)

    def blocks() -> Iterator[Block]:
        if layout_of(file) == "json":
            return json_blocks(file, fields)
        if names is not None:
            return separated_blocks(file, names, ",", header=False)
        header, separator = header_of(file, None)
        return separated_blocks(file, header, separator, wanted=fields)

    return Source("amazon", str(path), blocks, items)


def _layout(file: Path) -> tuple[dict[str, str], tuple[str, ...] | None]:
    """Return which field of a review file holds what, and its columns if it has no header."""
    if layout_of(file) == "json":
        keys = keys_of(file)
        fields = fields_of(keys)
        if fields is None:
            raise DataError(
                f"{file} is not a file of Amazon reviews: its records have the keys "
                f"{', '.join(keys[:20])}; expected {', '.join(_OLD.values())} or "
                f"{', '.join(_NEW.values())}. For other records set data.format to table."
            )
        return fields, None
    names = ratings_order(file)
    if names is not None:
        return {}, names
    return find_columns(header_of(file, None)[0], ColumnNames(), file)[0], None
