"""A trained RQ-VAE at work: vectors to latents, codes to vectors, alike however many."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from genrec.tokenization.kmeans import as_float32
from genrec.tokenization.rq_vae_network import RqVaeNetwork, Scaling
from genrec.tokenization.sinkhorn import one_thread

# Rows that go through the network at once, always so many: a matrix product of another shape may
# round differently.
_ROWS_AT_ONCE = 256

Codes = NDArray[np.int32]
Doubles = NDArray[np.float64]


class RqVaeCodec:
    """A trained network, in double precision from now on, and the scaling of its vectors."""

    def __init__(self, network: RqVaeNetwork, scaling: Scaling) -> None:
        self.network = network.requires_grad_(False).double()
        self.scaling = scaling
        self.width = len(scaling.centre)
        self.codebooks = [codebook.numpy() for codebook in network.codebooks]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return everything as named arrays; the weights in single precision, as learned."""
        weights = self.network.state_dict().items()
        return {
            "centre": self.scaling.centre,
            "factor": np.asarray([self.scaling.factor]),
            **{name: value.float().numpy() for name, value in weights},
        }

    def latents(self, x: NDArray[Any]) -> Doubles:
        """Return the latents of vectors [n, d], float64[n, dimensions]."""
        latents = _through(self.network.encoder, self.scaling.scaled(as_float32(x)))
        return latents.astype(np.float32).astype(np.float64)

    def residuals(self, x: NDArray[Any], prefix: Codes) -> Doubles:
        """Return what the codes of a prefix leave of the latents, float64[n, dimensions]."""
        residual = self.latents(x)
        # One after the other, as ``encode`` does, so that both round alike.
        for codebook, code in zip(self.codebooks, prefix.T, strict=False):
            residual = residual - codebook[code]
        return residual

    def sum_of(self, codes: Codes, levels: int | None) -> Doubles:
        """Return the sum of the first code vectors of each row, float64[n, dimensions]."""
        total = np.zeros((len(codes), self.network.dimensions))
        for codebook, code in zip(self.codebooks[:levels], codes.T, strict=False):
            total += codebook[code]
        return total

    def vectors(self, latents: Doubles) -> NDArray[np.float32]:
        """Return what the decoder makes of latents float64[n, dimensions], float32[n, d]."""
        return self.scaling.restored(_through(self.network.decoder, latents))


def _through(layers: torch.nn.Module, rows: Doubles) -> Doubles:
    """Return what layers make of rows, batch by batch, the last one filled up with zeros."""
    filled = np.zeros((-(-len(rows) // _ROWS_AT_ONCE) * _ROWS_AT_ONCE, rows.shape[1]))
    filled[: len(rows)] = rows
    with one_thread(), torch.inference_mode():
        parts = [layers(part) for part in torch.split(torch.from_numpy(filled), _ROWS_AT_ONCE)]
        together: Doubles = torch.cat(parts).numpy()[: len(rows)]
    return together


def squared_distances(residual: Doubles, codebook: Doubles) -> Doubles:
    """Return the squared distance of each residual to each code vector, float64[n, K]."""
    # cdist works pair by pair; a matrix product could round equal rows differently.
    distances: Doubles = cdist(residual, codebook, "sqeuclidean")
    return distances
