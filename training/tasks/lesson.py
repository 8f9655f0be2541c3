"""What a recipe with tasks trains on: plan, loss and figures, ready for the trainer."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.config_train import TrainConfig
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.data.sample import sample
from genrec.errors import ConfigError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import context_length, item_token_table
from genrec.model.task_prompts import TaskPrompts
from genrec.model.template_file import load_templates
from genrec.model.templates import STREAM, Templates
from genrec.runtime import Runtime
from genrec.training.batches import Augmentation
from genrec.training.lesson import Lesson
from genrec.training.objectives import Objective
from genrec.training.tasks.customer_texts import CustomerTexts, TemplateTexts, WrittenTexts
from genrec.training.tasks.examples import TrainingExamples, ValidationExamples, whole_history
from genrec.training.tasks.item_texts import ItemTexts
from genrec.training.tasks.log import TaskLog
from genrec.training.tasks.objective import Tally, TaskObjective
from genrec.training.tasks.plan import Mixture, MixturePlan, Phase
from genrec.training.tasks.table import Material
from genrec.training.tasks.text_writer import CachedWriter, TransformersWriter
from genrec.training.tasks.validation import validate_tasks

logger = logging.getLogger(__name__)


def check_tasks(config: TrainConfig) -> Templates | None:
    """Check what a recipe says of tasks, and read its templates.

    Returns:
        The templates of its tasks; None when it names no tasks.

    Raises:
        ConfigError: When tasks, form, curriculum, model and templates do not go together.
    """
    names = [share.name for share in config.tasks]
    if not names:
        named = {
            "train.curriculum": config.curriculum,
            "train.templates": config.templates,
            "train.text_writer": config.text_writer,
        }
        idle = [key for key, value in named.items() if value]
        if idle:
            raise ConfigError(f"{', '.join(idle)} given without train.tasks; name tasks as well.")
        return None
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ConfigError(
            f"train.tasks names {', '.join(double)} more than once; keep one of each."
        )
    if config.language_model is None:
        raise ConfigError(
            "train.tasks need a language model that knows words, and train.language_model is null; "
            "name one, such as smollm2, or leave train.tasks out."
        )
    if config.teacher_weight:
        raise ConfigError(
            f"train.teacher_weight is {config.teacher_weight} and train.tasks are given, but a "
            "teacher works with train.form: stream alone; set train.teacher_weight: 0."
        )
    served = STREAM if config.form == "stream" else "next_item"
    if served not in names:
        raise ConfigError(
            f"train.form is {config.form}, so {served} is what is served, but train.tasks names "
            f"only {', '.join(names)}; add {served}, or change train.form."
        )
    _check_curriculum(config, names)
    return load_templates(config.templates).only(names)


def _check_curriculum(config: TrainConfig, names: Sequence[str]) -> None:
    for place, phase in enumerate(config.curriculum):
        strange = [task for task in phase.tasks if task not in names]
        if strange or len(set(phase.tasks)) < len(phase.tasks):
            raise ConfigError(
                f"train.curriculum[{place}].tasks names {', '.join(strange or phase.tasks)}, "
                f"expected some of train.tasks, each once: {', '.join(names)}."
            )
    total = sum(phase.share for phase in config.curriculum)
    if total >= 1:
        raise ConfigError(
            f"the shares of train.curriculum add up to {total:g}, expected less than 1: the whole "
            "mixture comes after them."
        )


def mixture_lesson(
    model: GenerativeModel,
    config: TrainConfig,
    dataset: Dataset,
    runtime: Runtime,
    objective: Objective,
    texts_file: Path,
) -> Lesson:
    """Make the plan, the loss and the figures of a mixture of tasks.

    Args:
        model: The model that is trained; its prompts hold the templates.
        config: The recipe of the stage.
        dataset: What is learned from: its training part alone.
        runtime: Seed, device and number type.
        objective: The loss for histories alone, whose settings are taken.
        texts_file: Where texts of ``train.text_writer`` are kept.

    Raises:
        ConfigError: When a task has no example.
    """
    templates = model.prompts.templates
    assert templates is not None, "the prompts were built without templates"
    prompts = TaskPrompts(
        templates,
        model.tokenizer,
        item_token_table(model.vocabulary, model.index),
        context_length(model.language_model),
    )
    # Never longer than what is served.
    most = model.prompts.max_history
    sequences, held_out = dataset.sequences(), dataset.histories("validation")
    settings = config.task_texts
    examples = held_out.take(sample(len(held_out), config.task_examples, runtime.seed))
    items = ItemTexts(dataset.catalog, settings.facet_columns, settings.most_words)
    known = np.flatnonzero(dataset.item_counts)
    customers: CustomerTexts = TemplateTexts(items, templates)
    if config.text_writer is not None:
        customers = _written(
            config, items, templates, runtime, texts_file, known, (sequences, examples), most
        )
    material = Material(items, customers)
    names = tuple(share.name for share in config.tasks)
    plan = MixturePlan(
        TrainingExamples(
            sequences,
            known,
            material,
            prompts,
            Augmentation(most + 1, config.crop_probability, config.item_dropout),
            runtime.seed,
        ),
        Mixture(
            {share.name: share.weight for share in config.tasks},
            len(sequences),
            config.epochs,
            [Phase(phase.tasks, phase.share) for phase in config.curriculum],
        ),
        batch_tokens=config.batch_tokens,
        pad_token=model.pad_token,
        seed=runtime.seed,
        most_batches=(None if config.max_steps < 0 else config.max_steps * config.batches_per_step),
        quiet=runtime.quiet,
    )
    _tell(plan)
    model.facts["tasks"] = _facts(plan, config)
    shared = {each.name: getattr(objective, each.name) for each in fields(Objective)}
    loss = TaskObjective(**shared, tally=Tally(names))
    validation = ValidationExamples(examples, material, prompts, most, runtime.seed)
    return Lesson(
        plan,
        loss,
        f"{len(sequences)} users, batch widths {plan.widths} tokens",
        lambda: validate_tasks(model, loss, validation, names),
        [TaskLog(loss.tally)],
    )


def _written(
    config: TrainConfig,
    items: ItemTexts,
    templates: Templates,
    runtime: Runtime,
    texts_file: Path,
    known: NDArray[np.int64],
    histories: tuple[Histories, Histories],
    most: int,
) -> WrittenTexts:
    """Let a language model write all texts that training and validation will ask for."""
    settings, name = config.task_texts, str(config.text_writer)

    def make() -> TransformersWriter:
        return TransformersWriter(
            name,
            revision=settings.writer_revision,
            runtime=runtime,
            most_tokens=settings.writer_tokens,
        )

    # The writer's answer depends on all of these.
    weights = _digest(Path(name)) if Path(name).is_dir() else settings.writer_revision
    key = f"{name}@{weights}, {settings.writer_tokens} tokens, {runtime.torch_dtype()}"
    wanted: Iterable[int] = ()
    read: list[list[int]] = []
    sequences, held_out = histories
    tasks = {share.name for share in config.tasks}
    if "search" in tasks:
        wanted = np.union1d(known, held_out.target).tolist()
    if "preference" in tasks:
        read = [whole_history(each[row], most) for each in histories for row in range(len(each))]
    return WrittenTexts(items, templates, CachedWriter(key, make, texts_file), wanted, read)


def _digest(folder: Path) -> str:
    """Return what tells the files of a local model from those of another one."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    told = "".join(f"{path.name} {artifacts.sha256_of(path)}\n" for path in files)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _tell(plan: MixturePlan) -> None:
    """Log what is in the mixture and what is not."""
    shown = ", ".join(f"{count} {task}" for task, count in plan.sequences.items())
    logger.info("sequences of the training: %s", shown)
    for task, count in plan.left_out.items():
        logger.warning(
            "%d sequences of %s are left out: a text they need is missing, or they are too long",
            count,
            task,
        )
    if plan.shortened:
        logger.warning(
            "%d sequences are longer than the language model reads: their %d oldest items are "
            "left out",
            plan.shortened,
            plan.items_dropped,
        )


def _facts(plan: MixturePlan, config: TrainConfig) -> dict[str, Any]:
    """Return what the model folder says of its tasks."""
    return {
        "weights": {share.name: share.weight for share in config.tasks},
        "sequences": dict(plan.sequences),
        "left_out": dict(plan.left_out),
        "shortened": plan.shortened,
        "items_dropped": plan.items_dropped,
        "text_writer": config.text_writer,
    }
