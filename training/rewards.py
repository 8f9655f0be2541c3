"""What the items of a group are worth, and how far each is above the others.

One item is right: the one the user chose. It is worth 1. Each other item costs the more, the higher
the model put it, so that groups with a hit differ in all their places and not in one only
(MiniOneRec, arXiv 2510.24431).
"""

import torch
from torch import Tensor

# Added to the deviation of a group, as in TRL, so that equal rewards give no advantage.
_LEAST_DEVIATION = 1e-4


def group_rewards(hits: Tensor, real: Tensor) -> Tensor:
    """Return the rewards of groups of ranked items.

    A hit is worth 1. A wrong item at place r is worth ``-1 / log2(r + 1)``, divided by the sum of
    these over all items of the group. A group without a hit is worth 0 throughout.

    Args:
        hits: bool[B, G], best first; true for the item that was chosen.
        real: bool[B, G], false where a group has fewer items.

    Returns:
        float32[B, G], 0 where there is no item.
    """
    place = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    gain = 1 / torch.log2(place + 1.0)
    wrong = (real & ~hits).float() * gain
    whole = (real.float() * gain).sum(1, keepdim=True)
    penalty = wrong / whole.clamp(min=torch.finfo(torch.float32).tiny)
    found = (hits & real).any(1, keepdim=True)
    return torch.where(found, (hits & real).float() - penalty, 0.0)


def group_advantages(rewards: Tensor, real: Tensor) -> Tensor:
    """Return rewards less their group's mean, in units of its deviation.

    Args:
        rewards: float32[B, G].
        real: bool[B, G], false where a group has fewer items.

    Returns:
        float32[B, G], 0 where there is no item.
    """
    count = real.sum(1, keepdim=True).clamp(min=1)
    mean = (rewards * real).sum(1, keepdim=True) / count
    centred = (rewards - mean) * real
    deviation = (centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return centred / (deviation + _LEAST_DEVIATION)
