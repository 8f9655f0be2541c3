"""The train stage: from a dataset and an index to a model folder that can be served."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from genrec import artifacts, processes
from genrec.claimed_folder import claim
from genrec.config import Recipe
from genrec.config_reinforcement import ReinforcementConfig
from genrec.config_train import TrainConfig
from genrec.data.dataset import Dataset
from genrec.data.sample import sample
from genrec.errors import ConfigError
from genrec.model.generative import GenerativeModel
from genrec.runtime import Runtime
from genrec.semantic_ids.codebooks import load_codebooks
from genrec.semantic_ids.item_index import ItemIndex
from genrec.stages import stage_of
from genrec.training import memory
from genrec.training.aids import Aids, check_aids, objective_of, read_aids
from genrec.training.arguments import (
    batches_of_each,
    best_by,
    require_first_gpu,
    trainer_arguments,
)
from genrec.training.bridging import with_bridge
from genrec.training.candidate_objective import question_figures
from genrec.training.context import note_cut_histories
from genrec.training.events import learn_events
from genrec.training.learner import Learner, prepare
from genrec.training.lesson import Lesson, history_lesson
from genrec.training.objectives import Objective
from genrec.training.reinforcement import CUTOFFS, PHASE, reinforce
from genrec.training.saving import save_model
from genrec.training.tasks.lesson import check_tasks, mixture_lesson
from genrec.training.trained_module import TrainedModule
from genrec.training.tuned import tuned_once
from genrec.training.validation import calibrated, validate

logger = logging.getLogger(__name__)


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Train the language model of a run and write ``model/``.

    Continues from the last whole checkpoint when an earlier try with the same recipe and inputs
    was stopped. Several processes that a launcher started share its batches; the first one writes.
    """
    config = recipe.train
    check_aids(config)
    require_first_gpu(runtime)
    batches_of_each(config)
    if config.reinforcement.steps and processes.count() > 1:
        raise ConfigError(
            f"train.reinforcement.steps is {config.reinforcement.steps}, but learning from rewards "
            f"runs in one process, and a launcher started {processes.count()}; set it to 0, or run "
            "`genrec train` without a launcher."
        )
    templates = check_tasks(config)
    words_read = artifacts.sha256_of(Path(config.templates)) if config.templates else None
    inputs = {name: run_folder / name for name in ("dataset", "index", *config.folders_read)}
    dataset = Dataset.load(inputs["dataset"])
    index_digest = artifacts.verify(inputs["index"], "index").digest
    index = ItemIndex.load(inputs["index"])
    codebooks = []
    if config.language_model is not None and config.new_rows == "codebook":
        codebooks = load_codebooks(inputs["index"])
    processes.join(cpu=runtime.torch_device().type == "cpu")

    def made() -> tuple[Learner, Aids]:
        runtime.start()  # so that what is drawn is the same each time
        facts = {"index_digest": index_digest}
        bare = prepare(config, dataset, index, runtime, facts, codebooks, templates)
        aids = read_aids(config, bare, inputs, runtime)
        return with_bridge(
            bare,
            config.bridge,
            inputs,
            runtime.torch_device(),
            asked=config.dense.asks_cf,
            neighbours=config.dense.asks_neighbours,
            dense=None if aids.dense is None else aids.dense.learner,
        ), aids

    remedy = stage_of("train").lower
    with memory.explained("not even the language model and what is trained of it fit", remedy):
        with processes.first_before_others():
            learner, aids = made()
        # What is cut in pieces cannot be searched with: the first process has it whole as well.
        in_pieces = processes.sharding() == processes.IN_PIECES
        twin = made() if in_pieces and processes.is_first() else None
    note_cut_histories(learner.model, config.max_history, dataset)
    checkpoints = run_folder / "model.checkpoint"
    # Other settings for rewards leave the training on events as it is.
    events_only = config.model_copy(update={"reinforcement": ReinforcementConfig()})
    digests = [artifacts.read_manifest(path).digest for path in inputs.values()]
    words = templates and templates.to_dict()
    with processes.first_before_others():
        claim(checkpoints, [events_only.model_dump(mode="json"), runtime.seed, digests, words])
    started = time.perf_counter()
    with memory.explained(f"it takes {memory.of_step(learner.model, config, runtime)}", remedy):
        log = fit(learner, config, dataset, runtime, checkpoints, aids, twin)
        folder = run_folder / "model"
        if not processes.is_first():
            processes.wait()
            return folder
        calibrate(learner.model, config, dataset, runtime, aids)
    seconds = time.perf_counter() - started
    with artifacts.writing(
        folder,
        "model",
        seed=runtime.seed,
        config=config.model_dump(mode="json"),
        inputs=inputs,
        facts={"seconds": seconds, "templates": words_read},
    ) as partial:
        save_model(learner, partial, log, dense=aids.dense, best_by=best_by(config))
    shutil.rmtree(checkpoints)
    processes.wait()
    return folder


