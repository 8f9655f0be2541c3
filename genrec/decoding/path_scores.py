"""The model's word on given items, code by code."""

import torch
from torch import Tensor

from genrec.decoding.beam import CodeScorer


def path_scores(scorer: CodeScorer, codes: Tensor) -> Tensor:
    """Return the log-probability of each code of some items a request.

    Args:
        scorer: Given the histories, not asked yet.
        codes: int64[B, W, L], the codes of W items for each history.

    Returns:
        float32[B, W, L]; the sum over the codes of an item is its score.
    """
    requests, items, levels = codes.shape
    own = torch.arange(items, device=codes.device).expand(requests, items)
    steps = [scorer.first().gather(1, codes[:, :, 0])]
    for level in range(1, levels):
        # All items follow the one prompt; from then on each follows its own first codes.
        parents = torch.zeros_like(own) if level == 1 else own
        log_probabilities = scorer.next(level, codes[:, :, level - 1], parents)
        steps.append(log_probabilities.gather(2, codes[:, :, level : level + 1])[..., 0])
    return torch.stack(steps, dim=2).float()
