"""One vector for each catalogue row."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.embeddings import mapped_file
from genrec.errors import DataError


@dataclass(frozen=True)
class EmbeddingTable:
    """Vectors float32[n, d]; row i belongs to catalogue row i.

    A table that was loaded is read from disk as its rows are used.

    Attributes:
        vectors: float32[n, d], finite; may be memory-mapped.
        origin: How they were made: method, model, revision, prompt.
    """

    vectors: NDArray[np.float32]
    origin: dict[str, Any]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise DataError(
                f"vectors must be a table [items, dimensions], got shape {self.vectors.shape}."
            )
        finite = np.ones(len(self.vectors), dtype=bool)
        for rows in mapped_file.row_blocks(self.vectors):
            finite[rows] = np.isfinite(self.vectors[rows]).all(axis=1)
        bad = np.flatnonzero(~finite)
        if len(bad):
            raise DataError(
                f"{len(bad)} of {len(self.vectors)} vectors hold NaN or infinite "
                f"values; first rows: {bad[:5].tolist()}."
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def normalised(self) -> NDArray[np.float32]:
        """Return the vectors scaled to length 1; all-zero rows stay zero."""
        unit = np.empty(self.vectors.shape, dtype=np.float32)
        for rows in mapped_file.row_blocks(unit):
            unit[rows] = unit_rows(self.vectors[rows])
        return unit

    def save(self, folder: Path, name: str = "vectors") -> None:
        """Write ``NAME.safetensors`` and ``NAME.json`` into the folder."""
        mapped_file.write(folder / f"{name}.safetensors", "vectors", self.vectors)
        (folder / f"{name}.json").write_text(json.dumps(self.origin, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, name: str = "vectors") -> "EmbeddingTable":
        """Open what ``save`` wrote.

        Raises:
            DataError: When the file is damaged or holds other than finite vectors.
        """
        vectors = mapped_file.mapped(folder / f"{name}.safetensors", "vectors")
        return cls(vectors, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows of numbers [m, d] scaled to length 1, float32[m, d]; zero rows stay zero.

    In double precision, so that no length overflows or vanishes.
    """
    wide = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(length > 0, length, 1)).astype(np.float32)
