"""Second sets of a model's trained weights: the running average that is validated and kept while
training goes on from the last step's weights, and a plain copy to come back to.

Single steps scatter around where they are heading; their average is closer to it, and its
validation figures do not swing from one evaluation to the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from genrec.training.pieces import (
    in_pieces,
    joined,
    load_pieces,
    own_piece,
    save_joined,
    trained_parameters,
)

FILE_NAME = "average.safetensors"


class WeightCopy:
    """A copy of a model's trained weights, which can change places with them.

    Of weights that processes hold in pieces, each copies its own.

    Args:
        model: Only parameters that require gradients are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = trained_parameters(model)
        self._copy = {name: own_piece(each).clone() for name, each in self._parameters.items()}

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the copy; a second call takes it back."""
        for name, parameter in self._parameters.items():
            piece = own_piece(parameter)
            current: Tensor = piece.clone()
            piece.copy_(self._copy[name])
            self._copy[name].copy_(current)

    def save(self, folder: Path) -> None:
        """Write the copy, whole, into a checkpoint folder; all processes call it, one writes."""
        save_joined(self._copy, self._parameters, folder / FILE_NAME)

    def load(self, folder: Path) -> None:
        """Read the copy from a checkpoint folder."""
        load_pieces(self._copy, self._parameters, folder / FILE_NAME)


class WeightAverage(WeightCopy):
    """Exponential moving average of a model's trained weights.

    Args:
        model: Only parameters that require gradients are averaged.
        decay: Share of the old average kept at each step; 0 makes it follow the weights.
        shown_by: The same model, whole, where ``model`` is in pieces: it takes the average for
            validation and at the end. None where this process does neither, or where the model
            is whole and does both itself.
    """

    def __init__(self, model: nn.Module, decay: float, shown_by: nn.Module | None = None) -> None:
        super().__init__(model)
        self._decay = decay
        self._in_pieces = in_pieces(self._parameters)
        self._shown_by = None if shown_by is None else trained_parameters(shown_by)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after an optimizer step, counted from 1.

        Early steps count more, so that the start values are soon forgotten.
        """
        decay = min(self._decay, step / (step + 9))
        for name, parameter in self._parameters.items():
            self._copy[name].lerp_(own_piece(parameter), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have the average where validation looks, inside a ``with``."""
        self.show()
        yield
        if not self._in_pieces:
            self.swap()

    @torch.no_grad()
    def show(self) -> None:
        """Put the average where validation looks; all processes call it."""
        if not self._in_pieces:
            self.swap()
            return
        for name, piece in self._copy.items():
            value = joined(piece, self._parameters[name])
            if self._shown_by is not None:
                self._shown_by[name].copy_(value)
