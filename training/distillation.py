"""What quantization lost, taught back: hidden states are to tell which vector an item had.

Stage 2 of PRORec, later UNGER (Xiao et al., arXiv 2502.06269): while the language model learns the
codes, a second loss takes the integrated vectors of stage 1, from which the codes were made, as
targets. The sources read give neither the place where the loss attaches nor its temperature or
weight. Here it reads the state after the last code of an item, which has seen all that the codes
say of the item and is where the next item starts from; the rest is for validation to choose.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from genrec.errors import DataError
from genrec.training.batches import IGNORED


class InModalityDistillation(nn.Module):
    """InfoNCE between a projection of the state after an item and the item's vector.

    With ``p`` the projected state and ``z_j`` the vector of item j, all at length 1, the loss of
    a position is ``-log(exp(p z_own / t) / sum_j exp(p z_j / t))``, j over the distinct items of
    the batch, so an item that occurs twice is never its own negative. A mean squared error or a
    cosine alone would be content with the mean of all vectors; telling the items of a batch from
    each other asks for what sets them apart, which is what codes lose first.

    Args:
        hidden: Width of the language model.
        dimensions: Width of the vectors.
        temperature: What cosines are divided by.
    """

    def __init__(self, hidden: int, dimensions: int, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, dimensions)
        self.temperature = temperature

    def forward(self, states: Tensor, item_rows: Tensor, integrated: Tensor) -> Tensor:
        """Return the mean loss over the positions, a scalar in the projection's precision.

        Left out are padding and items whose vector is zero, of which nothing is known. When
        nothing is left, or one item alone, the loss is 0.

        Args:
            states: float[..., hidden], the state after the last code of each item.
            item_rows: int64[...], catalogue row of each item, -100 for padding.
            integrated: float[n, dimensions], the vectors; they get no gradient.

        Raises:
            DataError: When the vectors have another width than the projection.
        """
        if integrated.shape[1] != self.projection.out_features:
            raise DataError(
                f"the item vectors have {integrated.shape[1]} dimensions, expected "
                f"{self.projection.out_features}."
            )
        rows, states = item_rows.flatten(), states.flatten(0, -2)
        real = rows != IGNORED
        items, own = torch.unique(rows[real], return_inverse=True)
        precision = self.projection.weight.dtype
        vectors = functional.normalize(integrated.detach()[items].to(precision), dim=1)
        told = vectors.any(dim=1)
        # Half precision is too coarse for logits divided by a small temperature.
        with torch.autocast(states.device.type, enabled=False):
            projected = self.projection(states[real].to(precision))
            scores = functional.normalize(projected, dim=1) @ vectors.T / self.temperature
            losses = functional.cross_entropy(
                scores.masked_fill(~told, float("-inf"))[told[own]], own[told[own]], reduction="sum"
            )
        return losses / told[own].sum().clamp(min=1)


@dataclass(frozen=True)
class Distillation:
    """The loss above as one term of an objective.

    Attributes:
        projection: Trained beside the language model, and no part of it afterwards.
        vectors: float32[n_items, d], the vector of every catalogue row.
        weight: What the loss is multiplied by.
    """

    projection: InModalityDistillation
    vectors: Tensor
    weight: float

    def loss(self, states: Tensor, items: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            states: float[..., hidden], the state after the last code of each item.
            items: int64[...], catalogue row of each item, -100 for padding.
        """
        loss: Tensor = self.projection(states, items, self.vectors)
        return self.weight * loss
