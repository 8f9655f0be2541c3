"""What models that score every item share: batches of like lengths, and items set aside."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.data.ranking import Ranking

# Bounds on what one batch holds at once, so that memory does not grow with the data.
POSITIONS_PER_BATCH = 16_384
SCORES_PER_BATCH = 2**24


def length_batches(
    histories: Sequence[NDArray[np.int32]], longest: int, items: int
) -> Iterator[NDArray[np.int64]]:
    """Yield positions of histories of similar length, so that little is padding.

    Args:
        histories: Catalogue rows, oldest first.
        longest: Newest items of a history that are read.
        items: Size of the catalogue.
    """
    lengths = np.asarray([min(len(history), longest) + 1 for history in histories])
    order = np.argsort(lengths, kind="stable")
    most = max(1, SCORES_PER_BATCH // items)
    start = 0
    while start < len(order):
        # The last one taken is the longest, so shrink until its length fits for all.
        end = min(len(order), start + most)
        while end - start > 1 and (end - start) * lengths[order[end - 1]] > POSITIONS_PER_BATCH:
            end = start + (end - start) // 2
        yield order[start:end]
        start = end


def rank_by_scores(
    histories: Sequence[NDArray[np.int32]],
    k: int,
    excluded: Sequence[NDArray[np.int32]],
    score: Callable[[list[NDArray[np.int32]]], Tensor],
    *,
    longest: int,
    items: int,
) -> list[Ranking]:
    """Return the k best items of each history, scored in batches of like lengths.

    Args:
        histories: Catalogue rows, oldest first.
        k: Items wanted.
        excluded: Catalogue rows that are left out of each list.
        score: Returns float32[B, n], the scores of all items for some of the histories.
        longest: Newest items of a history that are read.
        items: Size of the catalogue, n.
    """
    rankings: dict[int, Ranking] = {}
    for batch in length_batches(histories, longest, items):
        found = best_items(score([histories[i] for i in batch]), k, [excluded[i] for i in batch])
        rankings.update(zip(batch.tolist(), found, strict=True))
    return [rankings[i] for i in range(len(histories))]


def best_items(scores: Tensor, k: int, excluded: Sequence[NDArray[np.int32]]) -> list[Ranking]:
    """Return the k best of scores float32[B, n] a row, without excluded and infinite ones.

    The scores of excluded items become minus infinity, in place.
    """
    rows = np.repeat(np.arange(len(excluded)), [len(items) for items in excluded])
    columns = np.concatenate(excluded).astype(np.int64)
    scores[torch.from_numpy(rows), torch.from_numpy(columns)] = float("-inf")
    best, items = scores.topk(min(k, scores.shape[1]))
    eligible = torch.isfinite(best).sum(dim=1).tolist()
    items_of, scores_of = items.int().cpu().numpy(), best.cpu().numpy()
    return [
        Ranking(items_of[row, :count], scores_of[row, :count]) for row, count in enumerate(eligible)
    ]
