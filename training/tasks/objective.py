"""The loss of a mixture of tasks: on the answers only, every sequence counting alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genrec import processes
from genrec.model.output_layer import full_logits
from genrec.training.objectives import Objective

# Logits that are in memory at once; answers are taken in parts beyond that.
LOGITS_AT_ONCE = 2**26


@dataclass
class Tally:
    """Losses of the tasks since they were last asked for.

    Attributes:
        names: The tasks.
    """

    names: Sequence[str]
    _sums: dict[int, float] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)

    def add(self, losses: Tensor, tasks: Tensor) -> None:
        """Take in the loss of each sequence, float[R], and its task, int64[R]."""
        for task, loss in zip(tasks.tolist(), losses.detach().tolist(), strict=True):
            self._sums[task] = self._sums.get(task, 0.0) + loss
            self._counts[task] = self._counts.get(task, 0) + 1

    def drain(self) -> dict[str, float]:
        """Return the mean loss of each task that any process saw, and start anew."""
        places = range(len(self.names))
        own = [self._sums.get(task, 0.0) for task in places]
        seen = [self._counts.get(task, 0) for task in places]
        whole = processes.totals([*own, *seen])
        sums, counts = whole[: len(places)], whole[len(places) :]
        self._sums.clear()
        self._counts.clear()
        return {self.names[task]: sums[task] / counts[task] for task in places if counts[task]}


@dataclass(frozen=True)
class TaskObjective(Objective):
    """Cross-entropy of the tokens of each answer, over the full vocabulary.

    The loss of a sequence is the mean over the tokens of its answer, in nats a token, and that of
    a batch the mean over its sequences: so a task's share of the sequences is its share of the
    loss, however long its answers are. Texts answer with words and an end token, histories and
    wishes with the codes of an item, and a stream answers with all of its codes.

    Attributes:
        tally: Where the losses of the tasks are kept for the log.
    """

    tally: Tally = field(default_factory=lambda: Tally(()))

    def batch_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of one batch of ``MixturePlan``, its only term."""
        real = batch["task"] >= 0
        losses = self.sequence_losses(batch["tokens"][real], batch["answers"][real])
        self.tally.add(losses, batch["task"][real])
        return {"tasks": losses.mean()}

    def sequence_losses(self, tokens: Tensor, answers: Tensor) -> Tensor:
        """Return the mean loss of a token of each sequence's answer.

        Padding stands on the right, where a causal model cannot see it, so no mask is needed.

        Args:
            tokens: int64[R, T], right-padded.
            answers: bool[R, T], true where a token is of the answer; never the first one.

        Returns:
            float32[R].
        """
        decoder: Any = self.model.base_model
        hidden: Tensor = decoder(input_ids=tokens, use_cache=False).last_hidden_state
        row, place = answers.nonzero(as_tuple=True)
        losses = self._token_losses(hidden[row, place - 1], tokens[row, place])
        total = losses.new_zeros(len(tokens)).index_add(0, row, losses)
        return total / answers.sum(1)

    def _token_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each token, float32[P], never with all logits in memory.

        Args:
            hidden: float[P, hidden], the states that predict them.
            targets: int64[P].
        """
        output: Any = self.model
        size = max(1, LOGITS_AT_ONCE // output.get_output_embeddings().weight.shape[0])
        if len(hidden) <= size:
            return self._part(hidden, targets)
        parts = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
        return torch.cat([checkpoint(self._part, *part, use_reentrant=False) for part in parts])

    def _part(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = full_logits(self.model, self.head.read(hidden))
        return nn.functional.cross_entropy(
            logits,
            targets,
            reduction="none",
            label_smoothing=self.label_smoothing if self.model.training else 0.0,
        )
