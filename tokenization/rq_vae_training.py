"""Training an RQ-VAE: revival of dead codes, the best epoch kept, a checkpoint to go on from."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional

from genrec.cf.training_checkpoint import Checkpoint, State, pack_optimizer, unpack_optimizer
from genrec.errors import ConfigError
from genrec.tokenization.collisions import dense_ids
from genrec.tokenization.kmeans import blocks
from genrec.tokenization.letter_losses import Letter, LetterLosses
from genrec.tokenization.rq_vae_network import Assignment, RqVaeNetwork, Scaling
from genrec.tokenization.sinkhorn import one_thread

logger = logging.getLogger(__name__)

# Epochs between two looks at the whole catalogue: scores, revival of dead codes, checkpoint.
EPOCHS_A_ROUND = 5
# The learning rate rises over the first 5 % of the steps; no code is revived in the last 20 %.
WARM_UP = 0.05
SETTLING = 0.2
LONGEST_GRADIENT = 1.0
# A latent or code with such a number comes from steps that are too long.
LARGEST_NUMBER = 1e12
# Codes learn so many times faster than the layers: they have to keep up with moving latents.
CODEBOOK_RATE = 10.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the items.
        batch_size: Items in a step; an epoch is cut into equal batches of at most so many.
        learning_rate: Peak step size of AdamW; it rises linearly, then falls linearly to 0.
        weight_decay: Weight decay of AdamW.
        seed: Seed of initial weights, batches and revivals.
    """

    epochs: int = 200
    batch_size: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 42


@dataclass(frozen=True)
class Round:
    """What a few epochs gave, measured over all items with the nearest code at every level.

    Attributes:
        epoch: Number of the last epoch of the round, from 1.
        loss: Mean training loss of that epoch.
        collision_rate: ``1 - distinct tuples / items``.
        error: Share of the vectors' variance that the reconstruction loses.
        revived: Dead codes that were moved afterwards.
        seconds: Time of the round.
    """

    epoch: int
    loss: float
    collision_rate: float
    error: float
    revived: int
    seconds: float

    @property
    def score(self) -> float:
        """Collision rate plus error, both shares; the smaller, the better."""
        return self.collision_rate + self.error


