"""Training Molar's user-side model: next item, and agreement with a collaborative model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genrec.cf.epoch_training import LOGITS_AT_ONCE, Epoch, EpochTraining, Schedule
from genrec.cf.training_checkpoint import Checkpoint
from genrec.data.histories import Histories
from genrec.errors import DataError
from genrec.model.user_model import UserModel
from genrec.model.user_ranker import UserRanker
from genrec.training.frozen_users import FrozenUsers
from genrec.training.post_alignment import PostAlignment

Loss = Literal["cross_entropy", "bce"]


@dataclass(frozen=True)
class UserSchedule(Schedule):
    """How long, how fast and on what loss to train.

    Attributes:
        loss: ``cross_entropy`` over all items with a training event, or ``bce`` against one drawn.
        alignment_weight: Weight of the post-alignment loss.
    """

    loss: Loss = "cross_entropy"
    alignment_weight: float = 0.1


@dataclass(frozen=True)
class UserEpoch(Epoch):
    """What one epoch gave: mean losses of a position, and validation figures where there are."""

    alignment: float | None = None


def train_users(
    network: UserModel,
    sequences: Histories,
    validation: Histories,
    candidates: NDArray[np.bool_],
    schedule: UserSchedule,
    *,
    frozen: FrozenUsers | None = None,
    alignment: PostAlignment | None = None,
    checkpoint: Checkpoint | None = None,
    quiet: bool = True,
) -> list[UserEpoch]:
    """Train the network in place and leave the weights with the best validation NDCG@10 in it.

    What is validated and kept is a running average of the trained weights.

    Args:
        network: Its parameters that require gradients are trained.
        sequences: Training items per user, oldest first.
        validation: Histories with targets; may be empty, then the last epoch is kept.
        candidates: bool[n], the items that may be wrong answers: those with a training event. To
            push down the others would teach the model that what is new is never chosen.
        schedule: How long and how fast.
        frozen: What to agree with, made of ``newest_items``; None has no alignment loss.
        alignment: That loss; trained along, and not needed afterwards.
        checkpoint: Where to save after each epoch and to go on from.
        quiet: No progress bar.

    Raises:
        DataError: When there is no training event.
        ConfigError: When the loss is no longer finite.
    """
    if not len(sequences.items):
        raise DataError("There is no training event to learn users from; check the split.")
    newest = newest_items(sequences, network.max_history)
    trainer = _Training(
        network, newest, sequences.user, candidates, schedule, frozen=frozen, alignment=alignment
    )
    lengths = np.asarray([len(sequence) for sequence in newest])
    trainer.run(lengths, validation, checkpoint, quiet)
    return trainer.log


def newest_items(sequences: Histories, max_history: int) -> list[NDArray[np.int32]]:
    """Return what is learned of each sequence: the newest items that are read, and one to guess."""
    return [sequences[i][-max_history - 1 :] for i in range(len(sequences))]


class _Training(EpochTraining[UserEpoch]):
    """The next-item loss after every item, and the agreement with a collaborative model."""

    def __init__(
        self,
        network: UserModel,
        newest: Sequence[NDArray[np.int32]],
        users: NDArray[np.int32],
        candidates: NDArray[np.bool_],
        schedule: UserSchedule,
        *,
        frozen: FrozenUsers | None = None,
        alignment: PostAlignment | None = None,
    ) -> None:
        parameters = _both(network, alignment).named_parameters()
        trained = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        super().__init__("Molar", network, trained, schedule, UserEpoch, "molar.learning_rate")
        self.network, self.newest, self.users = network, newest, users
        self.loss, self.alignment_weight = schedule.loss, schedule.alignment_weight
        self.frozen, self.alignment = frozen, alignment
        device = network.user.device
        self.candidates = torch.from_numpy(np.flatnonzero(candidates)).to(device)
        answer_of = np.full(len(candidates), -1)
        answer_of[candidates] = np.arange(candidates.sum())
        self.answer_of = torch.from_numpy(answer_of).to(device)

    def _ranker(self) -> UserRanker:
        return UserRanker(self.network)

    def _step(self, places: NDArray[np.int64]) -> dict[str, float]:
        sequences = [self.newest[place] for place in places]
        self.optimizer.zero_grad()
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        device = self.network.user.device
        table = np.zeros((len(sequences), int(lengths.max())), dtype=np.int64)
        for place, sequence in enumerate(sequences):
            table[place, : len(sequence)] = sequence
        rows = torch.from_numpy(table).to(device)
        real = torch.arange(rows.shape[1], device=device) < lengths.to(device)[:, None]
        states = self.network(rows[:, :-1])[real]
        targets = rows[real]
        leaf = states.detach().requires_grad_()
        loss = self._next_item(leaf, targets)
        aligned = 0.0
        if self.frozen is not None and self.alignment is not None:
            owner = torch.from_numpy(self.users[places].astype(np.int64)).to(device)
            owner = owner[:, None].expand_as(real)
            told = self.frozen.states(places).to(device)
            value = self.alignment(leaf, told, owner[real])
            torch.autograd.backward(self.alignment_weight * value)
            aligned = value.item() * len(targets)
        torch.autograd.backward(states, leaf.grad)
        nn.utils.clip_grad_norm_(self._trained.values(), 1.0)
        self.optimizer.step()
        return {"loss": loss} | ({} if self.alignment is None else {"alignment": aligned})

    def _next_item(self, leaf: Tensor, targets: Tensor) -> float:
        """Collect the gradient of the next-item loss at the states; return its sum.

        That at the item vectors is collected as well and sent on through their projection.
        """
        if self.loss == "bce":
            return self._against_one(leaf, targets)
        items = self.network.item_vectors(self.candidates)
        held = items.detach().requires_grad_()
        answers = self.answer_of[targets]
        total = 0.0
        # Slice by slice, so that the scores of a large catalogue are never held all at once.
        size = max(1, LOGITS_AT_ONCE // len(held))
        for part, answer in zip(torch.split(leaf, size), torch.split(answers, size), strict=True):
            loss = functional.cross_entropy(
                self.network.scores(part, held), answer, reduction="sum"
            )
            torch.autograd.backward(loss / len(targets))
            total += loss.item()
        torch.autograd.backward(items, held.grad)
        return total

    def _against_one(self, leaf: Tensor, targets: Tensor) -> float:
        """Binary cross-entropy of the chosen item and of one that was drawn, Molar's own loss."""
        drawn = torch.randint(len(self.candidates), targets.shape).to(targets.device)
        chosen = (leaf * self.network.item_vectors(targets)).sum(1)
        other = (leaf * self.network.item_vectors(self.candidates[drawn])).sum(1)
        # A draw that hits the chosen item says nothing.
        real = self.candidates[drawn] != targets
        loss = -(functional.logsigmoid(chosen) + functional.logsigmoid(-other) * real).sum()
        torch.autograd.backward(loss / len(targets))
        return loss.item()


def _both(network: UserModel, alignment: PostAlignment | None) -> nn.Module:
    return nn.ModuleDict({"network": network, **({"alignment": alignment} if alignment else {})})
