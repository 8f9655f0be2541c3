"""Text vectors brought into the space of cf vectors, and the loss that makes both agree.

Stage 1 of PRORec, later UNGER (Xiao et al., arXiv 2502.06269). Shapes: m items, dt dimensions of
the text vectors, d of the cf vectors.
"""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genrec.embeddings.table import unit_rows
from genrec.tokenization.sinkhorn import one_thread


class ModalityAdaption(nn.Module):
    """The modality adaption layer: ``E_T = AdaLayerNorm(W E_S + b)`` (Eq. 2).

    The name AdaLayerNorm is used for several things. Here it is a layer norm with a gain and a
    shift of each dimension that are learned, so that the text takes on the scale and the centre
    of the cf vectors; a gain and a shift read off the text itself were tried and did no better.
    """

    def __init__(self, text_dimensions: int, dimensions: int) -> None:
        super().__init__()
        self.projection = nn.Linear(text_dimensions, dimensions)
        self.norm = nn.LayerNorm(dimensions)

    def forward(self, text: Tensor) -> Tensor:
        """Return E_T float32[m, d] for text vectors E_S float32[m, dt]."""
        adapted: Tensor = self.norm(self.projection(text))
        return adapted

    @torch.no_grad()
    def predict(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return E_T at length 1, float32[m, d]; zero for a text vector that is zero."""
        with one_thread():
            adapted = self(torch.from_numpy(np.ascontiguousarray(text))).numpy()
        return unit_rows(adapted * text.any(axis=1, keepdims=True))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what ``from_arrays`` takes."""
        return {name: value.numpy() for name, value in self.state_dict().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Put back what ``arrays`` returned."""
        dimensions, text_dimensions = arrays["projection.weight"].shape
        adaption = cls(text_dimensions, dimensions)
        adaption.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
        return adaption.eval()


def contrastive_loss(cf: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Return the symmetric InfoNCE loss of m items with two vectors each (Eq. 3).

    With ``s_ij`` the cosine of ``cf_i`` and ``text_j`` over the temperature, it is the mean over
    items of ``-log(exp s_ii / sum_j exp s_ij)``, averaged with the same over columns: each item
    has to find its own text among those of the batch, and each text its item. One item alone has
    nothing to be told from, and its loss is 0.

    Args:
        cf: float32[m, d], not zero.
        text: float32[m, d], row i of the same item as row i of ``cf``.
        temperature: What cosines are divided by.
    """
    scores = functional.normalize(cf, dim=1) @ functional.normalize(text, dim=1).T / temperature
    own = torch.arange(len(scores), device=scores.device)
    by_item = functional.cross_entropy(scores, own)
    by_text = functional.cross_entropy(scores.T, own)
    return (by_item + by_text) / 2
