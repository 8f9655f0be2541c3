"""A user vector read from content learns to say what a collaborative model knows of the user.

The post-alignment loss of Molar (Luo et al., arXiv 2412.18176): a symmetric contrastive loss
between the user vector of the language model and that of a frozen collaborative model. The paper
gives neither the temperature nor how many candidates there are; here all positions of a batch are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from genrec.errors import DataError

# Frozen vectors with a cosine above it are taken as one: two users with the same history.
SAME = 1 - 1e-5


class PostAlignment(nn.Module):
    """Symmetric InfoNCE between projected states and the vectors of a frozen model.

    With ``p_i`` the projection of state i and ``z_j`` frozen vector j, both at length 1, the loss
    is the mean over i of ``-log(exp(p_i z_i / t) / sum_j exp(p_i z_j / t))`` and of the same with
    the roles exchanged, halved. Left out of the sums are positions j that are the same user as i,
    or that the frozen model gives the same vector: neither is a negative.

    Args:
        hidden: Width of the states.
        dimensions: Width of the frozen vectors.
        temperature: What cosines are divided by.
    """

    def __init__(self, hidden: int, dimensions: int, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, dimensions)
        self.temperature = temperature

    def forward(self, states: Tensor, frozen: Tensor, users: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar in the projection's precision.

        A position whose frozen vector is zero says nothing and is left out. With fewer than two
        positions left the loss is 0.

        Args:
            states: float[m, hidden], user vectors read from content.
            frozen: float[m, dimensions], those of the collaborative model after the same items;
                they get no gradient.
            users: int64[m], who each position belongs to; None takes every position as another
                user.

        Raises:
            DataError: When the frozen vectors have another width than the projection.
        """
        if frozen.shape[1] != self.projection.out_features:
            raise DataError(
                f"the frozen user vectors have {frozen.shape[1]} dimensions, expected "
                f"{self.projection.out_features}."
            )
        told = frozen.any(dim=1)
        if users is None:
            users = torch.arange(len(states), device=states.device)
        states, frozen, users = states[told], frozen[told], users[told]
        precision = self.projection.weight.dtype
        # Half precision is too coarse for logits divided by a small temperature.
        with torch.autocast(states.device.type, enabled=False):
            own = functional.normalize(self.projection(states.to(precision)), dim=1)
            theirs = functional.normalize(frozen.detach().to(precision), dim=1)
            if len(own) < 2:
                return own.sum() * 0
            same = (users[:, None] == users[None, :]) | (theirs @ theirs.T > SAME)
            same.fill_diagonal_(False)
            scores = (own @ theirs.T / self.temperature).masked_fill(same, float("-inf"))
            answers = torch.arange(len(own), device=own.device)
            there = functional.cross_entropy(scores, answers)
            back = functional.cross_entropy(scores.T, answers)
        return (there + back) / 2
