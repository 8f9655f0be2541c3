"""Codes of items in the files of other projects, out and in.

- ``lcrec``: JSON, ``{"item": ["<a_1>", "<b_2>", ...]}``; LC-Rec, LETTER and MiniOneRec name items
  by their row, others by their id.
- ``pid2sid``: Parquet with ``item_id`` and ``sid``, a list of whole numbers.
- ``grid``: one table of whole numbers, levels down and catalogue rows across as in GRID, or the
  other way round; as ``.safetensors`` or ``.npy``. A ``.pt`` file can run code when it is
  read, so it is refused.

Items may share their codes in such a file: in LETTER's for Amazon Beauty 12,101 items have 12,088
tuples. So reading one gives a ``Proposal``, like any other way to index items, and collisions are
resolved afterwards.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from genrec.errors import DataError
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.exchange_readers import FileCodes, read_grid, read_lcrec, read_pid2sid
from genrec.tokenization.indexer import Proposal
from genrec.whole_file import replacing

Format = Literal["lcrec", "pid2sid", "grid"]
KeyedBy = Literal["item_id", "row"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "lcrec": (".json",),
    "pid2sid": (".parquet",),
    "grid": (".safetensors", ".npy"),
}

_SHOWN = 5
# A level may have so many codes, or so many for each item of the file, whichever is more.
MOST_CODES, CODES_PER_ITEM = 65536, 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """Codes that a file has for items of a catalogue.

    Attributes:
        proposal: Codes int32[r, L] of the items that the file has, in catalogue order.
        rows: int64[r], their catalogue rows.
        missing: Ids of the catalogue that the file does not have, in catalogue order.
        extra: Names in the file that the catalogue does not have, in file order.
    """

    proposal: Proposal
    rows: NDArray[np.int64]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def complete(self) -> Proposal:
        """Return the proposal when every item of the catalogue has codes.

        Raises:
            DataError: When some have none; it counts them and names the first.
        """
        if self.missing:
            raise DataError(
                f"{len(self.missing)} of {len(self.rows) + len(self.missing)} items of the "
                f"catalogue have no codes in the file, as {_examples(self.missing)}; make the file "
                "for this catalogue, or leave these items out of it."
            )
        return self.proposal


def export_index(
    index: ItemIndex,
    item_ids: Sequence[str],
    path: Path,
    format: Format,
    *,
    keyed_by: KeyedBy = "item_id",
) -> Path:
    """Write the codes of an index into a file of another project.

    Args:
        index: The codes.
        item_ids: Outside id of each row.
        path: File to write; one that is there is replaced, whole or not at all. Its suffix is one
            that belongs to the format, and says how a ``grid`` is written.
        format: ``lcrec``, ``pid2sid`` or ``grid``.
        keyed_by: Whether items are named by their id or by their row; a ``grid`` has rows only.

    Returns:
        The path.

    Raises:
        DataError: When ids and codes differ in number, there are more levels than letters, or the
            suffix is not one that is written.
    """
    if len(item_ids) != len(index):
        raise DataError(f"there are {len(item_ids)} item ids for {len(index)} rows of codes.")
    path = Path(path)
    names = item_ids if keyed_by == "item_id" else [str(row) for row in range(len(index))]
    if path.suffix.lower() not in SUFFIXES[format]:
        raise DataError(
            f"{path.name}: a {format} file ends in {' or '.join(SUFFIXES[format])}, not in "
            f"{path.suffix!r}; give such a name, or another format."
        )
    with replacing(path) as partial:
        if format == "lcrec":
            _write_lcrec(partial, index, names)
        elif format == "pid2sid":
            sids = pl.Series("sid", index.codes.tolist(), dtype=pl.List(pl.Int32))
            pl.DataFrame([pl.Series("item_id", names, dtype=pl.String), sids]).write_parquet(
                partial
            )
        else:
            _write_grid(partial, index, path.suffix.lower())
    return path


def _write_lcrec(path: Path, index: ItemIndex, names: Sequence[str]) -> None:
    if index.levels > len(ascii_lowercase):
        raise DataError(
            f"the index has {index.levels} levels; the format lcrec has letters for "
            f"{len(ascii_lowercase)}."
        )
    columns = [
        [f"<{letter}_{code}>" for code in codes.tolist()]
        for letter, codes in zip(ascii_lowercase, index.codes.T, strict=False)
    ]
    body = dict(zip(names, zip(*columns, strict=True), strict=True))
    path.write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")


def _write_grid(path: Path, index: ItemIndex, suffix: str) -> None:
    table = np.ascontiguousarray(index.codes.T.astype(np.int64))
    if suffix == ".safetensors":
        save_file({"codes": table}, path)
        return
    with path.open("wb") as handle:
        np.save(handle, table, allow_pickle=False)


def import_index(
    path: Path,
    format: Format,
    item_ids: Sequence[str],
    *,
    keyed_by: KeyedBy = "item_id",
    level_sizes: Sequence[int] | None = None,
) -> Imported:
    """Read the codes that a file of another project has for a catalogue.

    Args:
        path: The file.
        format: ``lcrec``, ``pid2sid`` or ``grid``.
        item_ids: Outside id of each catalogue row.
        keyed_by: Whether the file names items by their id or by their row; a ``grid`` has rows
            only.
        level_sizes: Number of codes of each level; None takes one more than the largest.

    Raises:
        DataError: When the file cannot be read, is of another form, holds an item twice, codes of
            different lengths or codes that no level has, or none of the catalogue's items.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give the file with the codes.")
    _require_suffix_of(path, format)
    if format == "grid":
        codes = read_grid(path, len(item_ids))
        found = FileCodes([str(row) for row in range(len(codes))], codes)
        keyed_by = "row"
    else:
        found = read_lcrec(path) if format == "lcrec" else read_pid2sid(path)
    wanted = list(item_ids) if keyed_by == "item_id" else [str(r) for r in range(len(item_ids))]
    _require_plausible(path, found)
    place = _places(path, found.names, wanted, keyed_by)
    _warn_of_other_names(path, found.names, item_ids, keyed_by)
    rows = np.flatnonzero(place >= 0)
    codes = found.codes[place[rows]]
    known = set(wanted)
    return Imported(
        proposal=Proposal(
            codes,
            _level_sizes(path, found.codes, level_sizes),
            None,
            {"method": "imported", "format": format, "file": path.name},
        ),
        rows=rows,
        missing=tuple(item_ids[row] for row in np.flatnonzero(place < 0).tolist()),
        extra=tuple(name for name in found.names if name not in known),
    )


