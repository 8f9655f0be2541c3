"""All that is trained, as one module whose forward pass is the loss."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrec.training.candidate_objective import CandidateObjective
from genrec.training.objectives import Objective
from genrec.training.pieces import load_pieces, own_piece, save_joined, trained_parameters

FILE_NAME = "trained.safetensors"


class TrainedModule(nn.Module):
    """A language model and what is trained beside it.

    What wraps a module for several processes has to see every parameter that gets a gradient, and
    the forward pass that makes it; the passes of a language model lie within that of its loss.

    Args:
        trained: The language model, in PEFT's wrapper if it has one.
        objective: The loss; it reads the same language model.

    Attributes:
        trained: As given.
        beside: What the objective trains beside it, by name.
        computes_in: Number type of products, where nothing around the module chooses it.
    """

    def __init__(self, trained: nn.Module, objective: Objective | CandidateObjective) -> None:
        super().__init__()
        self.computes_in: torch.dtype | None = None
        self.trained = trained
        self.beside = nn.ModuleDict(objective.beside)
        self._objective = objective

    @property
    def config(self) -> Any:  # noqa: ANN401 - of any of transformers' models
        """Return the configuration of the language model, which the trainer looks at."""
        return self.trained.config

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of the loss of one batch of a plan by name, weighted."""
        if self.computes_in is None:
            return self._objective.batch_losses(batch)
        with torch.autocast(next(self.parameters()).device.type, self.computes_in):
            return self._objective.batch_losses(batch)

    def activation_checkpointing_enable(self, **settings: Any) -> None:  # noqa: ANN401 - theirs
        """Let the language model keep fewer activations; the trainer calls it."""
        model: Any = self.trained
        model.activation_checkpointing_enable(**settings)

    def gradient_checkpointing_enable(self, **settings: Any) -> None:  # noqa: ANN401 - theirs
        """Do the same under the name that older versions of transformers call."""
        model: Any = self.trained
        model.gradient_checkpointing_enable(**settings)

    def save(self, folder: Path) -> None:
        """Write all that changes in a training, whole; what is frozen is not in a checkpoint.

        All processes call it, for each may hold a piece; the first one writes.
        """
        save_joined(self._pieces(), trained_parameters(self), folder / FILE_NAME)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote."""
        load_pieces(self._pieces(), trained_parameters(self), folder / FILE_NAME)

    def _pieces(self) -> dict[str, Tensor]:
        return {name: own_piece(each) for name, each in trained_parameters(self).items()}