def calibrate(
    model: GenerativeModel, config: TrainConfig, dataset: Dataset, runtime: Runtime, aids: Aids
) -> None:
    """Choose how much each side of a trained model counts, and put it into its facts."""
    if aids.dense is None:
        return
    held_out = dataset.histories("validation")
    users = config.dense.calibration_users or config.validation_users
    examples = held_out.take(sample(len(held_out), users, runtime.seed))
    logger.info("choosing the shares of both sides on %d validation users", len(examples))
    model.facts["calibration"] = calibrated(
        model, aids.dense, examples, beam=config.dense.calibration_beam
    )


def fit(
    learner: Learner,
    config: TrainConfig,
    dataset: Dataset,
    runtime: Runtime,
    checkpoints: Path,
    aids: Aids,
    twin: tuple[Learner, Aids] | None = None,
) -> list[dict[str, Any]]:
    """Train on events, then from rewards where the recipe says so; the best weights are kept.

    Args:
        learner: The model; it has the best weights afterwards.
        config: The section of the recipe.
        dataset: What is learned from.
        runtime: Where to compute.
        checkpoints: Where checkpoints lie.
        aids: What helps the training.
        twin: The same once more, to be trained in pieces in its place.

    Returns:
        The training log: one entry a logged step or validation.
    """
    model = learner.model
    objective = objective_of(learner, config, aids)
    held_out = dataset.histories("validation")
    examples = held_out.take(sample(len(held_out), config.validation_users, runtime.seed))

    def lesson_of(pupil: Learner, loss: Objective) -> Lesson:
        if config.tasks:
            texts = checkpoints.with_name("written_texts.jsonl")
            return mixture_lesson(pupil.model, config, dataset, runtime, loss, texts)
        return history_lesson(pupil.model, loss, config, dataset, runtime)

    def learn() -> list[dict[str, Any]]:
        with processes.first_before_others():
            judged = lesson_of(learner, objective)
        pupil, taught, kept = learner, judged, None
        if twin is not None:
            pupil, pupil_aids = twin
            taught = lesson_of(pupil, objective_of(pupil, config, pupil_aids))
            kept = TrainedModule(learner.trained, judged.objective)
        return learn_events(
            pupil,
            taught,
            config,
            runtime,
            checkpoints,
            lambda: (
                validate(model, objective, examples)
                | question_figures(model, examples, runtime.seed)
                | judged.measure()
            ),
            kept,
        )

    settings = config.reinforcement
    log = tuned_once(learner, objective.beside, checkpoints / "tuned", learn)
    if not settings.steps:
        return log
    folder = checkpoints / PHASE
    claim(folder, [settings.model_dump(mode="json"), runtime.seed])
    needs = f"learning from rewards takes {memory.of_rewards(model, config, runtime)}"
    with memory.explained(needs, memory.REWARDS):
        return log + reinforce(
            learner,
            objective,
            settings,
            dataset.sequences(),
            trainer_arguments(config, runtime, folder, settings.steps),
            lambda: validate(model, objective, examples, cutoffs=CUTOFFS),
            quiet=runtime.quiet,
        )
