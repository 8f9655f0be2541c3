"""Group relative policy optimisation (Shao et al., "DeepSeekMath", 2024, equation 3) as a loss."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GrpoLoss:
    """The loss and what it is made of.

    Attributes:
        loss: What is minimised; a scalar with gradients.
        kl: Mean estimate of the divergence from the reference, in nats a code.
        clipped: Share of codes whose change is no longer rewarded.
    """

    loss: Tensor
    kl: float
    clipped: float


def grpo_loss(
    new: Tensor,
    old: Tensor,
    reference: Tensor,
    advantages: Tensor,
    drawn: Tensor,
    *,
    clip: float,
    kl_weight: float,
) -> GrpoLoss:
    """Return the clipped loss of a batch of groups, with a penalty for leaving the reference.

    With the ratio ``q = exp(new - old)`` of a code and its item's advantage A, the gain is
    ``min(q A, clamp(q, 1 - clip, 1 + clip) A)``, less ``kl_weight`` times the divergence, which is
    estimated by ``exp(reference - new) - (reference - new) - 1`` (k3 of Schulman 2020: never
    negative, and right in the mean). It is averaged over an item's codes, then over all items.

    Args:
        new: float32[B, G, L], log-probabilities of the codes of the items now.
        old: Those when the groups were drawn.
        reference: Those of the reference model.
        advantages: float32[B, G].
        drawn: bool[B, G, L], true for codes that the model chose; at least one is true.
        clip: How far a ratio may move.
        kl_weight: Weight of the divergence.
    """
    ratio = torch.exp(new - old)
    gain = advantages.unsqueeze(-1)
    clamped = ratio.clamp(1 - clip, 1 + clip)
    away = reference - new
    divergence = torch.exp(away) - away - 1
    cost = kl_weight * divergence - torch.minimum(ratio * gain, clamped * gain)
    codes = drawn.sum(-1)
    item_cost = (cost * drawn).sum(-1) / codes.clamp(min=1)
    loss = item_cost.sum() / (codes > 0).sum()
    outside = ((ratio < 1 - clip) & (gain < 0)) | ((ratio > 1 + clip) & (gain > 0))
    return GrpoLoss(
        loss=loss,
        kl=float(divergence.detach()[drawn].mean()),
        clipped=float(outside[drawn].float().mean()),
    )
