"""One vector for each catalogue row."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from genrec.errors import DataError


@dataclass(frozen=True)
class EmbeddingTable:
    """Vectors float32[n, d]; row i belongs to catalogue row i.

    Attributes:
        vectors: float32[n, d], finite.
        origin: How they were made: method, model, revision, prompt.
    """

    vectors: NDArray[np.float32]
    origin: dict[str, Any]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise DataError(
                f"vectors must be a table [items, dimensions], got shape {self.vectors.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise DataError(
                f"{len(bad)} of {len(self.vectors)} vectors hold NaN or infinite "
                f"values; first rows: {bad[:5].tolist()}."
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def normalised(self) -> NDArray[np.float32]:
        """Return the vectors scaled to length 1; all-zero rows stay zero."""
        length = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return (self.vectors / np.where(length > 0, length, 1)).astype(np.float32)

    def save(self, folder: Path, name: str = "vectors") -> None:
        """Write ``NAME.safetensors`` and ``NAME.json`` into the folder."""
        save_file({"vectors": np.ascontiguousarray(self.vectors)}, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(self.origin, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, name: str = "vectors") -> "EmbeddingTable":
        """Read what ``save`` wrote."""
        vectors = load_file(folder / f"{name}.safetensors")["vectors"]
        return cls(vectors, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
