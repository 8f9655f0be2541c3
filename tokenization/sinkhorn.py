"""Uniform semantic mapping: codes given out evenly, by optimal transport."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.errors import DataError

# Scalings beyond this (or its inverse) move into the logarithms before float32 overflows.
_LARGEST_SCALING = 1e9
# Logarithm of the smallest entry of a plan: it weighs nothing, and smaller ones, which are not
# normal numbers in float32, are slow.
_SMALLEST = -70.0
# Entries of a row within 5 % of its largest count as equal: what is left of that after some rounds
# is rounding, or a plan on its way.
_TIE = math.log(1.05)


@overload
def uniform_codes(
    distances: NDArray[np.floating], epsilon: float = ..., iterations: int = ...
) -> NDArray[np.int64]: ...
@overload
def uniform_codes(distances: Tensor, epsilon: float = ..., iterations: int = ...) -> Tensor: ...
def uniform_codes(
    distances: NDArray[np.floating] | Tensor, epsilon: float = 0.003, iterations: int = 50
) -> NDArray[np.int64] | Tensor:
    """Give each of B items one of K codes, near ones, but every code about equally often.

    LC-Rec's uniform semantic mapping (Zheng et al., "Adapting Large Language Models by
    Integrating Collaborative Semantics for Recommendation", ICDE 2024, eq. 5-6): with the
    distances rescaled to ``D`` in [-1, 1], the plan Q is what Sinkhorn-Knopp makes of
    ``exp(-D / epsilon)``, with rows that sum to 1/B and columns that sum to 1/K; an item gets
    the code with the largest entry of its row. Where several are equal (within 5 %), as they
    are when there are far fewer items than codes, it gets the nearest of them, then the first.
    Items with equal distances get the same code. One item alone gets its nearest code.

    The logarithms of the plan are kept, not its entries, which reach exp(333) and would need
    double precision: float32 will do.

    Args:
        distances: float[B, K], squared distance of each item to each code, or float[G, B, K]: G
            problems at once, each solved by itself. A code that is infinitely far from all items
            is given to none.
        epsilon: The smaller, the nearer the codes that are given; the larger, the softer the plan
            and the sooner it is balanced.
        iterations: Rounds of Sinkhorn-Knopp: first all rows, then all columns.

    Returns:
        int64[B] or int64[G, B]; an array for an array, a tensor for a tensor.

    Raises:
        DataError: When a distance is NaN, or an item has no code at a finite distance.
    """
    if isinstance(distances, Tensor):
        return _largest(distances, log_plan(distances, epsilon, iterations))
    with one_thread():
        table = torch.from_numpy(np.ascontiguousarray(distances))
        codes: NDArray[np.int64] = _largest(table, log_plan(table, epsilon, iterations)).numpy()
    return codes


def log_plan(distances: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return the logarithm of the plan that ``uniform_codes`` reads, float[..., B, K].

    Raises:
        DataError: When a distance is NaN, or an item has no code at a finite distance.
    """
    finite = distances.isfinite()
    if distances.isnan().any() or not finite.any(-1).all():
        raise DataError(
            "distances hold NaN, or an item that is infinitely far from every code; check the "
            "vectors."
        )
    plan = _rescaled(distances, finite) / -epsilon
    codes = finite.any(-2, keepdim=True).to(plan.dtype)
    row_mass = 1 / plan.shape[-2]
    column_mass = codes / codes.sum(-1, keepdim=True)
    kernel, rows, columns = plan, plan.new_ones(()), plan.new_ones(())
    overflows = True
    for _ in range(iterations):
        if overflows:
            # In logarithms: slow, but the sums may be of any size.
            plan = plan + (math.log(row_mass) - _log_sum(plan, -1))
            plan += column_mass.log() - _log_sum(plan, -2)
            kernel = plan.clamp(min=_SMALLEST).exp()
            rows, columns = torch.ones_like(plan[..., :1]), torch.ones_like(plan[..., :1, :])
        else:
            # The same round, as a product with a vector on either side.
            rows = row_mass / (kernel @ columns.mT)
            columns = column_mass / (rows.mT @ kernel)
        overflows = _largest_scaling(rows, columns) > _LARGEST_SCALING
        if overflows:
            plan = plan + rows.log() + columns.log()
            rows, columns = plan.new_ones(()), plan.new_ones(())
    return plan + rows.log() + columns.log()


def _rescaled(distances: Tensor, finite: Tensor) -> Tensor:
    """Return the distances of each problem moved and scaled to [-1, 1]."""
    low = distances.amin((-2, -1), keepdim=True)
    high = distances.where(finite, low).amax((-2, -1), keepdim=True)
    reach = ((high - low) / 2).clamp(min=torch.finfo(distances.dtype).tiny)
    return (distances - (high + low) / 2) / reach


def _log_sum(logarithms: Tensor, dim: int) -> Tensor:
    """Return the logarithm of sums of exponentials; torch's own is ten times slower here."""
    most = logarithms.amax(dim, keepdim=True).clamp(min=torch.finfo(logarithms.dtype).min)
    return most + (logarithms - most).clamp_(min=_SMALLEST).exp_().sum(dim, keepdim=True).log()


def _largest_scaling(rows: Tensor, columns: Tensor) -> float:
    """Return the largest factor, or inverse of one, apart from columns that hold nothing."""
    used = columns[columns > 0]
    return float(torch.stack([rows.max(), 1 / rows.min(), used.max(), 1 / used.min()]).max())


def _largest(distances: Tensor, plan: Tensor) -> Tensor:
    """Return the column of the largest entry of each row, the nearest of equal ones."""
    if plan.shape[-2] == 1:
        return distances.argmin(-1)
    lesser = plan < plan.amax(-1, keepdim=True) - _TIE
    return distances.masked_fill(lesser, math.inf).argmin(-1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: sums split over threads would round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
