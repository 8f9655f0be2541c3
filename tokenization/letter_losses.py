"""LETTER's two additions to an RQ-VAE: codes that agree with behaviour, codes that spread out."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from genrec.errors import DataError
from genrec.tokenization.balanced import bounded_codes, capacity, fit_bounded_codebook
from genrec.tokenization.kmeans import Floats, Ints, one_thread

_ITERATIONS = 10


@dataclass(frozen=True)
class Letter:
    """Weights of the two losses, and what they need; a weight of 0 leaves a loss out.

    Attributes:
        collaborative_weight: Weight of ``CollaborativeLoss`` (alpha).
        diversity_weight: Weight of ``diversity_loss`` (beta).
        diversity_clusters: Clusters that each codebook is split into.
        collaborative: float32[n, c], item vectors of a collaborative model; zero for an item that
            has none.
    """

    collaborative_weight: float = 0.0
    diversity_weight: float = 0.0
    diversity_clusters: int = 10
    collaborative: Floats | None = None

    def check(self, items: int) -> None:
        """Raise ``DataError`` when the collaborative vectors are needed and cannot be used."""
        if self.collaborative_weight == 0:
            return
        table = self.collaborative
        if table is None:
            raise DataError(
                f"collaborative_weight is {self.collaborative_weight}, but no collaborative "
                "vectors were given; give them, or set the weight to 0."
            )
        if table.ndim != 2 or len(table) != items:
            raise DataError(
                f"collaborative vectors have shape {table.shape}, expected [{items}, dimensions]."
            )
        if not np.isfinite(table).all():
            raise DataError("collaborative vectors hold NaN or infinite values; make them again.")


class CollaborativeLoss(nn.Module):
    """Pulls the quantized latent of an item towards its collaborative vector (LETTER, eq. 3).

    In-batch cross-entropy of the dot products between quantized latents and collaborative
    vectors: each latent must find its own item's vector; items whose vector is zero take no part
    (Wang et al., "Learnable Item
    Tokenization for Generative Recommendation", CIKM 2024). The vectors are frozen and scaled so
    that their elements have a mean square of 1; where they are wider or narrower than the
    latents, a linear map is learned in between.

    Args:
        collaborative: float32[n, c].
        dimensions: Width of the latents.
    """

    def __init__(self, collaborative: Floats, dimensions: int) -> None:
        super().__init__()
        known = collaborative.any(axis=1)
        scale = np.sqrt((collaborative[known].astype(np.float64) ** 2).mean()) if known.any() else 1
        table = torch.from_numpy((collaborative / scale).astype(np.float32))
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)
        self.known: Tensor
        self.register_buffer("known", torch.from_numpy(known), persistent=False)
        same = table.shape[1] == dimensions
        self.map = nn.Identity() if same else nn.Linear(dimensions, table.shape[1], bias=False)

    def forward(self, rows: Tensor, quantized: Tensor) -> Tensor:
        """Return the loss of a batch; 0 when none of its items has a vector.

        Args:
            rows: int64[B], the items.
            quantized: float[B, d], their quantized latents.
        """
        known = self.known[rows]
        if not known.any():
            return quantized.new_zeros(())
        rows, quantized = rows[known], quantized[known]
        scores = self.map(quantized) @ self.table[rows].T
        return functional.cross_entropy(scores, torch.arange(len(rows)))


class CodeClusters:
    """The codes of one codebook in clusters of about equal size, to draw neighbours from.

    Args:
        codebook: float32[K, d].
        clusters: Number of clusters; at most half the number of codes are made.
        seed: Seed of the clustering.
    """

    def __init__(self, codebook: Floats, clusters: int, seed: int) -> None:
        self.cluster = balanced_clusters(codebook, min(clusters, len(codebook) // 2), seed)
        self._order = np.argsort(self.cluster, kind="stable")
        self._place = np.argsort(self._order)
        sizes = np.bincount(self.cluster)
        self._size = sizes[self.cluster]
        self._start = (np.cumsum(sizes) - sizes)[self.cluster]

    def neighbours(self, codes: Ints, generator: np.random.Generator) -> Ints:
        """Draw another code of the same cluster for each code, int64[B]; -1 where there is none."""
        others = self._size[codes] - 1
        step = 1 + np.floor(generator.random(len(codes)) * others).astype(np.int64)
        place = (self._place[codes] - self._start[codes] + step) % self._size[codes]
        return np.where(others > 0, self._order[self._start[codes] + place], -1)


def balanced_clusters(codebook: Floats, clusters: int, seed: int) -> Ints:
    """Split vectors float32[K, d] into clusters of at most ``ceil(K / clusters)``, int64[K].

    LETTER takes constrained k-means; this is that of ``balanced``.
    """
    clusters = max(clusters, 1)
    with one_thread():
        centroids = fit_bounded_codebook(
            codebook, clusters, iterations=_ITERATIONS, restarts=1, seed=seed
        )
        most = capacity(len(codebook), clusters)
        return bounded_codes(lambda rows: codebook[rows], len(codebook), centroids, most)[0]


def diversity_loss(codebook: Tensor, codes: Tensor, neighbours: Tensor) -> Tensor:
    """Draw codes towards their cluster and away from the others (LETTER, eq. 4).

    Cross-entropy of the dot products of an assigned code with all others of its codebook; the
    right answer is another code of its cluster, drawn at random. The codes of a codebook, and
    with them the items, are spread more evenly so.

    Args:
        codebook: float[K, d].
        codes: int64[B], the assigned codes.
        neighbours: int64[B], the right answers; -1 leaves an item out.
    """
    known = neighbours >= 0
    if not known.any():
        return codebook.new_zeros(())
    scores = codebook[codes[known]] @ codebook.T
    scores = scores.scatter(1, codes[known, None], -torch.inf)
    return functional.cross_entropy(scores, neighbours[known])


class LetterLosses(nn.Module):
    """Both losses, weighted; the clusters are made again before every epoch.

    Args:
        letter: Weights and collaborative vectors.
        dimensions: Width of the latents.
    """

    def __init__(self, letter: Letter, dimensions: int) -> None:
        super().__init__()
        self.letter = letter
        self.clusters: list[CodeClusters] = []
        self.collaborative = (
            CollaborativeLoss(letter.collaborative, dimensions)
            if letter.collaborative_weight > 0 and letter.collaborative is not None
            else None
        )

    def start_epoch(self, codebooks: Iterable[Tensor], seed: int) -> None:
        """Cluster the codes of each level as they are now."""
        if self.letter.diversity_weight > 0:
            self.clusters = [
                CodeClusters(codebook.detach().numpy(), self.letter.diversity_clusters, seed)
                for codebook in codebooks
            ]

    def forward(
        self,
        rows: Tensor,
        codes: Tensor,
        quantized: Tensor,
        codebooks: Iterable[Tensor],
        generator: np.random.Generator,
    ) -> Tensor:
        """Return the weighted sum for a batch; diversity is averaged over the levels.

        Args:
            rows: int64[B], the items.
            codes: int64[B, L], their codes.
            quantized: float[B, d], their quantized latents.
            codebooks: float[K, d] of each level.
            generator: Draws the neighbours.
        """
        loss = quantized.new_zeros(())
        if self.collaborative is not None:
            aligned = self.collaborative(rows, quantized)
            loss = loss + self.letter.collaborative_weight * aligned
        for level, (clusters, codebook) in enumerate(zip(self.clusters, codebooks, strict=False)):
            neighbours = clusters.neighbours(codes[:, level].numpy(), generator)
            spread = diversity_loss(codebook, codes[:, level], torch.from_numpy(neighbours))
            loss = loss + self.letter.diversity_weight / len(self.clusters) * spread
        return loss
