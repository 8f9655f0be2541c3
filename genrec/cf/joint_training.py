"""Training the joint vectors: what the last training item of each user teaches."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.cf.joint import JointBatch, JointNetwork, JointWeights, joint_losses, total
from genrec.cf.progress import training_progress
from genrec.errors import ConfigError, DataError


@dataclass(frozen=True)
class JointData:
    """What stage 1 learns from; all of it from the training part.

    Attributes:
        items: float32[n, d], cf vectors.
        texts: float32[n, t], text vectors.
        known: bool[n], whether there are training events of an item.
        has_text: bool[n].
        states: float32[u, d], the cf model's state of each user before the last training item.
        chosen: int64[u], that item.
        seen: int64[m], sorted ``user * n + item`` of all training events of these users.
    """

    items: NDArray[np.float32]
    texts: NDArray[np.float32]
    known: NDArray[np.bool_]
    has_text: NDArray[np.bool_]
    states: NDArray[np.float32]
    chosen: NDArray[np.int64]
    seen: NDArray[np.int64]


@dataclass(frozen=True)
class JointSchedule:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the users.
        batch: Users in a batch.
        learning_rate: Step size of Adam.
        seed: Seed of initial weights, order and drawn items.
    """

    epochs: int = 20
    batch: int = 128
    learning_rate: float = 1e-3
    seed: int = 42


def train_joint(
    data: JointData,
    weights: JointWeights,
    schedule: JointSchedule,
    *,
    dimensions: int,
    device: torch.device | str = "cpu",
    quiet: bool = True,
) -> tuple[JointNetwork, list[dict[str, float]]]:
    """Train both autoencoders.

    Returns:
        The network, and for each epoch the mean of every loss, those of weight 0 too.

    Raises:
        DataError: When no user has two training events.
        ConfigError: When all weights are 0, or the loss is no longer finite.
    """
    if not any(asdict(weights).values()):
        raise ConfigError("all weights of align are 0, so there is nothing to learn; set one.")
    if not len(data.chosen):
        raise DataError(
            "no user has two training events, so there is no next item to learn joint vectors "
            "from; check the split."
        )
    torch.manual_seed(schedule.seed)
    network = JointNetwork(
        data.items.shape[1],
        data.texts.shape[1],
        dimensions,
        _root_mean_square(data.items[data.known]),
        _root_mean_square(data.texts),
    ).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
    log: list[dict[str, float]] = []
    with training_progress(quiet) as progress:
        task = progress.add_task("joint vectors", total=schedule.epochs)
        for epoch in range(1, schedule.epochs + 1):
            means = _epoch(network, optimizer, data, weights, schedule, epoch)
            if not all(np.isfinite(value) for value in means.values()):
                raise ConfigError(
                    f"a loss of align is not finite in epoch {epoch} ({means}); lower "
                    f"align.learning_rate (now {schedule.learning_rate})."
                )
            log.append({"epoch": epoch, **means})
            progress.update(task, advance=1)
    return network, log


def _epoch(
    network: JointNetwork,
    optimizer: torch.optim.Optimizer,
    data: JointData,
    weights: JointWeights,
    schedule: JointSchedule,
    number: int,
) -> Mapping[str, float]:
    """Learn from every user once; return the mean of each loss."""
    generator = np.random.default_rng([schedule.seed, number])
    order = generator.permutation(len(data.chosen))
    drawn = not_seen(data, generator)
    sums: dict[str, float] = {}
    for start in range(0, len(order), schedule.batch):
        users = order[start : start + schedule.batch]
        rows = np.concatenate([data.chosen[users], drawn[users]])
        optimizer.zero_grad()
        losses = joint_losses(network, _batch(data, users, rows, network.item_scale.device))
        torch.autograd.backward(total(losses, weights))
        optimizer.step()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(users)
    return {name: value / len(order) for name, value in sums.items()}


def _batch(
    data: JointData, users: NDArray[np.int64], rows: NDArray[np.int64], device: torch.device
) -> JointBatch:
    def moved(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return JointBatch(
        moved(data.states[users]),
        moved(data.items[rows]),
        moved(data.texts[rows]),
        moved(data.has_text[rows]),
    )


def not_seen(data: JointData, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw for each user a known item that the user did not choose, int64[u].

    A user who chose nearly all items may get one of these after a hundred draws.
    """
    pool = np.flatnonzero(data.known)
    users, items = np.arange(len(data.chosen)), len(data.items)
    drawn = generator.choice(pool, len(users))
    for _ in range(100):
        again = np.flatnonzero(np.isin(users * items + drawn, data.seen, kind="sort"))
        if not len(again):
            break
        drawn[again] = generator.choice(pool, len(again))
    return drawn


def _root_mean_square(vectors: NDArray[np.float32]) -> float:
    """Return it, or 1 for a table of zeros."""
    return float(np.sqrt(np.square(vectors, dtype=np.float64).mean())) or 1.0
