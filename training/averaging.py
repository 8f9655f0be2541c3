"""Second sets of a model's trained weights: the running average that is validated and kept while
training goes on from the last step's weights, and a plain copy to come back to.

Single steps scatter around where they are heading; their average is closer to it, and its
validation figures do not swing from one evaluation to the next.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FILE_NAME = "average.safetensors"


class WeightCopy:
    """A copy of a model's trained weights, which can change places with them.

    Args:
        model: Only parameters that require gradients are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        self._copy = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the copy; a second call takes it back."""
        for name, parameter in self._parameters.items():
            current: Tensor = parameter.detach().clone()
            parameter.copy_(self._copy[name])
            self._copy[name].copy_(current)

    def save(self, folder: Path) -> None:
        """Write the copy into a checkpoint folder."""
        save_file(
            {name: value.contiguous() for name, value in self._copy.items()}, folder / FILE_NAME
        )

    def load(self, folder: Path) -> None:
        """Read the copy from a checkpoint folder."""
        for name, value in load_file(folder / FILE_NAME).items():
            self._copy[name].copy_(value)


class WeightAverage(WeightCopy):
    """Exponential moving average of a model's trained weights.

    Args:
        model: Only parameters that require gradients are averaged.
        decay: Share of the old average kept at each step; 0 makes it follow the weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after an optimizer step, counted from 1.

        Early steps count more, so that the start values are soon forgotten.
        """
        decay = min(self._decay, step / (step + 9))
        for name, parameter in self._parameters.items():
            self._copy[name].lerp_(parameter, 1 - decay)
