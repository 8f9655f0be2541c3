"""Read the code files of other projects; nothing in them is executed."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from genrec.data.cleaning import clean_ids
from genrec.data.files import reading
from genrec.errors import DataError

LARGEST_CODE = 2**31 - 2
_TOKEN = r"^<([a-z])_([0-9]{1,10})>$"


@dataclass(frozen=True)
class FileCodes:
    """Names of items as a file has them, none twice, and their codes int32[n, L]."""

    names: list[str]
    codes: NDArray[np.int32]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, with the keys that are there twice."""


def read_lcrec(path: Path) -> FileCodes:
    """Read ``{"item": ["<a_1>", "<b_2>", ...], ...}``.

    Raises:
        DataError: When it is not that; the message names the item.
    """
    pairs = _json_pairs(path)
    names = [name for name, _ in pairs]
    values = [value for _, value in pairs]
    _require_unique(path, names)
    for name, value in pairs:
        if not isinstance(value, list) or not all(isinstance(token, str) for token in value):
            raise DataError(
                f"{path}: item {name!r} has {str(value)[:60]!r}, expected a list of texts, as "
                '["<a_1>", "<b_2>"].'
            )
    levels = _common_length(path, names, [len(value) for value in values])
    if levels > len(ascii_lowercase):
        raise DataError(f"{path} has {levels} codes an item; there are letters for 26.")
    try:
        tokens = pl.DataFrame({"token": list(chain.from_iterable(values))})
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path} holds half a character ({error.object[error.start]!a}) in a token; expected "
            "texts as <a_1>."
        ) from error
    letters = pl.Series(list(ascii_lowercase[:levels]) * len(names))
    parts = tokens.select(
        letter=pl.col("token").str.extract(_TOKEN, 1),
        code=pl.col("token").str.extract(_TOKEN, 2).cast(pl.Int64).fill_null(-1),
    )
    code = parts["code"].to_numpy()
    right = (parts["letter"] == letters).fill_null(False).to_numpy()
    wrong = np.flatnonzero(~right | (code > LARGEST_CODE))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{path}: {len(wrong)} codes cannot be read. Item {names[first // levels]!r} has "
            f"{tokens['token'][first][:60]!r} at level {first % levels}, expected "
            f"<{letters[first]}_NUMBER> with a number up to {LARGEST_CODE}."
        )
    return FileCodes(names, code.reshape(-1, levels).astype(np.int32))


def _json_pairs(path: Path) -> _Pairs:
    try:
        with reading(path):
            text = path.read_bytes().decode("utf-8-sig")
        body = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not JSON ({str(error)[:100]}); expected one object with the codes of every "
            "item, in UTF-8."
        ) from error
    if not isinstance(body, _Pairs):
        raise DataError(
            f"{path} holds a JSON {type(body).__name__}, expected one object with the codes of "
            "every item."
        )
    return body


def read_pid2sid(path: Path) -> FileCodes:
    """Read a Parquet file with the columns ``item_id`` and ``sid``, a list of whole numbers.

    Raises:
        DataError: When it is not that; the message names the item.
    """
    with reading(path):
        table = pl.read_parquet(path, glob=False)
    missing = {"item_id", "sid"} - set(table.columns)
    if missing:
        raise DataError(
            f"{path} has the columns {', '.join(table.columns)}; expected item_id and sid."
        )
    ids, reason = _ids(path, table["item_id"])
    if reason.is_not_null().any():
        row = int(reason.is_not_null().arg_true()[0])
        raise DataError(f"{path}: row {row + 1} cannot be used: {reason[row]}.")
    names = ids.to_list()
    _require_unique(path, names)
    kind = table["sid"].dtype
    if not (isinstance(kind, pl.List | pl.Array) and kind.inner.is_integer()):
        raise DataError(f"{path}: column 'sid' is {kind}, expected lists of whole numbers.")
    sids = table["sid"].cast(pl.List(kind.inner))
    levels = _common_length(path, names, sids.list.len().fill_null(0).to_list())
    codes = sids.explode().cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
    return FileCodes(names, _checked(path, codes.reshape(-1, levels), names))


def _ids(path: Path, column: pl.Series) -> tuple[pl.Series, pl.Series]:
    try:
        return clean_ids(column, "item_id")
    except TypeError as error:
        raise DataError(f"{path}: the column item_id is of type {error}.") from error


def read_grid(path: Path, items: int) -> NDArray[np.int32]:
    """Read a table of codes [L, items], or [items, L], and return int32[items, L].

    Raises:
        DataError: When it is not that, or is of another number of items.
    """
    table = _array(path)
    if table.dtype.kind not in "iu" or table.ndim != 2:
        raise DataError(
            f"{path} holds {table.dtype} of shape {table.shape}, expected a table of whole numbers "
            "[levels, items]."
        )
    if table.shape[1] == items:
        table = table.T
    if len(table) != items:
        raise DataError(
            f"{path} is of another catalogue: its shape is {table.shape}, and this one has {items} "
            f"items; expected [levels, {items}]."
        )
    names = [f"row {row}" for row in range(items)]
    _common_length(path, names, [table.shape[1]] * items)
    return _checked(path, table, names)


def _array(path: Path) -> NDArray[Any]:
    """Return the one array of a file that can hold no code to run."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _numpy_array(path)
    if suffix == ".safetensors":
        return _safetensors_array(path)
    raise DataError(
        f"{path} ends in {suffix!r}, expected .safetensors or .npy. A .pt or .pkl file can "
        "run code when it is read, so it is not: load it where it was made and write it by "
        "numpy.save('codes.npy', tensor.numpy())."
    )


def _numpy_array(path: Path) -> NDArray[Any]:
    try:
        with reading(path):
            array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read ({error}); write it by numpy.save(PATH, codes)."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays; write one by numpy.save(PATH, codes).")
    return array


def _safetensors_array(path: Path) -> NDArray[Any]:
    try:
        with reading(path):
            arrays = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file ({error}).") from error
    if len(arrays) != 1:
        held = ", ".join(sorted(arrays)) or "none"
        raise DataError(f"{path} holds the arrays {held}; expected one.")
    return next(iter(arrays.values()))


def _require_unique(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has {len(twice)} items more than once, as {twice[0]!r}.")


def _common_length(path: Path, names: Sequence[str], lengths: Sequence[int]) -> int:
    """Return the number of codes that every item has."""
    if not len(names):
        raise DataError(f"{path} holds no item.")
    usual = lengths[0]
    if not usual:
        raise DataError(f"{path}: item {names[0]!r} has no codes.")
    other = next((place for place, length in enumerate(lengths) if length != usual), None)
    if other is not None:
        raise DataError(
            f"{path}: item {names[0]!r} has {usual} codes and item {names[other]!r} "
            f"{lengths[other]}; all must have the same number."
        )
    return usual


def _checked(path: Path, codes: NDArray[Any], names: Sequence[str]) -> NDArray[np.int32]:
    bad = np.argwhere((codes < 0) | (codes > LARGEST_CODE))
    if len(bad):
        row, level = bad[0]
        raise DataError(
            f"{path}: {len(bad)} codes cannot be used. Item {names[row]!r} has {codes[row, level]} "
            f"at level {level}, expected 0 to {LARGEST_CODE}."
        )
    return np.ascontiguousarray(codes, dtype=np.int32)
