"""The role every quantizer plays: vectors in, codes out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from genrec.errors import ArtifactError


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

    def codes_of(self, x: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the codes that ``encode`` gives, int32[n, L], and nothing as large as x."""
        ...

    def decode(self, codes: NDArray[np.int32], levels: int | None = None) -> NDArray[np.float32]:
        """Return what the first levels of codes int32[n, L] stand for, float32[n, d]."""
        ...

    def distances(self, x: NDArray[np.float32], prefix: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return how far each vector is from every code that may follow its prefix.

        Args:
            x: float32[n, d].
            prefix: int32[n, l], the first l codes of each vector, ``0 <= l < L``.

        Returns:
            float64[n, level_sizes[l]], squared distance between a vector and what the prefix and
            the code stand for, in the quantizer's own space; infinite for a code that stands for
            no vector. At the last level it tells how well a whole tuple fits. Equal vectors with
            equal prefixes get equal rows, to the bit.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write ``quantizer.safetensors`` and ``quantizer.json`` into the folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        ...


def write_settings(folder: Path, method: str, settings: Mapping[str, Any]) -> None:
    """Write ``quantizer.json``: the method and what the quantizer was made with."""
    body = {"method": method, **settings}
    (folder / "quantizer.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


def read_settings(folder: Path, method: str) -> dict[str, Any]:
    """Read what ``write_settings`` wrote.

    Raises:
        ArtifactError: When the folder holds a quantizer of another method.
    """
    settings: dict[str, Any] = json.loads((folder / "quantizer.json").read_text(encoding="utf-8"))
    found = settings.pop("method", None)
    if found != method:
        raise ArtifactError(
            f"{folder} holds a quantizer of method {found!r}, expected {method!r}; run the index "
            "stage again."
        )
    return settings