def _require_suffix_of(path: Path, format: Format) -> None:
    """Refuse a file whose suffix belongs to another format."""
    for other, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes and other != format:
            raise DataError(
                f"{path} ends in {path.suffix!r} as {other} files do, but is to be read as "
                f"{format}; say --format {other}."
            )


def _require_plausible(path: Path, found: FileCodes) -> None:
    """Refuse codes so large that a model would need more tokens for them than there are items."""
    most = max(MOST_CODES, CODES_PER_ITEM * len(found.names))
    row, level = np.unravel_index(int(found.codes.argmax()), found.codes.shape)
    if found.codes[row, level] >= most:
        raise DataError(
            f"{path}: item {found.names[row]!r} has code {found.codes[row, level]} at level "
            f"{level}; with {len(found.names)} items a level may have {most} codes, each of which "
            "becomes a token of the language model. Number the codes of a level from 0 without "
            "gaps."
        )


def _places(
    path: Path, names: list[str], wanted: list[str], keyed_by: KeyedBy
) -> NDArray[np.int64]:
    """Return where in the file each wanted item is, int64[n]; -1 where it is not."""
    line = {name: number for number, name in enumerate(names)}
    place = np.fromiter((line.get(name, -1) for name in wanted), np.int64, len(wanted))
    if (place < 0).all():
        hint = (
            "if it numbers the items by row, say keyed_by='row'"
            if keyed_by == "item_id"
            else "if it names them by id, say keyed_by='item_id'"
        )
        raise DataError(
            f"{path} is of another catalogue: none of its {len(names)} items, as "
            f"{_examples(names)}, is one of the {len(wanted)} of this one, as "
            f"{_examples(wanted)}; {hint}."
        )
    return place


def _warn_of_other_names(
    path: Path, names: list[str], item_ids: Sequence[str], keyed_by: KeyedBy
) -> None:
    """Say when the names of a file fit both the ids and the rows of a catalogue."""
    others = [str(row) for row in range(len(item_ids))] if keyed_by == "item_id" else item_ids
    if list(item_ids) != [str(row) for row in range(len(item_ids))] and set(names) == set(others):
        other = "row" if keyed_by == "item_id" else "item_id"
        logger.warning(
            "%s: its names are taken for %s, but each is also a %s of this catalogue. If that is "
            "what they are, read the file again with keyed_by=%r.",
            path,
            "item ids" if keyed_by == "item_id" else "rows",
            "row" if other == "row" else "item id",
            other,
        )


def _level_sizes(
    path: Path, codes: NDArray[np.int32], given: Sequence[int] | None
) -> tuple[int, ...]:
    largest = codes.max(axis=0)
    if given is None:
        return tuple(int(code) + 1 for code in largest)
    sizes = tuple(int(size) for size in given)
    if len(sizes) != codes.shape[1] or (largest >= np.asarray(sizes)).any():
        raise DataError(
            f"{path} has codes up to {largest.tolist()}, which levels of {list(sizes)} codes do "
            "not have."
        )
    return sizes


def _examples(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (", ..." if len(names) > _SHOWN else "")
