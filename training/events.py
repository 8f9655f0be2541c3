"""Training on the events of the training part, batch after batch of a fixed plan."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback

from genrec import processes
from genrec.config_train import TrainConfig
from genrec.errors import ConfigError
from genrec.model.progress_bars import without_progress_bars
from genrec.runtime import Runtime
from genrec.training.arguments import trainer_arguments
from genrec.training.checkpoints import last_checkpoint
from genrec.training.learner import Learner
from genrec.training.lesson import Lesson
from genrec.training.progress import TrainingProgress
from genrec.training.trained_module import TrainedModule
from genrec.training.trainer import CodeTrainer
from genrec.training.training_log import ThroughputCallback
from genrec.training.zero_trainer import ZeroTrainer

logger = logging.getLogger(__name__)


def learn_events(
    learner: Learner,
    lesson: Lesson,
    config: TrainConfig,
    runtime: Runtime,
    checkpoints: Path,
    validation: Callable[[], dict[str, float]],
    kept: TrainedModule | None = None,
) -> list[dict[str, Any]]:
    """Train until the plan ends or validation stops getting better; keep the best weights.

    Args:
        learner: The model; changed in place.
        lesson: What it goes through.
        config: How.
        runtime: Where to compute.
        checkpoints: Where checkpoints lie; it goes on from the newest.
        validation: Measures the model as it is.
        kept: The same model once more, which is validated and kept, where the processes hold the
            learner in pieces; None where this one does not validate.

    Returns:
        The training log: one entry a logged step or validation.
    """
    plan, objective = lesson.plan, lesson.objective
    steps = len(plan) // config.batches_per_step
    if not steps:
        raise ConfigError(
            f"the training has {len(plan)} batches, and a step takes {config.batches_per_step} of "
            "them; lower train.batches_per_step or train.batch_tokens, or raise train.epochs."
        )
    if config.max_steps >= 0:
        steps = min(config.max_steps, steps)
    logger.info(
        "training %s: %d steps, %s, padding %.0f %%",
        learner.model.facts["base_model"],
        steps,
        lesson.contents,
        100 * plan.padding_share,
    )
    module = TrainedModule(learner.trained, objective)
    kind = ZeroTrainer if processes.sharding() == processes.DEEPSPEED else CodeTrainer
    trainer = kind(
        module,
        trainer_arguments(config, runtime, checkpoints, steps),
        plan,
        validation,
        config.average_decay,
        config.row_learning_rate,
        [
            EarlyStoppingCallback(early_stopping_patience=config.patience),
            ThroughputCallback(plan, objective),
            *lesson.callbacks,
        ],
        kept,
    )
    if processes.place():
        # Else all would drop the same places of different batches.
        torch.manual_seed(runtime.seed + processes.place())
    start = last_checkpoint(checkpoints)
    if start is not None:
        logger.info("continuing from %s", start)
    with TrainingProgress(steps, quiet=runtime.quiet) as progress, without_progress_bars():
        trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=start)
    return [dict(entry) for entry in trainer.state.log_history]
