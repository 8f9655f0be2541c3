"""Residual k-means: a short code for each vector, from coarse to fine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import cdist

from genrec.errors import ArtifactError, DataError
from genrec.tokenization.quantizer import Quantized


class ResidualKMeans:
    """Cluster the vectors, subtract the centroids, cluster what is left, and so on.

    With r_0 = x, level l finds centroids c of all r_l by k-means and sets
    ``code_l = argmin_k |r_l - c_lk|^2`` and ``r_(l+1) = r_l - c_l,code``; the codes stand for
    the sum of their centroids. This is residual quantization (Chen, Guan, Wang, "Approximate
    nearest neighbor search by residual vector quantization", 2010) with k-means as the
    codebook of each level, as used for semantic IDs under the name RQ-KMeans.

    faiss runs on one thread while it fits and encodes, so the same seed and vectors give the
    same codes whatever the number of threads. It learns from at most 256 vectors a code, drawn
    by seed.

    When a level has no more distinct vectors left than codes, its centroids are those vectors
    themselves; the codes above stand for no vector, are never given by ``encode`` and are free
    for the resolution of collisions.

    Attributes:
        codebooks: One table of centroids a level, float32[m_l, d] with m_l <= codes_per_level.
    """

    def __init__(
        self,
        levels: int,
        codes_per_level: int,
        *,
        iterations: int = 50,
        restarts: int = 1,
        seed: int = 42,
        quiet: bool = True,
    ) -> None:
        """Set the shape of the codes and how long to look for them.

        Args:
            levels: Codes of an item.
            codes_per_level: Size of each codebook.
            iterations: k-means iterations a level.
            restarts: k-means runs a level, of which the best is kept.
            seed: Seed of the starting centroids.
            quiet: No progress bar.
        """
        self.levels = levels
        self.codes_per_level = codes_per_level
        self.iterations = iterations
        self.restarts = restarts
        self.seed = seed
        self.quiet = quiet
        self.codebooks: list[NDArray[np.float32]] = []

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return (self.codes_per_level,) * self.levels

    def fit(self, x: NDArray[np.float32]) -> Self:
        """Learn the centroids of every level from vectors float32[n, d].

        Raises:
            DataError: When x is empty, not a table or not finite.
        """
        residual = _checked(x, None).copy()
        if not len(residual):
            raise DataError("there are no vectors to learn codes from; the table has no rows.")
        self.codebooks = []
        with _one_thread():
            for level in track(
                range(self.levels),
                "k-means levels",
                console=Console(stderr=True),
                disable=self.quiet,
            ):
                codebook = self._centroids(residual, self.seed + level)
                self.codebooks.append(codebook)
                residual -= codebook[_nearest(residual, codebook)]
        return self

    def _centroids(self, x: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        distinct = np.unique(x, axis=0)
        if len(distinct) <= self.codes_per_level:
            return distinct
        kmeans = faiss.Kmeans(
            x.shape[1],
            self.codes_per_level,
            niter=self.iterations,
            nredo=self.restarts,
            seed=seed,
            min_points_per_centroid=1,
        )
        kmeans.train(x)
        return np.ascontiguousarray(kmeans.centroids, dtype=np.float32)

    def encode(self, x: NDArray[np.float32]) -> Quantized:
        """Give each vector its codes, level by level the nearest centroid.

        Args:
            x: float32[n, d], seen by ``fit`` or not.

        Raises:
            DataError: When x has another width than what was learned from, or is not finite.
        """
        x = _checked(x, self._width())
        residual = x.copy()
        codes = np.zeros((len(x), self.levels), dtype=np.int32)
        with _one_thread():
            for level, codebook in enumerate(self.codebooks):
                codes[:, level] = _nearest(residual, codebook)
                residual -= codebook[codes[:, level]]
        loss = float((residual.astype(np.float64) ** 2).sum() / max(len(x), 1))
        return Quantized(codes, x - residual, loss)

    def decode(self, codes: NDArray[np.int32], levels: int | None = None) -> NDArray[np.float32]:
        """Return the sum of the centroids of codes int32[n, L], float32[n, d].

        Args:
            codes: Codes that ``encode`` gave.
            levels: Add up only so many levels; None adds all.
        """
        vectors = np.zeros((len(codes), self._width()), dtype=np.float32)
        for level, codebook in enumerate(self.codebooks[:levels]):
            vectors += codebook[codes[:, level]]
        return vectors

    def last_distances(
        self, x: NDArray[np.float32], codes: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Return how far each vector is from every code of the last level under its prefix.

        Args:
            x: float32[n, d].
            codes: int32[n, L]; the last column is not read.

        Returns:
            float64[n, codes_per_level], squared; infinite for codes that stand for no vector.
            Equal vectors with equal codes get equal rows, to the bit.
        """
        x = _checked(x, self._width())
        residual = x - self.decode(codes, self.levels - 1)
        distances = np.full((len(x), self.codes_per_level), np.inf)
        codebook = self.codebooks[-1]
        # cdist works pair by pair; a matrix product could round equal rows differently.
        distances[:, : len(codebook)] = cdist(residual, codebook, "sqeuclidean")
        return distances

    def _width(self) -> int:
        if not self.codebooks:
            raise DataError("the quantizer has no centroids yet; call fit or load first.")
        return int(self.codebooks[0].shape[1])

    def save(self, folder: Path) -> None:
        """Write ``quantizer.safetensors`` and ``quantizer.json`` into the folder."""
        save_file(
            {f"level_{level}": codebook for level, codebook in enumerate(self.codebooks)},
            folder / "quantizer.safetensors",
        )
        settings = {
            "method": "residual_kmeans",
            "levels": self.levels,
            "codes_per_level": self.codes_per_level,
            "iterations": self.iterations,
            "restarts": self.restarts,
            "seed": self.seed,
        }
        (folder / "quantizer.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the folder holds another kind of quantizer.
        """
        settings = json.loads((folder / "quantizer.json").read_text(encoding="utf-8"))
        method = settings.pop("method", None)
        if method != "residual_kmeans":
            raise ArtifactError(
                f"{folder} holds a quantizer of method {method!r}, expected 'residual_kmeans'; "
                "run the index stage again."
            )
        quantizer = cls(**settings)
        codebooks = load_file(folder / "quantizer.safetensors")
        quantizer.codebooks = [codebooks[f"level_{level}"] for level in range(quantizer.levels)]
        return quantizer


def _checked(x: NDArray[np.float32], width: int | None) -> NDArray[np.float32]:
    """Return x as contiguous float32[n, d]; refuse another shape or values that are not finite."""
    if x.ndim != 2 or (width is not None and x.shape[1] != width):
        expected = "[items, dimensions]" if width is None else f"[items, {width}]"
        raise DataError(f"vectors have shape {x.shape}, expected {expected}.")
    if not np.isfinite(x).all():
        raise DataError("vectors hold NaN or infinite values; make the vectors again.")
    return np.ascontiguousarray(x, dtype=np.float32)


def _nearest(x: NDArray[np.float32], codebook: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row of the nearest centroid for each vector, int64[n]."""
    index = faiss.IndexFlatL2(codebook.shape[1])
    index.add(codebook)
    nearest: NDArray[np.int64] = index.search(x, 1)[1][:, 0]
    return nearest


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run faiss on one thread: sums split over threads would round differently."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
