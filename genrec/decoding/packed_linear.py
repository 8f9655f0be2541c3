"""Linear layers whose weights lie in memory as the processor reads them fastest."""

import torch
from torch import Tensor, nn

# Rows that weights are laid out for; other numbers of rows read them as well.
_ROWS = 128


class PackedLinear:
    """``x W' + b`` for fixed weights; on processors with bfloat16 units the weights are reordered.

    Args:
        weight: float[out, in].
        bias: float[out] or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.bias = bias
        self.packed = _packs(weight)
        self.weight: Tensor = (
            torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
            if self.packed
            else weight
        )

    @classmethod
    def joined(cls, *layers: nn.Linear, scale: Tensor | None = None) -> "PackedLinear":
        """Return one layer that gives the outputs of several with the same input, side by side.

        Args:
            layers: The layers.
            scale: float[in], what inputs would be multiplied by beforehand; None leaves them.
        """
        weights = [layer.weight.detach() for layer in layers]
        if scale is not None:
            weights = [(weight.float() * scale.float()).to(weight.dtype) for weight in weights]
        if len(layers) == 1:
            return cls(weights[0], layers[0].bias)
        weight = torch.cat(weights)
        biases = [layer.bias for layer in layers]
        if all(bias is None for bias in biases):
            return cls(weight)
        filled = [
            weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()
            for layer in layers
        ]
        return cls(weight, torch.cat(filled))

    def __call__(self, x: Tensor) -> Tensor:
        """Return float[..., out] for float[..., in]."""
        return self._packed(x, "none") if self.packed else self._plain(x)

    def silu(self, x: Tensor) -> Tensor:
        """Return ``silu`` of the output; in one pass where weights are packed."""
        return self._packed(x, "swish") if self.packed else nn.functional.silu(self._plain(x))

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the output times another tensor of its shape."""
        return self._with(x, other, "mul") if self.packed else self._plain(x) * other

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the output plus another tensor of its shape."""
        return self._with(x, other, "add") if self.packed else self._plain(x) + other

    def _plain(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def _packed(self, x: Tensor, then: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, then, [], "")
        return result

    def _with(self, x: Tensor, other: Tensor, then: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self.weight, self.bias, then
        )
        return result


def _packs(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
