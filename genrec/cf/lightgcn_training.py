"""Training LightGCN and BPR: triples drawn anew each epoch, early stopping."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.cf.epoch_training import Epoch, best_epoch
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.lightgcn import Graph, LightGcn
from genrec.cf.progress import training_progress
from genrec.cf.training_checkpoint import Checkpoint, State, pack_optimizer, unpack_optimizer
from genrec.cf.validation import validate
from genrec.data.histories import Histories
from genrec.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphSchedule:
    """How long and how fast to train.

    Attributes:
        epochs: Most passes over the edges.
        patience: Stop after so many validations without a better NDCG@10.
        every: Epochs between validations.
        batch: Triples in a batch.
        learning_rate: Step size of Adam.
        regularisation: Weight of the squared lengths of the vectors.
        seed: Seed of initial vectors and triples.
    """

    epochs: int = 200
    patience: int = 5
    every: int = 5
    batch: int = 4096
    learning_rate: float = 5e-3
    regularisation: float = 1e-4
    seed: int = 42


def train(
    sequences: Histories,
    validation: Histories,
    items: int,
    schedule: GraphSchedule,
    *,
    dimensions: int = 64,
    layers: int = 3,
    device: torch.device | str = "cpu",
    checkpoint: Checkpoint | None = None,
    quiet: bool = True,
) -> tuple[LightGcn, list[Epoch]]:
    """Train on who chose what and keep the vectors with the best validation NDCG@10.

    Args:
        sequences: Training items per user; order and repeats play no part.
        validation: Histories with targets; may be empty, then the last epoch is kept.
        items: Size of the catalogue.
        schedule: How long and how fast.
        dimensions: Width of the vectors.
        layers: Convolutions; 0 trains BPR.
        device: Where to compute.
        checkpoint: Where to save after each validation and to go on from.
        quiet: No progress bar.

    Returns:
        The network with its best vectors, and one entry a validation.

    Raises:
        DataError: When there is no training event.
        ConfigError: When the loss is no longer finite.
    """
    if not len(sequences.items):
        raise DataError("There is no training event to learn a graph from; check the split.")
    name = "LightGCN" if layers else "BPR"
    device = torch.device(device)
    torch.manual_seed(schedule.seed)
    graph = Graph.of(sequences, items)
    network = LightGcn(graph, dimensions=dimensions, layers=layers).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
    log: list[Epoch] = []
    best = network.vectors.detach().clone()
    state = None if checkpoint is None else checkpoint.load()
    if state is not None:
        network.load_state_dict(state.weights)
        unpack_optimizer(optimizer, state.optimizer)
        best = state.best["vectors"].to(device)
        log = [Epoch(**entry) for entry in state.log]
        logger.info("%s goes on after epoch %d", name, log[-1].epoch)
    done = log[-1].epoch if log else 0
    with training_progress(quiet) as progress:
        task = progress.add_task(name, total=schedule.epochs, completed=done)
        for epoch in range(done + 1, schedule.epochs + 1):
            if _stale(log) >= schedule.patience:
                break
            begun = time.perf_counter()
            loss = _epoch(network, optimizer, schedule, epoch)
            if not (np.isfinite(loss) and bool(network.vectors.isfinite().all())):
                raise ConfigError(
                    f"The loss of {name} is {loss} in epoch {epoch}; lower its learning_rate (now "
                    f"{schedule.learning_rate})."
                )
            progress.update(task, advance=1, description=f"{name} loss {loss:.4f}")
            if epoch % schedule.every and epoch != schedule.epochs:
                continue
            ranker = GraphRanker.of(network)
            recall, ndcg = validate(ranker, validation) if len(validation) else (None, None)
            log.append(Epoch(epoch, loss, recall, ndcg, round(time.perf_counter() - begun, 3)))
            if best_epoch(log) == epoch:
                best = network.vectors.detach().clone()
            if checkpoint is not None:
                checkpoint.save(_state(network, best, optimizer, log))
    with torch.no_grad():
        network.vectors.copy_(best)
    return network, log


def _stale(log: Sequence[Epoch]) -> int:
    """Return the validations since the best one."""
    return sum(entry.epoch > best_epoch(log) for entry in log)


def _state(
    network: LightGcn, best: Tensor, optimizer: torch.optim.Optimizer, log: Sequence[Epoch]
) -> State:
    """Return what the next epoch depends on; there is no average of the weights here."""
    return State(
        weights=network.state_dict(),
        average={},
        best={"vectors": best},
        optimizer=pack_optimizer(optimizer),
        log=[asdict(entry) for entry in log],
    )


def _epoch(
    network: LightGcn, optimizer: torch.optim.Optimizer, schedule: GraphSchedule, number: int
) -> float:
    """Learn from every edge once, each beside an item its user did not choose."""
    graph, device = network.graph, network.vectors.device
    generator = np.random.default_rng([schedule.seed, number])
    order = torch.from_numpy(generator.permutation(len(graph.user)))
    others = torch.from_numpy(not_chosen(graph, generator))
    total = 0.0
    for part in torch.split(order, schedule.batch):
        triple: Sequence[Tensor] = [
            rows[part].to(device) for rows in (graph.user, graph.item, others)
        ]
        optimizer.zero_grad()
        loss = network.loss(triple[0], triple[1], triple[2], schedule.regularisation)
        torch.autograd.backward(loss)
        optimizer.step()
        total += loss.item() * len(part)
    return total / len(order)


def not_chosen(graph: Graph, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw for each edge an item that its user did not choose, int64[edges].

    A user who chose nearly all items may keep one of its own after a hundred draws.
    """
    user, item = graph.user.numpy(), graph.item.numpy()
    # Edges are sorted by user and item.
    keys = user * graph.items + item
    drawn = generator.integers(0, graph.items, len(user))
    for _ in range(100):
        wanted = user * graph.items + drawn
        place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        again = np.flatnonzero(keys[place] == wanted)
        if not len(again):
            break
        drawn[again] = generator.integers(0, graph.items, len(again))
    return drawn
