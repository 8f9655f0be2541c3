"""Training SASRec: batches of like lengths, early stopping, a checkpoint after every epoch."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from genrec.cf.progress import training_progress
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_checkpoint import Checkpoint, State, pack_optimizer, unpack_optimizer
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.validation import validate
from genrec.data.histories import Histories
from genrec.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

# Most logits held at once (64 MB); larger batches are scored in slices.
LOGITS_AT_ONCE = 2**24

Network = TypeVar("Network", bound=SasRec)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: Most passes over the training sequences.
        patience: Stop after so many epochs without a better validation NDCG@10.
        batch_items: Most positions in a batch, padding included.
        learning_rate: Step size of AdamW.
        weight_decay: Weight decay of AdamW.
        seed: Seed of initial weights, batch order and dropout.
    """

    epochs: int = 100
    patience: int = 8
    batch_items: int = 2048
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 42


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; the validation figures are none when there is nothing to validate on."""

    epoch: int
    loss: float
    recall_at_10: float | None
    ndcg_at_10: float | None
    seconds: float


def train(
    sequences: Histories,
    validation: Histories,
    schedule: Schedule,
    build: Callable[[], Network],
    *,
    extra_loss: Callable[[Network], Tensor] | None = None,
    label: str = "SASRec",
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    checkpoint: Checkpoint | None = None,
    quiet: bool = True,
) -> tuple[Network, list[Epoch]]:
    """Train a network on the sequences and keep the weights with the best validation NDCG@10.

    Every position of a sequence is trained to predict the item that follows, by cross-entropy
    over the whole catalogue. What is validated and returned is a running average of the weights,
    which is steadier than the weights after any one step. The validation examples choose the
    epoch and nothing else.

    Args:
        sequences: Training items per user, oldest first; the newest ``max_history`` are learned.
        validation: Histories with targets; may be empty, then the last epoch is kept.
        schedule: How long and how fast.
        build: Makes the untrained network; called once, after seeding.
        extra_loss: What a step adds to its mean loss a position, drawn anew for each; the logged
            loss is without it.
        label: Name of the model in messages.
        device: Where to compute.
        precision: Number type of the scores of all items, which are most of the work of a large
            catalogue; weights and all else stay in float32.
        checkpoint: Where to save after each epoch and to go on from.
        quiet: No progress bar.

    Returns:
        The trained network and one entry an epoch.

    Raises:
        DataError: When there is no training event.
        ConfigError: When the loss is no longer finite.
    """
    if not len(sequences.items):
        raise DataError(f"There is no training event to learn {label} from; check the split.")
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(schedule.seed)
        trainer = _Trainer(build().to(device), schedule, extra_loss, label, precision)
        if checkpoint is not None:
            trainer.resume(checkpoint.load())
        newest = [sequences[i][-trainer.network.max_history :] for i in range(len(sequences))]
        with training_progress(quiet) as progress:
            task = progress.add_task(label, total=schedule.epochs, completed=len(trainer.log))
            while not trainer.done:
                trainer.epoch(newest, validation)
                if checkpoint is not None:
                    checkpoint.save(trainer.state())
                progress.update(task, advance=1, description=describe(label, trainer.log[-1]))
    network = trainer.average.requires_grad_()
    network.load_state_dict(trainer.best)
    return network, trainer.log


def describe(label: str, epoch: Epoch) -> str:
    """Return what an epoch gave, for a progress bar."""
    score = "" if epoch.ndcg_at_10 is None else f", NDCG@10 {epoch.ndcg_at_10:.4f}"
    return f"{label} loss {epoch.loss:.3f}{score}"


class _Trainer(Generic[Network]):
    """The network, its optimizer and what is known about the epochs so far."""

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        extra_loss: Callable[[Network], Tensor] | None,
        label: str,
        precision: torch.dtype,
    ) -> None:
        self.network = network
        self.schedule = schedule
        self.extra_loss = extra_loss
        self.label = label
        self.precision = precision
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.log: list[Epoch] = []
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self.best = _weights(self.average)

    @property
    def done(self) -> bool:
        """Whether all epochs are done or the last ``patience`` ones brought nothing better."""
        stale = len(self.log) - best_epoch(self.log)
        return len(self.log) >= self.schedule.epochs or stale >= self.schedule.patience

    def resume(self, state: State | None) -> None:
        """Go on from a saved state, if there is one."""
        if state is None:
            return
        self.network.load_state_dict(state.weights)
        self.average.load_state_dict(state.average)
        self.best = state.best
        unpack_optimizer(self.optimizer, state.optimizer)
        self.log = [Epoch(**entry) for entry in state.log]
        logger.info("%s goes on after epoch %d", self.label, len(self.log))

    def state(self) -> State:
        """Return what the next epoch depends on."""
        return State(
            weights=_weights(self.network),
            average=_weights(self.average),
            best=self.best,
            optimizer=pack_optimizer(self.optimizer),
            log=[asdict(entry) for entry in self.log],
        )

    def epoch(self, newest: Sequence[NDArray[np.int32]], validation: Histories) -> None:
        """Learn from every sequence once, validate, and log it."""
        started = time.perf_counter()
        number = len(self.log) + 1
        # Drawn from seed and epoch alone, so that a resumed training sees the same numbers.
        seeds = np.random.SeedSequence([self.schedule.seed, number])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        lengths = np.asarray([len(sequence) for sequence in newest])
        total = 0.0
        self.network.train()
        generator = np.random.default_rng(seeds)
        cut = batches(lengths, self.schedule.batch_items, generator)
        for step, batch in enumerate(cut, start=1):
            total += self._step([newest[i] for i in batch])
            # The mean of the first epoch's weights, then an exponential average over one epoch.
            self._average(1 / (step if number == 1 else len(cut)))
        loss = total / int(lengths.sum())
        if not np.isfinite(loss):
            raise ConfigError(
                f"The loss of {self.label} is {loss} in epoch {number}; lower cf.learning_rate "
                f"(now {self.schedule.learning_rate})."
            )
        recall, ndcg = (
            validate(SasRecRanker(self.average), validation) if len(validation) else (None, None)
        )
        seconds = round(time.perf_counter() - started, 3)
        self.log.append(Epoch(number, loss, recall, ndcg, seconds))
        if best_epoch(self.log) == number:
            self.best = _weights(self.average)

    def _average(self, rate: float) -> None:
        """Move the averaged weights towards the current ones by this share of the way."""
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for average, current in pairs:
            average.lerp_(current.detach(), rate)

    def _step(self, sequences: Sequence[NDArray[np.int32]]) -> float:
        """Learn from one batch; return the loss summed over its positions."""
        rows, lengths = self.network.pad(sequences)
        # The state at position i predicts item i; the last state has nothing to predict.
        where = torch.arange(rows.shape[1] - 1, device=rows.device)
        real = where < (lengths - 1)[:, None]
        targets = rows[:, 1:][real]
        self.optimizer.zero_grad()
        states = self.network(rows[:, :-1], lengths - 1)[real]
        # The gradient of the scores is collected slice by slice at the states, so that the
        # logits of a large catalogue are never held all at once.
        leaf = states.detach().requires_grad_()
        total = 0.0
        size = max(1, LOGITS_AT_ONCE // self.network.items)
        for part, target in zip(torch.split(leaf, size), torch.split(targets, size), strict=True):
            scores = self.network.scores(part, self.precision)
            # Summed in float32: a sum of many in half precision loses its last parts.
            loss = functional.cross_entropy(scores, target, reduction="none").float().sum()
            torch.autograd.backward(loss / len(targets))
            total += loss.item()
        torch.autograd.backward(states, leaf.grad)
        if self.extra_loss is not None:
            torch.autograd.backward(self.extra_loss(self.network))
        self.optimizer.step()
        return total


def _weights(network: SasRec) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def best_epoch(log: Sequence[Epoch]) -> int:
    """Return the number, from 1, of the first epoch with the best NDCG@10; 0 for an empty log.

    Without validation figures it is the last epoch.
    """
    if not log or log[-1].ndcg_at_10 is None:
        return len(log)
    return max(log, key=lambda entry: (entry.ndcg_at_10 or 0.0, -entry.epoch)).epoch


def batches(
    lengths: NDArray[np.integer], most: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Cut sequences into batches of like lengths, in random order.

    Args:
        lengths: int[n], items of each sequence.
        most: Most positions in a batch, padding included; a longer sequence is a batch alone.
        generator: Draws which sequences of one length meet, and the order of the batches.

    Returns:
        Positions of the sequences of each batch; every sequence is in exactly one.
    """
    order = generator.permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    result = []
    start = 0
    while start < len(order):
        end = start + max(1, most // max(1, int(lengths[order[start]])))
        result.append(order[start:end])
        start = end
    return [result[i] for i in generator.permutation(len(result))]
