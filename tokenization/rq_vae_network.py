"""The network of an RQ-VAE: encoder, residual codebooks, decoder, and what it is fed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genrec.tokenization.kmeans import blocks
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.sinkhorn import uniform_codes


@dataclass(frozen=True)
class Scaling:
    """How vectors are centred and scaled for the network: one factor, so proportions stay.

    Attributes:
        centre: float64[d], the mean vector.
        factor: Root of the mean squared element after centring; 1 where all vectors are equal.
    """

    centre: NDArray[np.float64]
    factor: float

    @classmethod
    def of(cls, x: NDArray[Any]) -> "Scaling":
        """Measure vectors [n, d], block by block."""
        total = sum(x[rows].sum(axis=0, dtype=np.float64) for rows in blocks(len(x)))
        centre = np.asarray(total / len(x))
        squares = sum(float(np.square(x[rows] - centre).sum()) for rows in blocks(len(x)))
        # Below this it is rounding that is left of equal vectors.
        least = np.finfo(np.float32).eps * np.abs(centre).max()
        factor = float(np.sqrt(squares / x.size))
        return cls(centre, factor if factor > least else 1.0)

    def scaled(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return vectors as the network takes them, float64[n, d]."""
        scaled: NDArray[np.float64] = (x - self.centre) / self.factor
        return scaled

    def restored(self, scaled: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return what the network gives as vectors, float32[n, d]."""
        return (scaled * self.factor + self.centre).astype(np.float32)


@dataclass(frozen=True)
class Quantization:
    """What the codebooks make of a batch in training.

    Attributes:
        codes: int64[B, L].
        quantized: float[B, d], sum of the code vectors; gradients pass to the latents unchanged.
        loss: Codebook and commitment loss.
    """

    codes: Tensor
    quantized: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Assignment:
    """The nearest code of each item at each level.

    Attributes:
        codes: int64[n, L].
        residuals: float[n, L, d], what the levels before left.
        errors: float[n, L], squared length of what the level leaves.
        quantized: float[n, d], sum of the code vectors.
    """

    codes: Tensor
    residuals: Tensor
    errors: Tensor
    quantized: Tensor

    @classmethod
    def join(cls, parts: Sequence["Assignment"]) -> "Assignment":
        """Return the parts as one, in order."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


class RqVaeNetwork(nn.Module):
    """An autoencoder whose latents are written as a sum of code vectors, one a level.

    Equations 1-4 of LC-Rec (Zheng et al., ICDE 2024), after RQ-VAE (Lee et al., CVPR 2022): with
    ``r_0 = encoder(x)``, level l gives ``c_l = argmin_k |r_l - v_lk|^2`` and
    ``r_(l+1) = r_l - v_l,c_l``; the decoder sees ``sum_l v_l,c_l``, and gradients reach the encoder
    as if it saw ``r_0`` (straight-through). With uniform mapping the last level gives its codes
    out evenly over the batch (``sinkhorn.uniform_codes``).

    Args:
        width: Dimensions of the vectors.
        hidden: Widths of the encoder's layers, ReLU after each; the decoder mirrors them.
        dimensions: Width of the latents and the codebooks.
        level_sizes: Number of codes of each level.
        commitment: Weight of the commitment loss.
        epsilon: Softness of uniform mapping at the last level; None is nearest code there too.
        iterations: Rounds of Sinkhorn-Knopp.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        dimensions: int,
        level_sizes: Sequence[int],
        *,
        commitment: float = 0.25,
        epsilon: float | None = None,
        iterations: int = 50,
    ) -> None:
        super().__init__()
        widths = [width, *hidden, dimensions]
        self.encoder = _perceptron(widths)
        self.decoder = _perceptron(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(size, dimensions)) for size in level_sizes
        )
        self.dimensions = dimensions
        self.commitment = commitment
        self.epsilon = epsilon
        self.iterations = iterations

    def start_codebooks(self, latents: NDArray[np.float32], seed: int) -> None:
        """Place the codes of each level by k-means on what the levels before leave.

        Args:
            latents: float32[n, d] of all items.
            seed: Seed of k-means.
        """
        size = max(len(codebook) for codebook in self.codebooks)
        start = ResidualKMeans(len(self.codebooks), size, iterations=25, seed=seed).fit(latents)
        with torch.no_grad():
            for codebook, centroids in zip(self.codebooks, start.codebooks, strict=True):
                # Codes beyond the distinct residuals stay at zero until they are revived.
                codebook.zero_()
                codebook[: len(centroids)] = torch.from_numpy(centroids)

    def quantize(self, latents: Tensor) -> Quantization:
        """Give codes to latents float[B, d] as training does, with the loss of eq. 4.

        Each level's loss is the mean over elements of ``(v - stop(r))^2`` plus ``commitment``
        times that of ``(r - stop(v))^2``; levels are averaged.
        """
        residual, quantized = latents, torch.zeros_like(latents)
        codes, loss = [], latents.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            uniform = self.epsilon is not None and level == len(self.codebooks) - 1
            code = self._codes(residual.detach(), codebook.detach(), uniform)
            chosen = functional.embedding(code, codebook)
            loss = loss + functional.mse_loss(chosen, residual.detach())
            loss = loss + self.commitment * functional.mse_loss(residual, chosen.detach())
            residual = residual - chosen.detach()
            quantized = quantized + chosen
            codes.append(code)
        through = latents + (quantized - latents).detach()
        return Quantization(torch.stack(codes, dim=1), through, loss / len(self.codebooks))

    def assign(self, latents: Tensor) -> Assignment:
        """Give latents float[n, d] the nearest code at every level."""
        residual, codes, residuals, errors = latents, [], [], []
        for codebook in self.codebooks:
            code = self._codes(residual, codebook, uniform=False)
            codes.append(code)
            residuals.append(residual)
            residual = residual - codebook[code]
            errors.append(residual.square().sum(1))
        return Assignment(
            torch.stack(codes, dim=1),
            torch.stack(residuals, dim=1),
            torch.stack(errors, dim=1),
            latents - residual,
        )

    def _codes(self, residual: Tensor, codebook: Tensor, uniform: bool) -> Tensor:
        # |r - v|^2 without |r|^2, which is the same for all codes of an item.
        distances = codebook.square().sum(1) - 2 * residual @ codebook.T
        if not uniform or self.epsilon is None:
            return distances.argmin(1)
        distances += residual.square().sum(1, keepdim=True)
        return uniform_codes(distances, self.epsilon, self.iterations)


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers with ReLU between them, Xavier-normal weights and zero biases."""
    layers: list[nn.Module] = []
    for width, following in zip(widths[:-1], widths[1:], strict=True):
        linear = nn.Linear(width, following)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
