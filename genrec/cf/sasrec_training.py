"""Training SASRec: every position predicts the next item, over the whole catalogue."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from genrec.cf.epoch_training import LOGITS_AT_ONCE, Epoch, EpochTraining, Schedule
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.training_checkpoint import Checkpoint
from genrec.data.histories import Histories
from genrec.errors import DataError

Network = TypeVar("Network", bound=SasRec)


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
        sequences: Training items per user, oldest first; ``max_history`` and one more are learned.
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
        network = build().to(device)
        # One more than is read: the last one is only guessed, after as many as in serving.
        most = network.max_history + 1
        newest = [sequences[i][-most:] for i in range(len(sequences))]
        trainer = _Training(network, newest, schedule, extra_loss, label, precision)
        lengths = np.asarray([len(sequence) for sequence in newest])
        trainer.run(lengths, validation, checkpoint, quiet)
    return network, trainer.log


class _Training(EpochTraining[Epoch]):
    """SASRec's loss at every position, and a loss of its own beside it."""

    def __init__(
        self,
        network: Network,
        newest: Sequence[NDArray[np.int32]],
        schedule: Schedule,
        extra_loss: Callable[[Network], Tensor] | None,
        label: str,
        precision: torch.dtype,
    ) -> None:
        trained = dict(network.named_parameters())
        super().__init__(label, network, trained, schedule, Epoch, "cf.learning_rate")
        self.network = network
        self.newest = newest
        self.extra_loss = extra_loss
        self.precision = precision

    def _ranker(self) -> SasRecRanker:
        return SasRecRanker(self.network)

    def _step(self, places: NDArray[np.int64]) -> dict[str, float]:
        sequences = [self.newest[place] for place in places]
        rows, lengths = self.network.pad(sequences, self.network.max_history + 1)
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
        return {"loss": total}
