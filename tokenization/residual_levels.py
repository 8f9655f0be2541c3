"""What is left of vectors after some levels of a residual quantizer, and what codes add up to."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.tokenization.kmeans import Floats, blocks

# What is left of a vector below this share of its length is rounding: it has no direction.
_ROUNDING = 1e-4


@dataclass
class ResidualLevels:
    """The centroids of each level, and how what is left after one becomes the input of the next.

    With r_0 = x and c_l the centroid of level l, ``r_(l+1) = r_l - c_l``; when normalised,
    ``r_(l+1) = (r_l - c_l) / s_(l+1)`` with ``s_(l+1) = |r_l - c_l|``, and so
    ``x = c_0 + s_1 (c_1 + s_2 (c_2 + ...))``.

    Attributes:
        normalise: Whether what is left after a level is scaled to length 1.
        codebooks: Centroids of each level, float32[m_l, d].
        lengths: When normalised, for each level but the last the mean length of what is left
            after each code, float32[m_l]; otherwise empty.
    """

    normalise: bool
    codebooks: list[Floats] = field(default_factory=list)
    lengths: list[Floats] = field(default_factory=list)

    def subtract(self, residual: Floats, level: int, code: NDArray[Any]) -> NDArray[np.float64]:
        """Turn r_l, float32[n, d], into r_(l+1), in place.

        Args:
            residual: float32[n, d].
            level: Which level's centroids to subtract.
            code: int[n], which of them.

        Returns:
            float64[n], what each row was divided by.
        """
        if not self.normalise:
            residual -= self.codebooks[level][code]
            return np.ones(len(residual))
        before = _row_lengths(residual)
        residual -= self.codebooks[level][code]
        length = _row_lengths(residual)
        residual[length <= _ROUNDING * before] = 0
        # Never zero, so that scaled distances still tell near codes from far ones.
        length = np.maximum(length, _ROUNDING * np.maximum(before, _ROUNDING))
        residual /= length[:, None].astype(np.float32)
        return length

    def note_lengths(self, code: NDArray[np.int64], length: NDArray[np.float64]) -> None:
        """Keep the mean of what rows were divided by, for each code of the newest level."""
        codes = len(self.codebooks[-1])
        counts = np.bincount(code, minlength=codes)
        sums = np.bincount(code, weights=length, minlength=codes)
        self.lengths.append((sums / np.maximum(counts, 1)).astype(np.float32))

    def left_over(
        self, x: NDArray[Any], prefix: NDArray[np.int32]
    ) -> tuple[Floats, NDArray[np.float64]]:
        """Return what is left of vectors [n, d] after their prefix int32[n, l], float32[n, d].

        Also float64[n], what it was divided by in all. Each row depends on itself alone.
        """
        residual = np.array(x, dtype=np.float32, order="C")
        scale = np.ones(len(x))
        for level, code in enumerate(prefix.T):
            scale *= self.subtract(residual, level, code)
        return residual, scale

    def add_up(self, codes: NDArray[np.int32], levels: int | None) -> Floats:
        """Return what the first levels of codes int32[n, L] stand for, float32[n, d].

        The lengths of an item are not known from its codes; the mean of each code stands for them.
        """
        vectors = np.zeros((len(codes), self.codebooks[0].shape[1]), dtype=np.float32)
        for rows in blocks(len(codes)):
            scale = np.ones((rows.stop - rows.start, 1), dtype=np.float32)
            for level, codebook in enumerate(self.codebooks[:levels]):
                code = codes[rows, level]
                vectors[rows] += scale * codebook[code]
                if level < len(self.lengths):
                    scale *= self.lengths[level][code][:, None]
        return vectors


def _row_lengths(x: Floats) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", x, x).astype(np.float64))
    return lengths
