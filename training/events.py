"""Training on the events of the training part, batch after batch of a fixed plan."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import EarlyStoppingCallback

from genrec.config_train import TrainConfig
from genrec.data.dataset import Dataset
from genrec.model.progress_bars import without_progress_bars
from genrec.runtime import Runtime
from genrec.training.arguments import trainer_arguments
from genrec.training.averaging import WeightAverage
from genrec.training.batches import Augmentation, BatchPlan
from genrec.training.candidate_objective import with_question
from genrec.training.checkpoints import last_checkpoint
from genrec.training.learner import Learner
from genrec.training.objectives import Objective
from genrec.training.progress import TrainingProgress
from genrec.training.trainer import CodeTrainer, ThroughputCallback

logger = logging.getLogger(__name__)


def learn_events(
    learner: Learner,
    objective: Objective,
    config: TrainConfig,
    dataset: Dataset,
    runtime: Runtime,
    checkpoints: Path,
    validation: Callable[[], dict[str, float]],
) -> list[dict[str, Any]]:
    """Train until the plan ends or validation stops getting better; keep the best weights.

    Args:
        learner: The model; changed in place.
        objective: What it is trained to do on histories.
        config: How.
        dataset: The events.
        runtime: Where to compute.
        checkpoints: Where checkpoints lie; it goes on from the newest.
        validation: Measures the model as it is.

    Returns:
        The training log: one entry a logged step or validation.
    """
    model = learner.model
    plan = BatchPlan(
        dataset.sequences(),
        epochs=config.epochs,
        batch_items=max(1, config.batch_tokens // model.index.levels),
        augmentation=Augmentation(
            model.prompts.max_history, config.crop_probability, config.item_dropout
        ),
        seed=runtime.seed,
    )
    steps = len(plan) if config.max_steps < 0 else min(config.max_steps, len(plan))
    logger.info(
        "training %s: %d steps, %d users, batch widths %s items, padding %.0f %%",
        model.facts["base_model"],
        steps,
        len(dataset.sequences()),
        plan.widths,
        100 * plan.padding_share,
    )
    whole = with_question(objective, model, config, runtime.seed)
    trainer = CodeTrainer(
        learner.trained,
        trainer_arguments(config, runtime, checkpoints, steps),
        plan,
        whole,
        validation,
        WeightAverage(
            nn.ModuleDict({"model": learner.trained, **whole.beside}), config.average_decay
        ),
        config.row_learning_rate,
        [
            EarlyStoppingCallback(early_stopping_patience=config.patience),
            ThroughputCallback(plan, whole),
        ],
    )
    start = last_checkpoint(checkpoints)
    if start is not None:
        logger.info("continuing from %s", start)
    with TrainingProgress(steps, quiet=runtime.quiet) as progress, without_progress_bars():
        trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=start)
    return [dict(entry) for entry in trainer.state.log_history]
