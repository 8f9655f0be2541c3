"""What all words of a vocabulary add up to, without holding the logits of all."""

from typing import Any

import torch
from torch import Tensor

from genrec.decoding.packed_linear import PackedLinear
from genrec.model.output_layer import output_bias

# Words whose logits are held at once: of a few hundred beams they stay in a processor's cache.
WORDS_AT_ONCE = 4096
# Of sums whose logarithm lies within this nothing is lost: float32 ends at about 88.
SAFE = 40.0


class VocabularyNormaliser:
    """The logarithm of the sum of exponentials of all logits of a model's output layer.

    Weights are read once, here.

    Args:
        model: A language model.
        softcap: What its logits are capped at; None caps nothing.
    """

    def __init__(self, model: Any, softcap: float | None = None) -> None:  # noqa: ANN401
        weight: Tensor = model.get_output_embeddings().weight.detach()
        bias = output_bias(model)
        self.softcap = softcap
        self.blocks = [
            PackedLinear(
                weight[start : start + WORDS_AT_ONCE],
                None if bias is None else bias.detach()[start : start + WORDS_AT_ONCE],
            )
            for start in range(0, len(weight), WORDS_AT_ONCE)
        ]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return float32[..., 1] for float[..., hidden], as the output layer reads them."""
        if hidden.device.type == "cpu":
            # Exponentials as they are take half the time of those less the largest, and are as
            # exact where their sum is far from both ends of what float32 can hold.
            total = sum(self._logits(block, hidden).exp_().sum(-1) for block in self.blocks)
            logarithm = torch.as_tensor(total).log_().unsqueeze(-1)
            if bool((logarithm.abs() < SAFE).all()):
                return logarithm
        parts = [torch.logsumexp(self._logits(block, hidden), dim=-1) for block in self.blocks]
        return torch.logsumexp(torch.stack(parts, dim=-1), dim=-1, keepdim=True)

    def _logits(self, block: PackedLinear, hidden: Tensor) -> Tensor:
        logits = block(hidden).float()
        if self.softcap:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits
