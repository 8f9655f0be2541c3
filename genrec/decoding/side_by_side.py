"""The children of the kept nodes of each request, found on a CPU."""

import numpy as np
import torch
from torch import Tensor


def side_by_side(
    child_start: Tensor, parents: Tensor, alive: Tensor, most: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all children of the nodes of each request, in as many columns as one needs.

    It is done in numpy: a search of a small model asks for little at a time, and there the calls
    are what takes the time.

    Args:
        child_start: int32[P + 1], where the children of each node begin.
        parents: int64[B, W], nodes.
        alive: bool[B, W], which of them are there.
        most: Take only so many first children of each; None takes all.

    Returns:
        Children int64[B, C], the places int64[B, C] of their parents among the W, and bool[B, C],
        true where there is such a child. Children come in the order of their parents.
    """
    starts, rows = child_start.numpy(), parents.numpy()
    start = starts[rows]
    count = (starts[rows + 1] - start) * alive.numpy()
    if most is not None:
        count = np.minimum(count, most)
    of_request, of_parent = count.sum(1), count.ravel()
    before = of_parent.cumsum() - of_parent
    node = np.repeat(start.ravel() - before, of_parent) + np.arange(before[-1] + of_parent[-1])
    place = np.repeat(np.tile(np.arange(rows.shape[1]), len(rows)), of_parent)
    real = np.arange(max(1, of_request.max())) < of_request[:, None]
    nodes, places = np.zeros((2, *real.shape), dtype=np.int64)
    nodes[real], places[real] = node, place
    return torch.from_numpy(nodes), torch.from_numpy(places), torch.from_numpy(real)
