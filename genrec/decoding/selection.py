"""Keeping the best candidates of a level, no more than so many of one group."""

import torch
from torch import Tensor


def best_of(
    scores: Tensor,
    width: int,
    groups: Tensor | None = None,
    most: Tensor | None = None,
    stable: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the best candidates of each request, best first.

    Args:
        scores: float[B, C]; minus infinity for what is no candidate.
        width: Candidates to keep at most.
        groups: int64[B, C], the group of each; None where no request bounds them.
        most: int64[B], candidates of one group to keep at most.
        stable: Whether of equal candidates the earlier one comes first; it takes longer.

    Returns:
        Scores float[B, W] and places int64[B, W] with ``W <= width``; the score of a place that is
        left over is minus infinity.
    """
    if groups is not None and most is not None:
        scores = scores.masked_fill(_rank_in_group(scores, groups) >= most.unsqueeze(1), -torch.inf)
    if stable:
        best, place = scores.sort(dim=1, descending=True, stable=True)
        return best[:, :width], place[:, :width]
    best, place = scores.topk(min(width, scores.shape[1]), dim=1)
    return best, place


def _rank_in_group(scores: Tensor, groups: Tensor) -> Tensor:
    """Return how many candidates of its group come before each, int64[B, C]."""
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    sorted_groups = groups.gather(1, by_score)
    by_group = sorted_groups.argsort(dim=1, stable=True)
    order = by_score.gather(1, by_group)
    ordered = groups.gather(1, order)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(ordered)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = torch.where(first, places, 0).cummax(dim=1).values
    return torch.empty_like(order).scatter(1, order, places - start)
