"""Training Molar's user-side model: next item, and agreement with a collaborative model."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genrec.cf.progress import training_progress
from genrec.cf.sasrec_checkpoint import Checkpoint, State, pack_optimizer, unpack_optimizer
from genrec.cf.sasrec_training import (
    LOGITS_AT_ONCE,
    Epoch,
    Schedule,
    batches,
    best_epoch,
    describe,
)
from genrec.cf.validation import validate
from genrec.data.histories import Histories
from genrec.errors import ConfigError, DataError
from genrec.model.user_model import UserModel
from genrec.model.user_ranker import UserRanker
from genrec.training.frozen_users import FrozenUsers
from genrec.training.post_alignment import PostAlignment

logger = logging.getLogger(__name__)

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
    trainer = _Trainer(network, schedule, candidates, frozen, alignment)
    if checkpoint is not None:
        trainer.resume(checkpoint.load())
    newest = newest_items(sequences, network.max_history)
    with training_progress(quiet) as progress:
        task = progress.add_task("Molar", total=schedule.epochs, completed=len(trainer.log))
        while not trainer.done:
            trainer.epoch(newest, sequences.user, validation)
            if checkpoint is not None:
                checkpoint.save(trainer.state())
            progress.update(task, advance=1, description=describe("Molar", trainer.log[-1]))
    trainer.load(trainer.best)
    return trainer.log


def newest_items(sequences: Histories, max_history: int) -> list[NDArray[np.int32]]:
    """Return what is learned of each sequence: the newest items that are read, and one to guess."""
    return [sequences[i][-max_history - 1 :] for i in range(len(sequences))]


class _Trainer:
    """The network, its optimizer and what is known about the epochs so far."""

    def __init__(
        self,
        network: UserModel,
        schedule: UserSchedule,
        candidates: NDArray[np.bool_],
        frozen: FrozenUsers | None,
        alignment: PostAlignment | None,
    ) -> None:
        self.network, self.schedule = network, schedule
        self.frozen, self.alignment = frozen, alignment
        device = network.user.device
        self.candidates = torch.from_numpy(np.flatnonzero(candidates)).to(device)
        answer_of = np.full(len(candidates), -1)
        answer_of[candidates] = np.arange(candidates.sum())
        self.answer_of = torch.from_numpy(answer_of).to(device)
        self.trained = {
            name: p for name, p in _both(network, alignment).named_parameters() if p.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.log: list[UserEpoch] = []
        self.average = _copy(self.trained)
        self.best = _copy(self.trained)

    @property
    def done(self) -> bool:
        """Whether all epochs are done or the last ``patience`` ones brought nothing better."""
        stale = len(self.log) - best_epoch(self.log)
        return len(self.log) >= self.schedule.epochs or stale >= self.schedule.patience

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Put weights into the network."""
        for name, value in weights.items():
            self.trained[name].copy_(value)

    def resume(self, state: State | None) -> None:
        """Go on from a saved state, if there is one."""
        if state is None:
            return
        self.load(state.weights)
        device = self.network.user.device
        self.average = {name: value.to(device) for name, value in state.average.items()}
        self.best = state.best
        unpack_optimizer(self.optimizer, state.optimizer)
        self.log = [UserEpoch(**entry) for entry in state.log]
        logger.info("the user-side model goes on after epoch %d", len(self.log))

    def state(self) -> State:
        """Return what the next epoch depends on."""
        return State(
            weights=_copy(self.trained),
            average=self.average,
            best=self.best,
            optimizer=pack_optimizer(self.optimizer),
            log=[asdict(entry) for entry in self.log],
        )

    def epoch(
        self,
        newest: Sequence[NDArray[np.int32]],
        users: NDArray[np.int32],
        validation: Histories,
    ) -> None:
        """Learn from every sequence once, validate, and log it."""
        started = time.perf_counter()
        number = len(self.log) + 1
        # Drawn from seed and epoch alone, so that a resumed training sees the same numbers.
        seeds = np.random.SeedSequence([self.schedule.seed, number])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        lengths = np.asarray([len(sequence) for sequence in newest])
        totals = np.zeros(2)
        self.network.train()
        cut = batches(lengths, self.schedule.batch_items, np.random.default_rng(seeds))
        for step, batch in enumerate(cut, start=1):
            totals += self._step([newest[i] for i in batch], batch, users[batch])
            # The mean of the first epoch's weights, then an exponential average over one epoch.
            self._average(1 / (step if number == 1 else len(cut)))
        loss, alignment = (totals / lengths.sum()).tolist()
        if not np.isfinite(loss + alignment):
            raise ConfigError(
                f"The loss of Molar's user-side model is {loss} and that of its alignment "
                f"{alignment} in epoch {number}; lower molar.learning_rate (now "
                f"{self.schedule.learning_rate})."
            )
        recall, ndcg = self._validate(validation)
        self.log.append(
            UserEpoch(
                number,
                loss,
                recall,
                ndcg,
                round(time.perf_counter() - started, 3),
                alignment if self.alignment is not None else None,
            )
        )
        if best_epoch(self.log) == number:
            self.best = _copy(self.average)

    def _validate(self, validation: Histories) -> tuple[float | None, float | None]:
        if not len(validation):
            return None, None
        current = _copy(self.trained)
        self.load(self.average)
        measured = validate(UserRanker(self.network), validation)
        self.load(current)
        return measured

    @torch.no_grad()
    def _average(self, rate: float) -> None:
        """Move the averaged weights towards the current ones by this share of the way."""
        for name, parameter in self.trained.items():
            self.average[name].lerp_(parameter, rate)

    def _step(
        self,
        sequences: Sequence[NDArray[np.int32]],
        places: NDArray[np.int64],
        users: NDArray[np.int32],
    ) -> NDArray[np.float64]:
        """Learn from one batch; return both losses summed over its positions.

        Args:
            sequences: Newest items, oldest first.
            places: int64[B], where they stand among all.
            users: int32[B], whose they are.
        """
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
            owner = torch.from_numpy(users.astype(np.int64)).to(device)[:, None].expand_as(real)
            told = self.frozen.states(places).to(device)
            value = self.alignment(leaf, told, owner[real])
            torch.autograd.backward(self.schedule.alignment_weight * value)
            aligned = value.item() * len(targets)
        torch.autograd.backward(states, leaf.grad)
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        return np.asarray([loss, aligned])

    def _next_item(self, leaf: Tensor, targets: Tensor) -> float:
        """Collect the gradient of the next-item loss at the states; return its sum.

        That at the item vectors is collected as well and sent on through their projection.
        """
        if self.schedule.loss == "bce":
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


@torch.no_grad()
def _copy(parameters: dict[str, nn.Parameter] | dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}
