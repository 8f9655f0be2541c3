"""Learning from rewards, after the training on events; kept where validation says it is better.

The model names a group of items for a training history, by the search that serves it, and learns to
put the one that was chosen above the others (GRPO: Shao et al., "DeepSeekMath", 2024; for item
codes: MiniOneRec, arXiv 2510.24431). A penalty holds it near the model it was.

TRL's trainer is not used: it takes the probability of a code among all words of a decoder, and most
models here were trained on the codes of a level alone; docs/log.md has the whole list.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from genrec.config_reinforcement import ReinforcementConfig
from genrec.data.histories import Histories
from genrec.model.progress_bars import without_progress_bars
from genrec.training.averaging import WeightCopy
from genrec.training.checkpoints import last_checkpoint
from genrec.training.learner import Learner
from genrec.training.objectives import Objective
from genrec.training.progress import TrainingProgress
from genrec.training.reinforcement_trainer import ReinforcementTrainer
from genrec.training.target_plan import TargetPlan

logger = logging.getLogger(__name__)

PHASE = "reinforcement"
# What is measured at each validation; the longer list tells whether rare items are lost.
CUTOFFS = (10, 50)
_WARMUP = 0.03
_GRADIENT_NORM = 0.3


def reinforce(
    learner: Learner,
    objective: Objective,
    settings: ReinforcementConfig,
    sequences: Histories,
    arguments: TrainingArguments,
    validation: Callable[[], dict[str, float]],
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Let a trained model learn from rewards; it ends up as the better of before and after.

    Whether the result was kept, and the figures of both, are put into the facts of the model.

    Args:
        learner: The model, trained on events; changed in place.
        objective: Its objective.
        settings: How to learn.
        sequences: Training items of each user; their own later items are what is rewarded.
        arguments: Trainer settings of the training on events, with a folder for checkpoints of
            its own; changed in place.
        validation: Measures the model as it is, ``ndcg@10`` and ``recall@50`` among it.
        quiet: No progress bar.

    Returns:
        The log, every entry with the key ``phase``; the first is the model as it came.

    Raises:
        ConfigError: When the rewards teach nothing: all are alike within every group.
    """
    plan = TargetPlan(
        sequences,
        batches=settings.steps,
        histories=settings.histories,
        repeats=settings.inner_steps,
        exclude_seen=settings.exclude_seen,
        seed=arguments.seed,
    )
    before = validation()
    trained_on_events = WeightCopy(learner.trained)
    trainer = ReinforcementTrainer(
        learner.trained,
        _adapted(arguments, settings),
        plan,
        objective,
        validation,
        model=learner.model,
        reference=trained_on_events,
        settings=settings,
    )
    logger.info(
        "learning from rewards: %d batches of %d histories, %d items each; NDCG@10 %.4f, "
        "recall@50 %.4f before",
        settings.steps,
        settings.histories,
        settings.group,
        before["ndcg@10"],
        before["recall@50"],
    )
    title, folder = "Reinforcement", Path(str(arguments.output_dir))
    with TrainingProgress(len(plan), quiet=quiet, title=title) as bar, without_progress_bars():
        trainer.add_callback(bar)
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    first: dict[str, Any] = {"step": 0, **{f"eval_{name}": value for name, value in before.items()}}
    log = [{"phase": PHASE, **entry} for entry in (first, *trainer.state.log_history)]
    after = max(
        (entry for entry in log[1:] if "eval_ndcg@10" in entry),
        key=lambda entry: entry["eval_ndcg@10"],
    )
    kept = after["eval_ndcg@10"] > before["ndcg@10"]
    if not kept:
        # The best checkpoint is in place, and it is no better than what it started from.
        trained_on_events.swap()
    _tell(learner, kept, before, after)
    return log


def _adapted(arguments: TrainingArguments, settings: ReinforcementConfig) -> TrainingArguments:
    """Return the trainer settings of the training on events, changed for learning from rewards."""
    steps = settings.steps * settings.inner_steps
    # Checkpoints lie between batches, for the groups of a batch are not saved.
    every = max(1, -(-settings.steps // settings.evaluations)) * settings.inner_steps
    arguments.max_steps = steps
    # A batch of histories is a step, however many batches a step on events takes.
    arguments.gradient_accumulation_steps = 1
    arguments.learning_rate = settings.learning_rate
    arguments.weight_decay = 0.0
    arguments.warmup_steps = round(_WARMUP * steps)
    arguments.max_grad_norm = _GRADIENT_NORM
    arguments.eval_steps = arguments.save_steps = every
    arguments.logging_steps = settings.inner_steps
    return arguments


def _tell(learner: Learner, kept: bool, before: dict[str, float], after: dict[str, Any]) -> None:
    """Say in the log and in the model's facts what came out."""
    figures = {name: after[f"eval_{name}"] for name in before}
    learner.model.facts[PHASE] = {
        "kept": kept,
        "step": after["step"],
        "before": before,
        "after": figures,
    }
    logger.info(
        "learning from rewards: NDCG@10 %.4f -> %.4f, recall@50 %.4f -> %.4f on validation users; "
        "%s",
        before["ndcg@10"],
        figures["ndcg@10"],
        before["recall@50"],
        figures["recall@50"],
        "kept" if kept else "not better, so the model stays as it was trained on events",
    )
