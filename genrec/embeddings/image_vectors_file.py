"""Ready-made image vectors that a user brings, by item id."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.embeddings import mapped_file
from genrec.errors import DataError

Table = NDArray[np.float32]


def read_vectors(path: Path, item_ids: Sequence[str]) -> tuple[Table, NDArray[np.bool_]]:
    """Read the vectors of a catalogue's items.

    Args:
        path: ``.parquet`` with the columns ``item_id`` and ``vector`` (a list of numbers);
            ``.safetensors`` with the array ``vectors`` and, in its metadata, ``item_ids`` as a JSON
            list; or ``.npy``, a table whose row number is the item id.
        item_ids: The catalogue's, in row order.

    Returns:
        float32[n, d] as they stand in the file, and bool[n], for which items there is one: a zero
        vector counts as none.

    Raises:
        DataError: When the file is missing, damaged or laid out in another way, holds NaN or
            infinite values for an item of the catalogue, or knows none of its items.
    """
    readers = {".npy": _npy, ".safetensors": _safetensors, ".parquet": _parquet}
    if not path.is_file() or path.suffix not in readers:
        raise DataError(
            f"image.vectors is {path}, which is not there or not one of {', '.join(readers)}."
        )
    vectors, row_of = readers[path.suffix](path)
    rows = np.asarray([row_of.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
    if not (rows >= 0).any():
        known = list(row_of)[:3]
        raise DataError(
            f"{path} holds vectors of {len(row_of)} items (such as {known}) and none of the "
            f"catalogue (such as {list(item_ids[:3])}); its item ids must be those of the dataset."
        )
    table = np.zeros((len(item_ids), vectors.shape[1]), dtype=np.float32)
    table[rows >= 0] = vectors[rows[rows >= 0]]
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path} holds NaN or infinite values for {len(bad)} items, first "
            f"{item_ids[int(bad[0])]!r}; make these vectors again."
        )
    return table, np.asarray(table.any(axis=1))


def _npy(path: Path) -> tuple[NDArray[np.floating], dict[str, int]]:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no .npy file of numbers ({error}).") from error
    _require_table(path, array)
    return array, {str(row): row for row in range(len(array))}


def _safetensors(path: Path) -> tuple[NDArray[np.floating], dict[str, int]]:
    array = mapped_file.mapped(path, "vectors")
    _require_table(path, array)
    try:
        ids = [str(item_id) for item_id in json.loads(mapped_file.metadata(path)["item_ids"])]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} has no item_ids in its metadata, expected a JSON list with the item of each "
            "row of vectors."
        ) from error
    return array, _unique(path, ids, len(array))


def _parquet(path: Path) -> tuple[NDArray[np.floating], dict[str, int]]:
    try:
        table = pl.read_parquet(path, columns=["item_id", "vector"], glob=False)
        ids = table["item_id"].cast(pl.String).to_list()
        widths = table["vector"].list.len().unique().to_list()
        if len(widths) != 1 or table["vector"].list.eval(pl.element().is_null()).list.any().any():
            raise DataError(f"{path} holds vectors of different lengths {sorted(widths, key=str)}.")
        array = np.asarray(table["vector"].to_list(), dtype=np.float32)
    except (pl.exceptions.PolarsError, ValueError, TypeError, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({error}), expected the columns item_id and vector (a list of "
            "numbers)."
        ) from error
    _require_table(path, array)
    return array, _unique(path, ids, len(array))


def _require_table(path: Path, array: NDArray[np.generic]) -> None:
    if array.ndim != 2 or not array.shape[1] or not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{path} holds {array.dtype} of shape {array.shape}, expected a table of floats, one "
            "row an item."
        )


def _unique(path: Path, ids: Sequence[str | None], rows: int) -> dict[str, int]:
    row_of = {item_id: row for row, item_id in enumerate(ids) if item_id is not None}
    if len(ids) != rows or len(row_of) != rows:
        raise DataError(
            f"{path} has {rows} vectors and {len(row_of)} different item ids; each item needs one."
        )
    return row_of
