"""Which code tuple names which items."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from genrec.errors import DataError


@dataclass(frozen=True)
class ItemIndex:
    """Codes int32[n, L], one to one unless ``shared``: every item has its own tuple.

    Attributes:
        codes: int32[n, L]; row i names catalogue row i; ``0 <= codes[:, l] < level_sizes[l]``.
        level_sizes: Number of codes each level may use.
        facts: How it was made: method, vectors, collision policy and counts.
        shared: Whether several items may have the same tuple; decoding then ranks the items
            behind a tuple by popularity.

    Raises:
        DataError: When a code lies outside its level, or items share a tuple and ``shared`` is
            not set.
    """

    codes: NDArray[np.int32]
    level_sizes: tuple[int, ...]
    facts: dict[str, Any]
    shared: bool = False

    def __post_init__(self) -> None:
        n, levels = self.codes.shape
        if levels != len(self.level_sizes):
            raise DataError(
                f"codes have {levels} levels, level_sizes names {len(self.level_sizes)}."
            )
        if n and ((self.codes < 0).any() or (self.codes >= np.asarray(self.level_sizes)).any()):
            raise DataError("a code lies outside its level's size.")
        if not self.shared and self.tuples != n:
            raise DataError(
                f"{n - self.tuples} items share their code tuple with another item; resolve "
                "collisions before making an ItemIndex, or let it be shared."
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """Number of codes an item has."""
        return len(self.level_sizes)

    @cached_property
    def tuples(self) -> int:
        """Number of distinct tuples; the number of items when the index is one to one."""
        return int(self.keys.max(initial=-1)) + 1

    @property
    def keys(self) -> NDArray[np.int64]:
        """Number of each item's tuple among the distinct ones, int64[n], in lexicographic order.

        They run from 0 without a gap, so any number of levels of any size fits.
        """
        return self._numbers[1]

    @cached_property
    def _numbers(self) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        return number_prefixes(self.codes, self.level_sizes)

    @cached_property
    def _rows_by_key(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Rows tuple by tuple, int32[n], and where those of each begin, int64[tuples + 1]."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.keys, minlength=self.tuples))])
        return np.argsort(self.keys, kind="stable").astype(np.int32), starts.astype(np.int64)

    def codes_of(self, row: int) -> tuple[int, ...]:
        """Return the code tuple of a catalogue row."""
        return tuple(int(code) for code in self.codes[row])

    def row_of(self, codes: tuple[int, ...]) -> int:
        """Return the catalogue row with this tuple.

        Raises:
            KeyError: When no item has it.
            DataError: When several items have it; ``rows_of`` returns them all.
        """
        rows, _ = self.rows_of(np.asarray([codes], dtype=np.int64))
        if not len(rows):
            raise KeyError(codes)
        if len(rows) > 1:
            raise DataError(f"{len(rows)} items have the codes {codes}; rows_of returns them all.")
        return int(rows[0])

    def rows_of(self, codes: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Find the items behind many tuples at once.

        Args:
            codes: int[m, L]; tuples that no item has, and codes that no level has, are no error.

        Returns:
            Catalogue rows int32[t] and offsets int64[m + 1]: the items with tuple i are
            ``rows[offsets[i]:offsets[i + 1]]``, by row; none where no item has it.

        Raises:
            DataError: When the tuples have another number of codes.

        Example:
            >>> index = ItemIndex(np.array([[3, 1], [0, 2], [3, 1]]), (4, 4), {}, shared=True)
            >>> rows, offsets = index.rows_of(np.array([[0, 2], [3, 3], [3, 1]]))
            >>> rows.tolist(), offsets.tolist()
            ([1, 0, 2], [0, 1, 1, 3])
        """
        if codes.ndim != 2 or codes.shape[1] != self.levels:
            raise DataError(f"codes have shape {codes.shape}, expected [m, {self.levels}].")
        key, found = self._find(codes.astype(np.int64))
        order, starts = self._rows_by_key
        first = np.where(found, starts[key], 0)
        count = np.where(found, starts[np.minimum(key + 1, self.tuples)] - first, 0)
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], count)
        return order[np.repeat(first, count) + inside], offsets

    def _find(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the key of each tuple of codes int64[m, L], and bool[m], true where it has one."""
        key = np.zeros(len(codes), dtype=np.int64)
        found = np.full(len(codes), len(self) > 0)
        prefixes_of = self._numbers[0]
        for column, size, prefixes in zip(codes.T, self.level_sizes, prefixes_of, strict=True):
            found &= (column >= 0) & (column < size)
            wanted = np.where(found, key * size + column, 0)
            key = np.minimum(np.searchsorted(prefixes, wanted), max(len(prefixes) - 1, 0))
            found[found] = prefixes[key[found]] == wanted[found]
        return key, found

    def save(self, folder: Path) -> None:
        """Write ``codes.safetensors`` and ``index.json`` into the folder."""
        save_file({"codes": np.ascontiguousarray(self.codes)}, folder / "codes.safetensors")
        body = {
            "level_sizes": list(self.level_sizes),
            "shared": self.shared,
            "facts": self.facts,
        }
        (folder / "index.json").write_text(json.dumps(body, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "ItemIndex":
        """Read what ``save`` wrote; a folder from before tuples could be shared is one to one."""
        body = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        codes = load_file(folder / "codes.safetensors")["codes"]
        return cls(codes, tuple(body["level_sizes"]), body["facts"], body.get("shared", False))


def number_prefixes(
    codes: NDArray[np.integer], level_sizes: Sequence[int]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Number the distinct prefixes of each length in lexicographic order, from 0.

    Args:
        codes: int[n, L], ``0 <= codes[:, l] < level_sizes[l]``.
        level_sizes: Number of codes of each level.

    Returns:
        For each level the sorted ``parent * size + code`` of its prefixes, int64[N_l], where
        parent is the number of the prefix one code shorter; and the number of each row's whole
        tuple, int64[n]. Numbering anew after each level keeps all below n * size, whatever L is.
    """
    number = np.zeros(len(codes), dtype=np.int64)
    prefixes = []
    for column, size in zip(codes.T, level_sizes, strict=True):
        distinct, number = np.unique(number * int(size) + column, return_inverse=True)
        prefixes.append(distinct)
    return prefixes, number
