"""The model's word on given items, code by code."""

import torch
from torch import Tensor

from genrec.decoding.beam import CodeScorer


def path_scores(scorer: CodeScorer, codes: Tensor) -> Tensor:
    """Return the log-probability of each code of one item a request.

    Args:
        scorer: Given the histories, not asked yet.
        codes: int64[B, L], the codes of an item for each history.

    Returns:
        float32[B, L]; the sum of a row is the score of the item.
    """
    parents = torch.zeros(len(codes), 1, dtype=torch.int64, device=codes.device)
    steps = [scorer.first().gather(1, codes[:, :1])]
    for level in range(1, codes.shape[1]):
        log_probabilities = scorer.next(level, codes[:, level - 1 : level], parents)[:, 0]
        steps.append(log_probabilities.gather(1, codes[:, level : level + 1]))
    return torch.cat(steps, dim=1).float()
