"""Root mean square norms in few passes over bfloat16 numbers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Norm = Callable[[Tensor], Tensor]


class RowNorm:
    """``x / sqrt(mean(x^2) + epsilon) * weight`` for bfloat16 rows.

    The library turns every number into float32 and back. Here only the length of a row is: on a CPU
    that takes a sixth of the time, for two more roundings of a factor all numbers of a row share.

    Args:
        epsilon: Added to the mean square.
        weight: bfloat16[..., d]; None scales nothing.
    """

    def __init__(self, epsilon: float, weight: Tensor | None = None) -> None:
        self.weight = weight
        self._epsilon = torch.tensor(epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the rows of bfloat16[..., d], normed."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).float()
        square = torch.addcmul(self._epsilon, length, length, value=1 / x.shape[-1])
        normal: Tensor = x * square.rsqrt_().to(x.dtype)
        return normal if self.weight is None else normal.mul_(self.weight)


def norm_of(module: nn.Module) -> Norm:
    """Return what norms as a module does: the module itself, but for bfloat16 on a CPU."""
    typed: Any = module
    weight: Tensor = typed.weight.detach()
    return RowNorm(float(typed.variance_epsilon), weight) if _is_slow(weight) else module


def norm_and_scale(module: nn.Module) -> tuple[Norm, Tensor | None]:
    """Return a norm and what the columns of the layers after it have to be multiplied by.

    What every row is multiplied by can as well be multiplied into the weights once; None where
    the norm does it.
    """
    typed: Any = module
    weight: Tensor = typed.weight.detach()
    if not _is_slow(weight):
        return module, None
    return RowNorm(float(typed.variance_epsilon)), weight


def norm_of_heads(
    query: nn.Module | None, key: nn.Module | None, query_heads: int, key_heads: int
) -> Norm | None:
    """Return the norms of queries and keys as one of both, for float[B, heads, T, head size].

    Args:
        query: Norm of the queries, which come first; None where there is none.
        key: Norm of the keys.
        query_heads: Heads of the queries.
        key_heads: Heads of the keys.
    """
    if query is None or key is None:
        return None
    typed: Any = query
    other: Any = key
    query_norm: Norm = query
    key_norm: Norm = key
    weights: list[Tensor] = [typed.weight.detach(), other.weight.detach()]
    if _is_slow(weights[0]):
        rows = [
            weight.expand(heads, 1, -1)
            for weight, heads in zip(weights, (query_heads, key_heads), strict=True)
        ]
        return RowNorm(float(typed.variance_epsilon), torch.cat(rows))

    def both(x: Tensor) -> Tensor:
        return torch.cat([query_norm(x[:, :query_heads]), key_norm(x[:, query_heads:])], dim=1)

    return both


def _is_slow(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
