"""Tuning Molar's item-side model on its tasks."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrec.cf.progress import training_progress
from genrec.cf.training_checkpoint import Checkpoint, State, pack_optimizer, unpack_optimizer
from genrec.errors import ConfigError
from genrec.model.item_reader import ItemReader
from genrec.training.item_tasks import ItemExample

logger = logging.getLogger(__name__)

# Steps between two writes of the checkpoint, and between two entries of the log.
EVERY = 100


@dataclass(frozen=True)
class ItemSchedule:
    """How long and how fast to tune.

    Attributes:
        epochs: Passes over the examples.
        batch_size: Examples in a step.
        learning_rate: Peak step size of AdamW.
        warmup: Share of the steps in which it rises; then it falls by a cosine to zero.
        seed: Seed of order and dropout.
    """

    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 1e-4
    warmup: float = 0.05
    seed: int = 42


def tune_items(
    reader: ItemReader,
    examples: Sequence[ItemExample],
    schedule: ItemSchedule,
    *,
    checkpoint: Checkpoint | None = None,
    quiet: bool = True,
) -> list[dict[str, Any]]:
    """Tune the parameters of the reader's model that require gradients, in place.

    Args:
        reader: The model and how it reads.
        examples: Of all tasks; they are mixed.
        schedule: How long and how fast.
        checkpoint: Where to save now and then, and to go on from.
        quiet: No progress bar.

    Returns:
        One entry every hundred steps: the step, the mean loss of each task since the last, and the
        number of examples that were ``cut`` to item_model.max_tokens.

    Raises:
        ConfigError: When loss or gradient are no longer finite; the last good checkpoint stays.
    """
    trained = {name: p for name, p in reader.model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=schedule.learning_rate)
    steps = schedule.epochs * math.ceil(len(examples) / schedule.batch_size)
    log: list[dict[str, Any]] = []
    done = 0
    state = checkpoint.load() if checkpoint is not None else None
    if state is not None:
        with torch.no_grad():
            for name, value in state.weights.items():
                trained[name].copy_(value)
        unpack_optimizer(optimizer, state.optimizer)
        log, done = state.log, int(state.log[-1]["step"])
        logger.info("the item-side model goes on after step %d", done)
    losses: dict[str, list[float]] = {}
    cut = 0
    reader.model.train()
    with training_progress(quiet) as progress:
        task = progress.add_task("item model", total=steps, completed=done)
        for step in range(done, steps):
            batch = _batch(examples, schedule, step)
            own, shortened = _step(reader, batch, optimizer, trained, schedule, step, steps)
            cut += shortened
            for example, loss in zip(batch, own, strict=True):
                losses.setdefault(example.task, []).append(loss)
            if (step + 1) % EVERY == 0 or step + 1 == steps:
                means = {task: float(np.mean(each)) for task, each in losses.items()}
                log.append({"step": step + 1, **means, "cut": cut})
                losses, cut = {}, 0
                _save(checkpoint, trained, optimizer, log)
            progress.update(task, advance=1)
    reader.model.eval()
    if shortened := sum(int(entry["cut"]) for entry in log):
        logger.warning(
            "%d examples were longer than item_model.max_tokens (%d): texts were cut at their end, "
            "or the oldest items of a history left out.",
            shortened,
            reader.max_tokens,
        )
    return log


def _batch(examples: Sequence[ItemExample], schedule: ItemSchedule, step: int) -> list[ItemExample]:
    """Return the examples of a step; each epoch has an order of its own."""
    a_pass = math.ceil(len(examples) / schedule.batch_size)
    epoch, place = divmod(step, a_pass)
    order = np.random.default_rng([schedule.seed, epoch]).permutation(len(examples))
    start = place * schedule.batch_size
    return [examples[row] for row in order[start : start + schedule.batch_size]]


def _step(
    reader: ItemReader,
    batch: Sequence[ItemExample],
    optimizer: torch.optim.Optimizer,
    trained: dict[str, nn.Parameter],
    schedule: ItemSchedule,
    step: int,
    steps: int,
) -> tuple[list[float], int]:
    """Learn from one batch; return the loss of each example, and how many had to be cut."""
    # Drawn from seed and step alone, so that a resumed training sees the same numbers.
    torch.manual_seed(int(np.random.SeedSequence([schedule.seed, step]).generate_state(1)[0]))
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * _share(step, steps, schedule.warmup)
    optimizer.zero_grad()
    encoded = [reader.encode(each.given, each.answer) for each in batch]
    losses: Tensor = reader.loss(encoded)
    bad = sorted({b.task for b, loss in zip(batch, losses, strict=True) if not loss.isfinite()})
    if bad:
        raise _diverged(f"loss (task {', '.join(bad)})", schedule, step, steps)
    torch.autograd.backward(losses.mean())
    if not nn.utils.clip_grad_norm_(trained.values(), 1.0).isfinite():
        raise _diverged("gradient", schedule, step, steps)
    optimizer.step()
    return [float(loss) for loss in losses.detach()], sum(each.cut for each in encoded)


def _diverged(what: str, schedule: ItemSchedule, step: int, steps: int) -> ConfigError:
    return ConfigError(
        f"The {what} of the item-side model is no longer finite at step {step + 1} of {steps}; no "
        "weight was changed by it. Set runtime.dtype: float32 and run the stage again, which goes "
        f"on from the last checkpoint, or lower item_model.learning_rate (now "
        f"{schedule.learning_rate}), which begins anew."
    )


def _share(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak step size at a step."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _save(
    checkpoint: Checkpoint | None,
    trained: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    log: list[dict[str, Any]],
) -> None:
    if checkpoint is None:
        return
    weights = {name: parameter.detach().clone() for name, parameter in trained.items()}
    checkpoint.save(State(weights, {}, {}, pack_optimizer(optimizer), log))
