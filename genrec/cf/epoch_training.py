"""Training pass by pass: early stopping, a running average, a checkpoint after every epoch."""

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec.cf.progress import training_progress
from genrec.cf.training_checkpoint import Checkpoint, State, pack_optimizer, unpack_optimizer
from genrec.cf.validation import validate
from genrec.data.histories import Histories
from genrec.data.ranking import RankingModel
from genrec.errors import ConfigError

logger = logging.getLogger(__name__)

# Sequences of a step that an error names.
_SHOWN = 5
# Most logits held at once (64 MB); larger batches are scored in slices.
LOGITS_AT_ONCE = 2**24


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


Entry = TypeVar("Entry", bound=Epoch)


class EpochTraining(ABC, Generic[Entry]):
    """A network that is trained in place, and what is known about the epochs so far.

    What is validated and kept is a running average of the trained weights, which is steadier than
    the weights after any one step. The validation examples choose the epoch and nothing else.

    Args:
        label: Name of the model in messages.
        network: Put into training mode before each epoch.
        trained: Its parameters that are trained, and those of losses beside it, by name.
        schedule: How long and how fast.
        entry: Class of an entry of the log.
        rate_key: Key of the recipe that holds the learning rate, for messages.

    Attributes:
        log: One entry a finished epoch.
    """

    def __init__(
        self,
        label: str,
        network: nn.Module,
        trained: Mapping[str, nn.Parameter],
        schedule: Schedule,
        entry: type[Entry],
        rate_key: str,
    ) -> None:
        self.label = label
        self.schedule = schedule
        self.log: list[Entry] = []
        self._network = network
        self._trained = dict(trained)
        self._entry = entry
        self._rate_key = rate_key
        self.optimizer = torch.optim.AdamW(
            self._trained.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self._average = _copy(self._trained)
        self._best = _copy(self._trained)

    @abstractmethod
    def _step(self, places: NDArray[np.int64]) -> dict[str, float]:
        """Learn from the sequences at these places; return losses summed over their positions.

        The keys are fields of the log's entries, ``loss`` among them.
        """

    @abstractmethod
    def _ranker(self) -> RankingModel:
        """Return the network as it is validated."""

    def run(
        self,
        lengths: NDArray[np.integer],
        validation: Histories,
        checkpoint: Checkpoint | None,
        quiet: bool,
    ) -> None:
        """Train to the end and leave the weights with the best validation NDCG@10.

        Args:
            lengths: int[n], positions that are learned of each sequence.
            validation: Histories with targets; may be empty, then the last epoch is kept.
            checkpoint: Where to save after each epoch and to go on from.
            quiet: No progress bar.

        Raises:
            ConfigError: When a loss is no longer finite.
        """
        if checkpoint is not None:
            self._resume(checkpoint.load())
        with training_progress(quiet) as progress:
            total, done = self.schedule.epochs, len(self.log)
            task = progress.add_task(self.label, total=total, completed=done)
            while not self._done:
                self._epoch(lengths, validation)
                if checkpoint is not None:
                    checkpoint.save(self._state())
                progress.update(task, advance=1, description=self._described())
        self._load(self._best)
        self._network.eval()

    @property
    def _done(self) -> bool:
        """Whether all epochs are done or the last ``patience`` ones brought nothing better."""
        stale = len(self.log) - best_epoch(self.log)
        return len(self.log) >= self.schedule.epochs or stale >= self.schedule.patience

    def _described(self) -> str:
        last = self.log[-1]
        score = "" if last.ndcg_at_10 is None else f", NDCG@10 {last.ndcg_at_10:.4f}"
        return f"{self.label} loss {last.loss:.3f}{score}"

    @torch.no_grad()
    def _load(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in weights.items():
            self._trained[name].copy_(value)

    def _resume(self, state: State | None) -> None:
        """Go on from a saved state, if there is one."""
        if state is None:
            return
        self._load(state.weights)
        self._average = {
            name: value.to(self._trained[name].device) for name, value in state.average.items()
        }
        self._best = state.best
        unpack_optimizer(self.optimizer, state.optimizer)
        self.log = [self._entry(**entry) for entry in state.log]
        logger.info("%s goes on after epoch %d", self.label, len(self.log))

    def _state(self) -> State:
        """Return what the next epoch depends on."""
        return State(
            weights=_copy(self._trained),
            average=self._average,
            best=self._best,
            optimizer=pack_optimizer(self.optimizer),
            log=[asdict(entry) for entry in self.log],
        )

    def _epoch(self, lengths: NDArray[np.integer], validation: Histories) -> None:
        """Learn from every sequence once, validate, and log it."""
        started = time.perf_counter()
        number = len(self.log) + 1
        # Drawn from seed and epoch alone, so that a resumed training sees the same numbers.
        seeds = np.random.SeedSequence([self.schedule.seed, number])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        totals: dict[str, float] = {}
        self._network.train()
        cut = batches(lengths, self.schedule.batch_items, np.random.default_rng(seeds))
        for step, places in enumerate(cut, start=1):
            found = self._step(places)
            if not np.isfinite(list(found.values())).all():
                rows = ", ".join(map(str, places[:_SHOWN])) + ", ..." * (len(places) > _SHOWN)
                self._stop(found, f"{number}, step {step} of {len(cut)} (sequences {rows})")
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value
            # The mean of the first epoch's weights, then an exponential average over one epoch.
            self._follow(1 / (step if number == 1 else len(cut)))
        losses = {name: value / int(lengths.sum()) for name, value in totals.items()}
        # A step too large may show in the weights alone, if it was the last one.
        if not all(bool(value.isfinite().all()) for value in self._average.values()):
            self._stop(losses, f"{number}, and weights that are no numbers")
        recall, ndcg = self._validated(validation)
        self.log.append(
            self._entry(
                epoch=number,
                recall_at_10=recall,
                ndcg_at_10=ndcg,
                seconds=round(time.perf_counter() - started, 3),
                **losses,
            )
        )
        if best_epoch(self.log) == number:
            self._best = _copy(self._average)

    def _stop(self, losses: Mapping[str, float], where: str) -> NoReturn:
        """Refuse to go on, before what went wrong is validated, kept or written."""
        told = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise ConfigError(
            f"The training of {self.label} has {told} in epoch {where}; lower {self._rate_key} "
            f"(now {self.schedule.learning_rate}). The checkpoint of the last epoch that went well "
            "stays; a changed recipe starts anew."
        )

    @torch.no_grad()
    def _follow(self, rate: float) -> None:
        """Move the averaged weights towards the current ones by this share of the way."""
        for name, parameter in self._trained.items():
            self._average[name].lerp_(parameter, rate)

    def _validated(self, validation: Histories) -> tuple[float | None, float | None]:
        if not len(validation):
            return None, None
        current = _copy(self._trained)
        self._load(self._average)
        measured = validate(self._ranker(), validation)
        self._load(current)
        return measured


@torch.no_grad()
def _copy(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


def best_epoch(log: Sequence[Epoch]) -> int:
    """Return the number, from 1, of the first epoch with the best NDCG@10; 0 for an empty log.

    Without validation figures it is the last epoch.
    """
    if not log:
        return 0
    if log[-1].ndcg_at_10 is None:
        return log[-1].epoch
    return max(log, key=lambda entry: (entry.ndcg_at_10 or 0.0, -entry.epoch)).epoch


def write_log(log: Sequence[Epoch], path: Path) -> None:
    """Write the entries and which of them is the best as JSON."""
    body = {"best_epoch": best_epoch(log), "epochs": [asdict(entry) for entry in log]}
    path.write_text(json.dumps(body, indent=2) + "\n")


def read_log(path: Path) -> list[Epoch]:
    """Read the entries that ``write_log`` wrote."""
    body = json.loads(path.read_text(encoding="utf-8"))
    return [Epoch(**entry) for entry in body["epochs"]]


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
