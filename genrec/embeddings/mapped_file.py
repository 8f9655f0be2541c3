"""Arrays in safetensors files that are read, and written, without being held in memory."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from genrec.errors import DataError

# Bytes of a row block when a table is copied.
BLOCK_BYTES = 1 << 26
_TYPES = {
    "F16": np.float16, "F32": np.float32, "F64": np.float64,
    "U8": np.uint8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
}  # fmt: skip
_LENGTH_BYTES = 8
_METADATA = "__metadata__"


def mapped(path: Path, name: str) -> NDArray[Any]:
    """Return an array of a file; its rows are read from disk when they are used.

    It can be written to, which changes it in memory alone.

    Args:
        path: A safetensors file.
        name: Of the array.

    Raises:
        DataError: When the file is damaged, or holds no array of this name and a known type.
    """
    header, length = _header(path)
    if name not in header or header[name]["dtype"] not in _TYPES:
        raise DataError(f"{path} holds {', '.join(names(path)) or 'nothing'}, expected {name!r}.")
    entry = header[name]
    kind, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
    if not np.prod(shape):
        return np.zeros(shape, dtype=kind)
    start = _LENGTH_BYTES + length + int(entry["data_offsets"][0])
    array: NDArray[Any] = np.memmap(path, dtype=kind, mode="c", offset=start, shape=shape)
    return array


def names(path: Path) -> list[str]:
    """Return the names of the arrays of a file.

    Raises:
        DataError: When the file is damaged.
    """
    return [name for name in _header(path)[0] if name != _METADATA]


def metadata(path: Path) -> dict[str, str]:
    """Return what else a file says of its arrays; empty when it says nothing.

    Raises:
        DataError: When the file is damaged.
    """
    return dict(_header(path)[0].get(_METADATA, {}))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file and its length in bytes."""
    try:
        # The library checks the whole layout before anything is read by it.
        with safe_open(path, "np"):
            pass
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file ({error}); make it again.") from error
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(_LENGTH_BYTES), "little")
        return json.loads(handle.read(length)), length


def create(path: Path, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Make a file with one table of float32, all zero, and return the table to be filled.

    Args:
        path: The safetensors file; a new one takes its place when it is there.
        name: Of the array, the same as when it is written elsewhere.
        shape: Rows and columns.
    """
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({name: entry}).encode()
    # Filled up so that the numbers begin at a multiple of eight.
    header += b" " * (-len(header) % _LENGTH_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another file may be linked to the old one, and keeps what it holds.
    path.unlink(missing_ok=True)
    with path.open("wb") as handle:
        handle.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        handle.truncate(_LENGTH_BYTES + len(header) + size)
    if not size:
        return np.zeros(shape, dtype=np.float32)
    start = _LENGTH_BYTES + len(header)
    return np.memmap(path, dtype=np.float32, mode="r+", offset=start, shape=shape)


def write(path: Path, name: str, table: NDArray[np.float32]) -> None:
    """Write a table of float32 block by block; one that ``create`` made becomes a link to its file.

    Args:
        path: The safetensors file, on the same disk as that of a table that was created.
        name: Of the array.
        table: float32[n, d].
    """
    if isinstance(table, np.memmap) and table.mode == "r+" and table.filename is not None:
        table.flush()
        os.link(table.filename, path)
        return
    target = create(path, name, (table.shape[0], table.shape[1]))
    for rows in row_blocks(table):
        target[rows] = table[rows]
    if isinstance(target, np.memmap):
        target.flush()


def row_blocks(table: NDArray[Any]) -> list[slice]:
    """Cut the rows of a table into blocks of about 64 MB."""
    width = max(1, table.shape[1] * table.dtype.itemsize)
    step = max(1, BLOCK_BYTES // width)
    return [slice(start, start + step) for start in range(0, len(table), step)]