def train(
    x: NDArray[Any],
    scaling: Scaling,
    schedule: Schedule,
    build: Callable[[], RqVaeNetwork],
    *,
    letter: Letter | None = None,
    checkpoint: Checkpoint | None = None,
    quiet: bool = True,
) -> tuple[RqVaeNetwork, list[Round]]:
    """Train a network on vectors and keep the weights of the best round.

    The loss is the mean squared error of the reconstruction, plus the network's codebook and
    commitment loss, plus LETTER's losses where they have a weight. The best round has the
    smallest sum of collision rate and error: either alone is easily had at the other's cost.

    A code that is nobody's nearest at the end of a round is moved onto what is left of an item
    at that level, drawn in proportion to its squared error.

    torch runs on one thread, and random numbers depend on seed and epoch alone, so the result
    depends neither on the number of threads nor on an interruption.

    Args:
        x: Numbers [n, d], perhaps memory-mapped.
        scaling: How they are scaled for the network.
        schedule: How long and how fast.
        build: Makes the untrained network; called once, after seeding.
        letter: LETTER's losses; None for none.
        checkpoint: Where to save after each round and to go on from.
        quiet: No progress bar.

    Returns:
        The trained network and one entry a round.

    Raises:
        ConfigError: When the loss is no longer finite.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        trainer = _Trainer(build(), x, scaling, schedule, letter or Letter())
        state = None if checkpoint is None else checkpoint.load()
        if state is None:
            trainer.start()
        else:
            trainer.resume(state)
        with _progress(quiet) as progress:
            task = progress.add_task("RQ-VAE", total=schedule.epochs, completed=trainer.epochs)
            while trainer.epochs < schedule.epochs:
                trainer.round()
                if checkpoint is not None:
                    checkpoint.save(trainer.state())
                progress.update(
                    task, completed=trainer.epochs, description=_describe(trainer.log[-1])
                )
    trainer.network.load_state_dict(trainer.best)
    return trainer.network.requires_grad_(False), trainer.log


def best_round(log: list[Round]) -> Round:
    """Return the first round with the smallest score."""
    return min(log, key=lambda entry: (entry.score, entry.epoch))


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet)


def _describe(entry: Round) -> str:
    return f"RQ-VAE error {entry.error:.3f}, collisions {entry.collision_rate:.1%}"


class _Trainer:
    """The network, its optimizer and what is known about the rounds so far."""

    def __init__(
        self,
        network: RqVaeNetwork,
        x: NDArray[Any],
        scaling: Scaling,
        schedule: Schedule,
        letter: Letter,
    ) -> None:
        self.network = network
        self.letter = LetterLosses(letter, network.dimensions)
        self.everything = nn.ModuleDict({"network": network, "letter": self.letter})
        self.x = x
        self.scaling = scaling
        self.schedule = schedule
        self.batches = -(-len(x) // schedule.batch_size)
        layers = [
            parameter
            for name, parameter in self.everything.named_parameters()
            if not name.startswith("network.codebooks")
        ]
        groups = [
            {"params": layers, "rate": 1.0},
            {"params": list(network.codebooks), "rate": CODEBOOK_RATE},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay, fused=True)
        self.log: list[Round] = []
        self.best: dict[str, Tensor] = {}

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return self.log[-1].epoch if self.log else 0

    def start(self) -> None:
        """Place the codes by k-means on the latents of the untrained encoder."""
        with torch.no_grad():
            parts = [self.network.encoder(self._scaled(rows)) for rows in blocks(len(self.x))]
        self.network.start_codebooks(torch.cat(parts).numpy(), self.schedule.seed)

    def resume(self, state: State) -> None:
        """Go on from a saved state."""
        self.everything.load_state_dict(state.weights)
        self.best = state.best
        unpack_optimizer(self.optimizer, state.optimizer)
        self.log = [Round(**entry) for entry in state.log]
        logger.info("RQ-VAE goes on after epoch %d", self.epochs)

    def state(self) -> State:
        """Return what the next round depends on."""
        return State(
            weights=_copy(self.everything),
            average={},
            best=self.best,
            optimizer=pack_optimizer(self.optimizer),
            log=[asdict(entry) for entry in self.log],
        )

    def _scaled(self, rows: slice | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.scaling.scaled(self.x[rows]).astype(np.float32))

    def round(self) -> None:
        """Train for a few epochs, measure, keep the weights if they are the best, revive."""
        started = time.perf_counter()
        last = min(self.epochs + EPOCHS_A_ROUND, self.schedule.epochs)
        for number in range(self.epochs + 1, last + 1):
            loss = self._epoch(number)
        assigned, error = self._assign()
        tuples = int(dense_ids(assigned.codes.numpy().astype(np.int32)).max()) + 1
        collision_rate = 1 - tuples / len(self.x)
        if not self.log or collision_rate + error < best_round(self.log).score:
            self.best = _copy(self.network)
        settling = last > (1 - SETTLING) * self.schedule.epochs
        revived = 0 if settling else self._revive(assigned, last)
        seconds = round(time.perf_counter() - started, 3)
        self.log.append(Round(last, loss, collision_rate, error, revived, seconds))

    def _epoch(self, number: int) -> float:
        """Learn from every item once; return the mean loss of the steps."""
        # Drawn from seed and epoch alone, so that a resumed training sees the same numbers.
        generator = np.random.default_rng([self.schedule.seed, number])
        self.letter.start_epoch(self.network.codebooks, self.schedule.seed + number)
        order = generator.permutation(len(self.x))
        total = 0.0
        for batch, rows in enumerate(np.array_split(order, self.batches)):
            for group in self.optimizer.param_groups:
                group["lr"] = group["rate"] * self._rate((number - 1) * self.batches + batch)
            total += self._step(rows, generator)
            if not np.isfinite(total):
                break
        if not np.isfinite(total):
            raise ConfigError(
                f"The loss of the RQ-VAE is {total} in epoch {number}; lower "
                f"index.rq_vae.learning_rate (now {self.schedule.learning_rate})."
            )
        return total / self.batches

    def _rate(self, step: int) -> float:
        steps = self.schedule.epochs * self.batches
        warm_up = WARM_UP * steps
        share = min((step + 1) / max(warm_up, 1.0), (steps - step) / max(steps - warm_up, 1.0), 1.0)
        return self.schedule.learning_rate * share

    def _step(self, rows: NDArray[np.int64], generator: np.random.Generator) -> float:
        x = self._scaled(rows)
        encoded = self.network.encoder(x)
        if not _usable(encoded, *self.network.codebooks):
            return float("nan")
        latents = self.network.quantize(encoded)
        loss: Tensor = functional.mse_loss(self.network.decoder(latents.quantized), x)
        loss = loss + latents.loss
        loss = loss + self.letter(
            torch.from_numpy(rows),
            latents.codes,
            latents.quantized,
            self.network.codebooks,
            generator,
        )
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.everything.parameters(), LONGEST_GRADIENT)
        self.optimizer.step()
        return loss.item() if _usable(*self.network.codebooks) else float("nan")

    @torch.no_grad()
    def _assign(self) -> tuple[Assignment, float]:
        """Return the nearest codes of all items, and the share of their variance that is lost."""
        parts, lost, spread = [], 0.0, 0.0
        for rows in blocks(len(self.x)):
            x = self._scaled(rows)
            parts.append(self.network.assign(self.network.encoder(x)))
            rest = self.network.decoder(parts[-1].quantized) - x
            lost += float(rest.square().sum(dtype=torch.float64))
            spread += float(x.square().sum(dtype=torch.float64))
        return Assignment.join(parts), lost / (spread or 1.0)

    @torch.no_grad()
    def _revive(self, assigned: Assignment, epoch: int) -> int:
        """Move codes that no item has onto residuals that fit badly; return their number."""
        generator = np.random.default_rng([self.schedule.seed, epoch, 1])
        revived = 0
        for level, codebook in enumerate(self.network.codebooks):
            share = assigned.errors[:, level].double().numpy()
            used = np.bincount(assigned.codes[:, level], minlength=len(codebook)) > 0
            dead = np.flatnonzero(~used)[: np.count_nonzero(share)]
            if len(dead):
                rows = generator.choice(len(share), len(dead), replace=False, p=share / share.sum())
                codebook[dead] = assigned.residuals[rows, level]
                for entry in ("exp_avg", "exp_avg_sq"):
                    self.optimizer.state[codebook][entry][dead] = 0
            revived += len(dead)
        return revived


def _usable(*tensors: Tensor) -> bool:
    """Tell whether all numbers are finite and can be squared and added up."""
    return all(float(tensor.detach().abs().amax()) < LARGEST_NUMBER for tensor in tensors)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
