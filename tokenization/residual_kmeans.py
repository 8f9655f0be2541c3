"""Residual k-means: a short code for each vector, from coarse to fine."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import cdist

from genrec.errors import DataError
from genrec.tokenization.balanced import bounded_codes, capacity, fit_bounded_codebook
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
from genrec.tokenization.residual_levels import ResidualLevels

METHOD = "residual_kmeans"


class ResidualKMeans:
    """Cluster the vectors, subtract the centroids, cluster what is left, and so on.

    With r_0 = x, level l finds centroids c of all r_l by k-means and sets
    ``code_l = argmin_k |r_l - c_lk|^2`` and ``r_(l+1) = r_l - c_l,code``; the codes stand for
    the sum of their centroids. This is residual quantization (Chen, Guan, Wang, "Approximate
    nearest neighbor search by residual vector quantization", 2010) with k-means as the
    codebook of each level, as used for semantic IDs under the name RQ-KMeans.

    Tables of vectors may be memory-mapped and of type float16 or float32; they are read in blocks
    of rows and never held whole. The centroids are learned from at most 256 vectors a code, drawn
    by seed, the same at all levels. faiss runs on one thread, so the same seed and vectors give
    the same codes whatever the number of threads.

    When a level has no more distinct vectors left than codes, its centroids are those vectors
    themselves; the codes above stand for no vector, are never given by ``encode`` and are free
    for the resolution of collisions.

    **balanced**: no code of a level is given to more than ``ceil(n / codes_per_level)`` of the n
    items that ``fit_encode`` names (see ``balanced``); a level then has as many centroids as
    codes, or as items where these are fewer. When all items are learned from, which is up to 256
    a code, the same items in another order get the same codes, except that items with equal
    vectors may change places with each other. ``encode`` knows no bounds: there each vector gets
    its nearest centroids, so for the items that were learned from it may differ.

    **normalise_residuals**: what is left after a level is scaled to length 1 before the next one,
    so that later levels cluster directions and far-out items no longer rule them (the option of
    that name in GRID and TorchEasyRec). With ``r_(l+1) = (r_l - c_l) / s_(l+1)`` and
    ``s_(l+1) = |r_l - c_l|`` a vector is ``c_0 + s_1 (c_1 + s_2 (c_2 + ...))``. Codes do not tell
    the lengths s of an item, so ``decode`` takes for each code the mean length of what was left
    after it: the best guess where length and direction have nothing to do with each other.
    ``distances`` knows the vector and takes its own lengths, so the nearest code is always the one
    that ``encode`` gives.
    """

    def __init__(
        self,
        levels: int,
        codes_per_level: int,
        *,
        iterations: int = 50,
        restarts: int = 1,
        balanced: bool = False,
        normalise_residuals: bool = False,
        seed: int = 42,
        quiet: bool = True,
    ) -> None:
        """Set the shape of the codes and how long to look for them.

        Args:
            levels: Codes of an item.
            codes_per_level: Size of each codebook.
            iterations: k-means iterations a level.
            restarts: k-means runs a level, of which the best is kept.
            balanced: Whether a code has at most its equal share of the items.
            normalise_residuals: Whether what is left after a level is scaled to length 1.
            seed: Seed of the sample and the starting centroids.
            quiet: No progress bar.
        """
        self.levels = levels
        self.codes_per_level = codes_per_level
        self.iterations = iterations
        self.restarts = restarts
        self.balanced = balanced
        self.normalise_residuals = normalise_residuals
        self.seed = seed
        self.quiet = quiet
        self._chain = ResidualLevels(normalise_residuals)

    @property
    def codebooks(self) -> list[Floats]:
        """One table of centroids a level, float32[m_l, d] with m_l <= codes_per_level."""
        return self._chain.codebooks

    @property
    def mean_lengths(self) -> list[Floats]:
        """Mean length of what is left after each code, float32[m_l] for each level but the last.

        Empty without ``normalise_residuals``.
        """
        return self._chain.lengths

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return (self.codes_per_level,) * self.levels

    def fit(self, x: NDArray[Any]) -> Self:
        """Learn the centroids of every level from vectors float32[n, d] or float16[n, d].

        Raises:
            DataError: When x is empty, not a table or not finite.
        """
        self._learn(not_empty(x))
        return self

    def fit_encode(self, x: NDArray[Any]) -> NDArray[np.int32]:
        """Learn the centroids and return the codes of the items learned from, int32[n, L].

        The same as ``fit(x).codes_of(x)``, unless ``balanced``: then these are the codes of
        bounded size.

        Raises:
            DataError: As ``fit``.
        """
        codes = self._learn(not_empty(x))
        return self.codes_of(x) if codes is None else codes

    def _learn(self, x: NDArray[Any]) -> NDArray[np.int32] | None:
        """Learn the centroids; return the codes of all items when they are balanced."""
        rows = sample_rows(len(x), self.codes_per_level, self.seed)
        sample = as_float32(x[rows])
        self._chain = ResidualLevels(self.normalise_residuals)
        if not self.balanced:
            self._learn_levels(sample, rows, None)
            return None
        codes = np.zeros((len(x), self.levels), dtype=np.int32)
        if len(rows) < len(x):
            self._learn_levels(sample, rows, (x, codes))
        else:
            order = np.argsort(distinct_rows(sample)[1], kind="stable")
            ordered = codes.copy()
            self._learn_levels(sample[order], rows, (sample[order], ordered))
            codes[order] = ordered
        return codes

    def _learn_levels(
        self, residual: Floats, rows: Ints, items: tuple[NDArray[Any], NDArray[np.int32]] | None
    ) -> None:
        """Learn level after level.

        Args:
            residual: float32[r, d], the sample; changed in place.
            rows: int64[r], its rows in the whole table.
            items: When balanced, the whole table and int32[n, L] to write its codes into.
        """
        for level in track(
            range(self.levels),
            "k-means levels",
            console=Console(stderr=True),
            disable=self.quiet,
        ):
            with one_thread():
                codebook = self._fit_level(residual, self.seed + level)
                self.codebooks.append(codebook)
                if items is None:
                    code = nearest(residual, codebook)[0]
                else:
                    table, codes = items
                    codes[:, level] = self._bounded(table, codes[:, :level])
                    code = codes[rows, level].astype(np.int64)
            length = self._chain.subtract(residual, level, code)
            if self.normalise_residuals and level + 1 < self.levels:
                self._chain.note_lengths(code, length)

    def _fit_level(self, x: Floats, seed: int) -> Floats:
        fit = fit_bounded_codebook if self.balanced else fit_codebook
        settings = {"iterations": self.iterations, "restarts": self.restarts, "seed": seed}
        return fit(x, self.codes_per_level, **settings)

    def _bounded(self, x: NDArray[Any], prefix: NDArray[np.int32]) -> Ints:
        """Return codes of bounded size for the level after the prefix of every item, int64[n]."""

        def left_over(rows: Ints) -> Floats:
            return self._chain.left_over(x[rows], prefix[rows])[0]

        most = capacity(len(x), self.codes_per_level)
        codebook = self.codebooks[prefix.shape[1]]
        return bounded_codes(left_over, len(x), codebook, most)[0]

    def encode(self, x: NDArray[Any]) -> Quantized:
        """Give each vector its codes, level by level the nearest centroid.

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
            blocks(len(x)), "k-means codes", console=Console(stderr=True), disable=self.quiet
        ):
            residual = np.array(x[rows], dtype=np.float32, order="C")
            with one_thread():
                for level, codebook in enumerate(self.codebooks):
                    code = nearest(residual, codebook)[0]
                    codes[rows, level] = code
                    self._chain.subtract(residual, level, code)
        return codes

    def decode(self, codes: NDArray[np.int32], levels: int | None = None) -> Floats:
        """Return the (scaled) sum of the centroids of codes int32[n, L], float32[n, d].

        Args:
            codes: Codes that ``encode`` or ``fit_encode`` gave.
            levels: Add up only so many levels; None adds all.
        """
        self._width()
        return self._chain.add_up(codes, levels)

    def distances(self, x: NDArray[Any], prefix: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return how far each vector is from every code that may follow its prefix.

        See ``Quantizer.distances``; a code that stands for no vector is infinitely far. With
        ``normalise_residuals`` prefix and code stand for what they do with the vector's own
        lengths.
        """
        x = checked(x, self._width())
        codebook = self.codebooks[prefix.shape[1]]
        distances = np.full((len(x), self.codes_per_level), np.inf)
        for rows in blocks(len(x)):
            residual, scale = self._chain.left_over(x[rows], prefix[rows])
            # cdist works pair by pair; a matrix product could round equal rows differently.
            distance = cdist(residual, codebook, "sqeuclidean")
            distances[rows, : len(codebook)] = distance * np.square(scale)[:, None]
        return distances

    def _width(self) -> int:
        if not self.codebooks:
            raise DataError("the quantizer has no centroids yet; call fit or load first.")
        return int(self.codebooks[0].shape[1])

    def save(self, folder: Path) -> None:
        """Write ``quantizer.safetensors`` and ``quantizer.json`` into the folder."""
        tables = {f"level_{level}": codebook for level, codebook in enumerate(self.codebooks)}
        tables |= {f"lengths_{level}": lengths for level, lengths in enumerate(self.mean_lengths)}
        save_file(tables, folder / "quantizer.safetensors")
        settings = {
            "levels": self.levels,
            "codes_per_level": self.codes_per_level,
            "iterations": self.iterations,
            "restarts": self.restarts,
            "balanced": self.balanced,
            "normalise_residuals": self.normalise_residuals,
            "seed": self.seed,
        }
        write_settings(folder, METHOD, settings)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the folder holds another kind of quantizer.
        """
        quantizer = cls(**read_settings(folder, METHOD))
        tables = load_file(folder / "quantizer.safetensors")
        levels = range(quantizer.levels)
        quantizer._chain.codebooks = [tables[f"level_{level}"] for level in levels]
        if quantizer.normalise_residuals:
            quantizer._chain.lengths = [tables[f"lengths_{level}"] for level in levels[:-1]]
        return quantizer
