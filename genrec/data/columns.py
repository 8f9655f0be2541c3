"""Find the columns of a source, and say what to do when they are not there."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from genrec.config import ColumnNames, ItemColumns
from genrec.errors import DataError

ROLES = ("user_id", "item_id", "timestamp", "weight")

# Other names that a column is looked for under when the recipe keeps the default, compared
# without case and punctuation. The first that is there is taken, and the report says so.
KNOWN_NAMES = {
    "user_id": ("userid", "user", "uid", "reviewerid", "customerid"),
    "item_id": ("itemid", "item", "iid", "movieid", "productid", "parentasin", "asin"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "datetime", "date"),
    "weight": ("weight", "rating", "overall", "stars", "score"),
    "title": ("title", "movietitle", "name", "itemname", "productname"),
}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find(role: str, wanted: str, is_default: bool, found: Sequence[str]) -> str | None:
    if wanted in found:
        return wanted
    if not is_default:
        return None
    plain = {_plain(name): name for name in reversed(found)}
    for known in KNOWN_NAMES[role]:
        if known in plain:
            return plain[known]
    return None


def _missing(absent: Sequence[tuple[str, str]], found: Sequence[str], path: Path) -> DataError:
    """Name every absent column (key of the recipe, name looked for) and what to do about it."""
    names = ", ".join(repr(name[:40]) for name in found[:20]) or "none"
    near = {
        key: match
        for key, wanted in absent
        for match in difflib.get_close_matches(wanted, found, n=1, cutoff=0.5)
    }
    other = found[0][:40] if found and len(absent) == 1 else "COLUMN"
    options = " ".join(f"--set {key}={near.get(key, other)}" for key, _ in absent)
    hints = [f"Say which column it is with {options}"]
    hints += [
        f"or keep the input order with --set {key}=null"
        for key, _ in absent
        if key.endswith("timestamp")
    ]
    wanted = ", no column ".join(repr(name) for _, name in absent)
    message = f"{path} has no column {wanted}; its columns are {names}. {' '.join(hints)}."
    if len(absent) == 1 and near:
        [match] = near.values()
        message += f" The nearest name is {match!r}."
    if len(found) == 1:
        message += (
            " Only one column was found: the separator may be wrong, give it with "
            "--set data.separator=';'."
        )
    if any(re.fullmatch(r"[\d.\s:-]+", name) for name in found):
        message += " The first line looks like data: the file needs a header line."
    return DataError(message)


def find_columns(
    found: Sequence[str], columns: ColumnNames, path: Path
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return which column of an interaction file holds what, and notes for the report.

    Args:
        found: Column names of the file.
        columns: Names that the recipe asks for.
        path: The file, for messages.

    Returns:
        Role (``user_id``, ``item_id``, ``timestamp``, ``weight``) -> column of the file; a role
        that the file or the recipe leaves out is not in it. Then one note for every column that
        was found under another name.

    Raises:
        DataError: When a column is not there, or a name is there twice.
    """
    _require_unique(found, path)
    mapping: dict[str, str] = {}
    notes: list[str] = []
    absent: list[tuple[str, str]] = []
    for role in ROLES:
        wanted = getattr(columns, role)
        if wanted is None:
            continue
        is_default = wanted == getattr(ColumnNames(), role)
        name = _find(role, wanted, is_default, found)
        if name is None:
            if role == "weight" and is_default:
                continue
            absent.append((f"data.columns.{role}", wanted))
            continue
        if name != wanted:
            notes.append(f"Column {name!r} of {path.name} was taken as the {role}.")
        mapping[role] = name
    if absent:
        raise _missing(absent, found, path)
    return mapping, tuple(notes)


def _require_unique(found: Sequence[str], path: Path) -> None:
    double = sorted({name for name in found if list(found).count(name) > 1})
    if double:
        raise DataError(f"{path} has the column {double[0]!r} more than once; rename one of them.")


def find_item_columns(
    found: Sequence[str], columns: ItemColumns, path: Path
) -> tuple[str, str | None]:
    """Return the id column and the title column (``None``: there is none) of an item file.

    Raises:
        DataError: When a column that the recipe names is not there.
    """
    _require_unique(found, path)
    default = ItemColumns()
    item_id = _find("item_id", columns.item_id, columns.item_id == default.item_id, found)
    if item_id is None:
        raise _missing([("data.item_columns.item_id", columns.item_id)], found, path)
    title = None
    if columns.title is not None:
        title_is_default = columns.title == default.title
        title = _find("title", columns.title, title_is_default, found)
        if title is None and not title_is_default:
            raise _missing([("data.item_columns.title", columns.title)], found, path)
    for name in columns.text or ():
        if name not in found:
            raise _missing([("data.item_columns.text", name)], found, path)
    return item_id, title
