"""From the space of a vector to that of a language model's words."""

from typing import Literal

from torch import Tensor, nn

ACTIVATIONS = {"gelu": nn.GELU, "leaky_relu": nn.LeakyReLU}


class Projection(nn.Module):
    """Two layers with a norm in between, as A-LLMRec has them.

    The norm makes the scale of the vectors irrelevant, so any collaborative model will do.

    Args:
        width: Dimensions of the vectors.
        hidden: Width of the language model.
        activation: ``leaky_relu`` for users and ``gelu`` for items in the paper.
        size: About what root mean square the output starts with, such as that of words; 0 starts
            with zeros.
    """

    def __init__(
        self, width: int, hidden: int, activation: Literal["gelu", "leaky_relu"], size: float
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.activation = ACTIVATIONS[activation]()
        self.leave = nn.Linear(hidden, hidden)
        for layer in (self.enter, self.leave):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        # An activated normal variable has a mean square near a half.
        self.leave.weight.data.mul_(size * 2**0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return float[..., hidden] for float32[..., width]."""
        projected: Tensor = self.leave(self.activation(self.norm(self.enter(vectors))))
        return projected
