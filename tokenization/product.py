"""Product quantization: cut a vector into pieces and give each piece a code of its own."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, track
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import cdist

from genrec.errors import DataError
from genrec.tokenization.kmeans import (
    Floats,
    Ints,
    as_float32,
    blocks,
    checked,
    distinct_rows,
    fit_codebook,
    nearest,
    not_empty,
    one_thread,
    quantized,
    sample_rows,
)
from genrec.tokenization.quantizer import Quantized, read_settings, write_settings
from genrec.tokenization.rotation import learn_rotation, rotate, rotate_alike, rotate_back

METHOD = "product"


class ProductQuantizer:
    """Rotate the vectors, cut them into one piece a level, and cluster each kind of piece alone.

    The codes are parallel: level l says which centroid is nearest to piece l and knows nothing of
    the other levels, so no level is coarser than another and all can be predicted at once, as in
    RPG (Hou et al. 2025). Product quantization is from Jegou, Douze, Schmid, "Product quantization
    for nearest neighbor search", 2011; the rotation that makes pieces alike and independent is
    OPQ (Ge et al., "Optimized product quantization", 2014): its parametric solution (section 3.3),
    refined by its non-parametric one (section 3.2), which faiss computes.

    Where the levels do not divide the width, pieces are filled up with zeros. Tables of vectors
    may be memory-mapped and of type float16 or float32; they are read in blocks of rows. All is
    learned from at most 256 vectors a code, drawn by seed. faiss runs on one thread, so the same
    seed and vectors give the same codes whatever the number of threads.

    A level with no more distinct pieces than codes has these pieces as its centroids; the codes
    above stand for no vector.

    Attributes:
        codebooks: One table of centroids a level, float32[m_l, w / levels] with
            m_l <= codes_per_level and w the width d, filled up.
        rotation: float32[w, w], orthonormal; row j is what becomes dimension j. None without.
        mean: float32[w], mean of the rotated vectors learned from.
    """

    def __init__(
        self,
        levels: int,
        codes_per_level: int,
        *,
        rotate: bool = True,
        iterations: int = 50,
        restarts: int = 1,
        seed: int = 42,
        quiet: bool = True,
    ) -> None:
        """Set the shape of the codes and how long to look for them.

        Args:
            levels: Codes of an item: the number of pieces.
            codes_per_level: Size of each codebook.
            rotate: Whether to learn a rotation; otherwise neighbouring dimensions make a piece.
            iterations: k-means iterations a level.
            restarts: k-means runs a level, of which the best is kept.
            seed: Seed of the sample and the starting centroids.
            quiet: No progress bar.
        """
        self.levels = levels
        self.codes_per_level = codes_per_level
        self.rotate = rotate
        self.iterations = iterations
        self.restarts = restarts
        self.seed = seed
        self.quiet = quiet
        self.codebooks: list[Floats] = []
        self.rotation: Floats | None = None
        self.mean: Floats = np.zeros(0, dtype=np.float32)
        self._dimensions = 0

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return (self.codes_per_level,) * self.levels

    def fit(self, x: NDArray[Any]) -> Self:
        """Learn rotation and centroids from vectors float32[n, d] or float16[n, d].

        Raises:
            DataError: When x is empty, not a table or not finite.
        """
        x = not_empty(x)
        sample = as_float32(x[sample_rows(len(x), self.codes_per_level, self.seed)])
        self.codebooks, self.rotation, self._dimensions = [], None, x.shape[1]
        with Progress(console=Console(stderr=True), disable=self.quiet) as progress, one_thread():
            task = progress.add_task("product levels", total=self.levels + 1)
            rotated = self._learn_rotation(sample)
            progress.advance(task)
            for level in range(self.levels):
                codebook = fit_codebook(
                    as_float32(rotated[:, self._piece(level)]),
                    self.codes_per_level,
                    iterations=self.iterations,
                    restarts=self.restarts,
                    seed=self.seed + level,
                )
                self.codebooks.append(codebook)
                progress.advance(task)
        return self

    def _learn_rotation(self, x: Floats) -> Floats:
        """Learn the rotation, if any, and the mean; return the vectors rotated, float32[n, w]."""
        padded = self._padded(x)
        # With so few vectors every piece is reproduced exactly, rotated or not.
        few = len(distinct_rows(padded)[0]) <= self.codes_per_level
        if self.rotate and self.levels > 1 and not few:
            self.rotation = learn_rotation(padded, self.levels, self.codes_per_level)
        rotated = self._rotated(padded)
        self.mean = rotated.mean(axis=0, dtype=np.float64).astype(np.float32)
        return rotated

    def _places(self) -> Ints:
        """Return the padded dimension that each of the d dimensions becomes, int64[d].

        Zeros go to the ends of pieces, so that pieces differ by one dimension at most.
        """
        sizes = [len(part) for part in np.array_split(np.arange(self._dimensions), self.levels)]
        step = max(sizes)
        return np.concatenate([level * step + np.arange(size) for level, size in enumerate(sizes)])

    def _padded(self, x: Floats) -> Floats:
        """Fill up float32[n, d] with zeros to a width w that the levels divide, float32[n, w]."""
        width = -(-self._dimensions // self.levels) * self.levels
        if width == self._dimensions:
            return x
        padded = np.zeros((len(x), width), dtype=np.float32)
        padded[:, self._places()] = x
        return padded

    def _rotated(self, padded: Floats) -> Floats:
        return padded if self.rotation is None else rotate(padded, self.rotation)

    def _piece(self, level: int) -> slice:
        """Return which of the rotated dimensions a level looks at."""
        step = len(self.mean) // self.levels
        return slice(level * step, (level + 1) * step)

    def encode(self, x: NDArray[Any]) -> Quantized:
        """Give each vector its codes: the nearest centroid to each piece.

        Args:
            x: float32[n, d] or float16[n, d], seen by ``fit`` or not.

        Raises:
            DataError: When x has another width than what was learned from, or is not finite.
        """
        codes = self.codes_of(x)
        return quantized(x, codes, self.decode(codes))

    def codes_of(self, x: NDArray[Any]) -> NDArray[np.int32]:
        """Return the codes that ``encode`` gives, int32[n, L], reading x in blocks.

        Raises:
            DataError: As ``encode``.
        """
        x = checked(x, self._width())
        codes = np.zeros((len(x), self.levels), dtype=np.int32)
        for rows in track(
            blocks(len(x)), "product codes", console=Console(stderr=True), disable=self.quiet
        ):
            with one_thread():
                rotated = self._rotated(self._padded(as_float32(x[rows])))
                for level, codebook in enumerate(self.codebooks):
                    piece = as_float32(rotated[:, self._piece(level)])
                    codes[rows, level] = nearest(piece, codebook)[0]
        return codes

    def decode(self, codes: NDArray[np.int32], levels: int | None = None) -> Floats:
        """Return the vectors with the centroids of codes int32[n, L] as pieces, float32[n, d].

        Args:
            codes: Codes that ``encode`` gave.
            levels: Take only so many levels; the other pieces are those of the mean.
        """
        vectors = np.zeros((len(codes), self._width()), dtype=np.float32)
        places = self._places()
        for rows in blocks(len(codes)):
            rotated = np.tile(self.mean, (rows.stop - rows.start, 1))
            for level, codebook in enumerate(self.codebooks[:levels]):
                rotated[:, self._piece(level)] = codebook[codes[rows, level]]
            if self.rotation is not None:
                with one_thread():
                    rotated = rotate_back(rotated, self.rotation)
            vectors[rows] = rotated[:, places]
        return vectors

    def distances(self, x: NDArray[Any], prefix: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return how far the first pieces of each vector are from prefix and code.

        See ``Quantizer.distances``; the pieces after the code count for nothing, so the distance
        never falls from level to level. A code that stands for no vector is infinitely far.
        """
        x = checked(x, self._width())
        level = prefix.shape[1]
        pieces, row = self._first_pieces(as_float32(x), level + 1)
        given = np.zeros(len(x))
        for before, codebook in enumerate(self.codebooks[:level]):
            rest = pieces[row, self._piece(before)] - codebook[prefix[:, before]]
            given += np.square(rest, dtype=np.float64).sum(axis=1)
        codebook = self.codebooks[level]
        distances = np.full((len(x), self.codes_per_level), np.inf)
        # cdist works pair by pair; a matrix product could round equal rows differently.
        table = cdist(pieces[:, self._piece(level)], codebook, "sqeuclidean")
        distances[:, : len(codebook)] = table[row] + given[:, None]
        return distances

    def _first_pieces(self, x: Floats, levels: int) -> tuple[Floats, Ints]:
        """Rotate vectors so that equal ones stay equal to the bit; only the first pieces.

        Returns:
            The pieces of each distinct vector, float32[m, levels * w / L], and which of these each
            row has, int64[n].
        """
        first, row = distinct_rows(x)
        padded = self._padded(x[first])
        width = self._piece(levels - 1).stop
        if self.rotation is None:
            return padded[:, :width], row
        return rotate_alike(padded, self.rotation[:width]), row

    def _width(self) -> int:
        if not self.codebooks:
            raise DataError("the quantizer has no centroids yet; call fit or load first.")
        return self._dimensions

    def save(self, folder: Path) -> None:
        """Write ``quantizer.safetensors`` and ``quantizer.json`` into the folder."""
        tables = {f"level_{level}": codebook for level, codebook in enumerate(self.codebooks)}
        tables["mean"] = self.mean
        if self.rotation is not None:
            tables["rotation"] = self.rotation
        save_file(tables, folder / "quantizer.safetensors")
        settings = {
            "levels": self.levels,
            "codes_per_level": self.codes_per_level,
            "rotate": self.rotate,
            "iterations": self.iterations,
            "restarts": self.restarts,
            "seed": self.seed,
            "dimensions": self._dimensions,
        }
        write_settings(folder, METHOD, settings)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the folder holds another kind of quantizer.
        """
        settings = read_settings(folder, METHOD)
        dimensions = settings.pop("dimensions")
        quantizer = cls(**settings)
        tables = load_file(folder / "quantizer.safetensors")
        quantizer.codebooks = [tables[f"level_{level}"] for level in range(quantizer.levels)]
        quantizer.mean, quantizer.rotation = tables["mean"], tables.get("rotation")
        quantizer._dimensions = dimensions
        return quantizer
