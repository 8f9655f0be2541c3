"""The role every quantizer plays: vectors in, codes out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of n vectors with d dimensions.

    Attributes:
        codes: int32[n, L], one code a level; several items may have the same tuple.
        vectors: float32[n, d], the vectors that the codes stand for.
        loss: Mean over items of the squared distance between a vector and what its codes
            stand for.
    """

    codes: NDArray[np.int32]
    vectors: NDArray[np.float32]
    loss: float


class Quantizer(Protocol):
    """Learns codes from vectors; the same seed gives the same codes."""

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        ...

    def fit(self, x: NDArray[np.float32]) -> Self:
        """Learn from vectors float32[n, d]."""
        ...

    def encode(self, x: NDArray[np.float32]) -> Quantized:
        """Give codes to vectors float32[n, d], seen before or not."""
        ...

    def decode(self, codes: NDArray[np.int32], levels: int | None = None) -> NDArray[np.float32]:
        """Return what the first levels of codes int32[n, L] stand for, float32[n, d]."""
        ...

    def last_distances(
        self, x: NDArray[np.float32], codes: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Return how far each vector is from every code of the last level under its prefix.

        Args:
            x: float32[n, d].
            codes: int32[n, L]; the last column is not read.

        Returns:
            float64[n, level_sizes[-1]], squared; infinite for a code that stands for no vector.
            Equal vectors with equal codes get equal rows, to the bit.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write ``quantizer.safetensors`` and ``quantizer.json`` into the folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        ...
