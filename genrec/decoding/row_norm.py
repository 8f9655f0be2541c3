"""Root mean square norms in few passes over bfloat16 numbers."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

Norm = Callable[[Tensor], Tensor]


class RowNorm:
    """``x / sqrt(mean(x^2) + epsilon) * weight``, rows measured in float32, scaled in bfloat16.

    The library turns every number into float32 and back. Here only the length of a row is: on a CPU
    that takes a sixth of the time, for one more rounding of a factor all numbers of a row share.

    Args:
        weight: bfloat16[d].
        epsilon: Added to the mean square.
    """

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        self.weight, self.epsilon = weight, epsilon
        # Weights of one change nothing, so their pass is left out.
        self._scales = bool((weight != 1).any())

    @overload
    @classmethod
    def of(cls, module: nn.Module) -> Norm: ...

    @overload
    @classmethod
    def of(cls, module: None) -> None: ...

    @classmethod
    def of(cls, module: nn.Module | None) -> Norm | None:
        """Return the norm of a module: this one for bfloat16 on a CPU, else the module itself."""
        if module is None:
            return None
        typed: Any = module
        weight: Tensor = typed.weight.detach()
        if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
            return module
        return cls(weight, float(typed.variance_epsilon))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the rows of bfloat16[..., d], normed."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        factor = length.square_().div_(x.shape[-1]).add_(self.epsilon).rsqrt_()
        normal: Tensor = x * factor.to(x.dtype)
        return normal.mul_(self.weight) if self._scales else normal
