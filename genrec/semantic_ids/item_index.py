"""Which code tuple names which item."""

import json
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
    """Codes int32[n, L], one to one: every item has its own tuple.

    Attributes:
        codes: int32[n, L]; row i names catalogue row i; ``0 <= codes[:, l] < level_sizes[l]``.
        level_sizes: Number of codes each level may use.
        facts: How it was made: method, vectors, collision policy and counts.
    """

    codes: NDArray[np.int32]
    level_sizes: tuple[int, ...]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        n, levels = self.codes.shape
        if levels != len(self.level_sizes):
            raise DataError(
                f"codes have {levels} levels, level_sizes names {len(self.level_sizes)}."
            )
        if n and ((self.codes < 0).any() or (self.codes >= np.asarray(self.level_sizes)).any()):
            raise DataError("a code lies outside its level's size.")
        if len(np.unique(self.keys)) != n:
            raise DataError(
                f"{n - len(np.unique(self.keys))} items share their code tuple with "
                "another item; resolve collisions before making an ItemIndex."
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """Number of codes an item has."""
        return len(self.level_sizes)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """One integer a tuple, int64[n], in lexicographic order of the codes."""
        return tuple_keys(self.codes, self.level_sizes)

    @cached_property
    def _row_of_key(self) -> dict[int, int]:
        return {int(key): row for row, key in enumerate(self.keys)}

    def codes_of(self, row: int) -> tuple[int, ...]:
        """Return the code tuple of a catalogue row."""
        return tuple(int(code) for code in self.codes[row])

    def row_of(self, codes: tuple[int, ...]) -> int:
        """Return the catalogue row with this tuple; ``KeyError`` when no item has it."""
        key = tuple_keys(np.asarray([codes], dtype=np.int32), self.level_sizes)
        return self._row_of_key[int(key[0])]

    def save(self, folder: Path) -> None:
        """Write ``codes.safetensors`` and ``index.json`` into the folder."""
        save_file({"codes": np.ascontiguousarray(self.codes)}, folder / "codes.safetensors")
        body = {"level_sizes": list(self.level_sizes), "facts": self.facts}
        (folder / "index.json").write_text(json.dumps(body, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "ItemIndex":
        """Read what ``save`` wrote."""
        body = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        codes = load_file(folder / "codes.safetensors")["codes"]
        return cls(codes, tuple(body["level_sizes"]), body["facts"])


def tuple_keys(codes: NDArray[np.int32], level_sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Fold code tuples int32[n, L] into one sortable integer each, int64[n]."""
    keys = np.zeros(len(codes), dtype=np.int64)
    for level, size in enumerate(level_sizes):
        keys = keys * size + codes[:, level]
    return keys
