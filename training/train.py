"""The train stage: from a dataset and an index to a model folder that can be served."""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments

from genrec import artifacts
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.config import Recipe, TrainConfig
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.decoding.trie import PrefixTrie
from genrec.errors import ConfigError
from genrec.model.code_head import CodeHead
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import item_token_table
from genrec.model.progress_bars import without_progress_bars
from genrec.runtime import Runtime
from genrec.semantic_ids.codebooks import load_codebooks
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.item_vectors import load_item_vectors
from genrec.training import memory
from genrec.training.averaging import WeightAverage
from genrec.training.batches import Augmentation, BatchPlan
from genrec.training.bridging import with_bridge
from genrec.training.candidate_objective import HIT, question_figures, with_question
from genrec.training.card import write_card
from genrec.training.checkpoints import last_checkpoint
from genrec.training.curve import draw_curve
from genrec.training.dense import DenseTerm
from genrec.training.dense_setup import dense_term
from genrec.training.distillation import Distillation, InModalityDistillation
from genrec.training.encoder_decoder_objective import EncoderDecoderObjective
from genrec.training.learner import Learner, prepare
from genrec.training.lora import merge
from genrec.training.objectives import Objective
from genrec.training.progress import TrainingProgress
from genrec.training.teacher import Teacher
from genrec.training.trainer import CodeTrainer
from genrec.training.validation import validate

logger = logging.getLogger(__name__)


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Train the language model of a run and write ``model/``.

    Continues from the last whole checkpoint when an earlier try with the same recipe and inputs
    was stopped.
    """
    inputs = {"dataset": run_folder / "dataset", "index": run_folder / "index"}
    dataset = Dataset.load(inputs["dataset"])
    index_digest = artifacts.verify(inputs["index"], "index").digest
    index = ItemIndex.load(inputs["index"])
    config = recipe.train
    teacher = None
    if config.teacher_weight and config.form == "instruction":
        raise ConfigError(
            f"train.teacher_weight is {config.teacher_weight} and train.form is instruction, but "
            "a teacher works with streams only; set train.form: stream or train.teacher_weight: 0."
        )
    if config.teacher_weight or config.dense.taught:
        inputs["cf"] = run_folder / "cf"
        artifacts.require_input(inputs["cf"], "dataset", inputs["dataset"])
        teacher = load_teacher(inputs["cf"], index, runtime)
    if config.distillation_weight and config.form == "instruction":
        raise ConfigError(
            f"train.distillation_weight is {config.distillation_weight} and train.form is "
            "instruction, but vectors are distilled into streams only; set train.form: stream or "
            "train.distillation_weight: 0."
        )
    vectors = None
    if config.distillation_weight:
        vectors = load_item_vectors(inputs["index"], len(dataset.catalog))
    codebooks = []
    if config.language_model is not None and config.new_rows == "codebook":
        codebooks = load_codebooks(inputs["index"])
    read = (*config.bridge.folders_read, *config.dense.folders_read)
    inputs |= {name: run_folder / name for name in read}
    runtime.start()
    with memory.explained("not even the language model and what is trained of it fit"):
        facts = {"index_digest": index_digest}
        learner = prepare(config, dataset, index, runtime, facts, codebooks)
        learner = with_bridge(learner, config.bridge, inputs, runtime.torch_device())
    checkpoints = run_folder / "model.checkpoint"
    _claim(checkpoints, config, runtime.seed, inputs)
    dense = dense_term(config.dense, learner.model, inputs, runtime.torch_device(), teacher)
    started = time.perf_counter()
    with memory.explained(f"it takes {_memory(learner, config, runtime)}"):
        log = fit(learner, config, dataset, runtime, checkpoints, teacher, vectors, dense)
    seconds = time.perf_counter() - started
    folder = run_folder / "model"
    with artifacts.writing(
        folder,
        "model",
        seed=runtime.seed,
        config=config.model_dump(mode="json"),
        inputs=inputs,
        facts={"seconds": seconds},
    ) as partial:
        _save(learner, partial, log, dense, _best_by(config))
    shutil.rmtree(checkpoints)
    return folder


def load_teacher(folder: Path, index: ItemIndex, runtime: Runtime) -> Teacher:
    """Read the SASRec of a ``cf`` folder as teacher."""
    artifacts.verify(folder, "cf")
    device = runtime.torch_device()
    return Teacher(SasRecRanker.load(folder, device).network, index, device)


def fit(
    learner: Learner,
    config: TrainConfig,
    dataset: Dataset,
    runtime: Runtime,
    checkpoints: Path,
    teacher: Teacher | None = None,
    vectors: NDArray[np.float32] | None = None,
    dense: DenseTerm | None = None,
) -> list[dict[str, Any]]:
    """Train until the plan ends or validation stops getting better; keep the best weights.

    ``vectors``, float32[n_items, d], are what the codes were made from; only
    ``train.distillation_weight`` needs them. ``dense`` trains a dense side.

    Returns:
        The training log: one entry a logged step or validation.
    """
    model = learner.model
    device = runtime.torch_device()
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
    kind = EncoderDecoderObjective if model.is_encoder_decoder else Objective
    objective = kind(
        model=model.language_model,
        head=CodeHead(model.language_model, model.vocabulary),
        prompts=model.prompts,
        item_tokens=torch.from_numpy(item_token_table(model.vocabulary, model.index)).to(device),
        pad_token=model.pad_token,
        label_smoothing=config.label_smoothing,
        teacher=teacher,
        teacher_weight=config.teacher_weight,
        distillation=None if vectors is None else _distillation(learner, config, vectors, device),
        dense=dense,
    )
    examples = _sample(dataset.histories("validation"), config.validation_users, runtime.seed)
    logger.info(
        "training %s: %d steps, %d users, batch widths %s items, padding %.0f %%",
        model.facts["base_model"],
        steps,
        len(dataset.sequences()),
        plan.widths,
        100 * plan.padding_share,
    )
    trainer = CodeTrainer(
        learner.trained,
        _arguments(config, runtime, checkpoints, steps),
        plan,
        with_question(objective, model, config, runtime.seed),
        lambda: (
            validate(model, objective, examples) | question_figures(model, examples, runtime.seed)
        ),
        WeightAverage(
            nn.ModuleDict({"model": learner.trained, **objective.beside}), config.average_decay
        ),
        config.row_learning_rate,
        [EarlyStoppingCallback(early_stopping_patience=config.patience)],
    )
    start = last_checkpoint(checkpoints)
    if start is not None:
        logger.info("continuing from %s", start)
    with TrainingProgress(steps, quiet=runtime.quiet) as progress, without_progress_bars():
        trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=start)
    return [dict(entry) for entry in trainer.state.log_history]


def _distillation(
    learner: Learner, config: TrainConfig, vectors: NDArray[np.float32], device: torch.device
) -> Distillation:
    """Make the loss that teaches item vectors, which lie on the device as a whole."""
    embeddings: Any = learner.model.language_model.get_input_embeddings()
    width = int(embeddings.weight.shape[1])
    projection = InModalityDistillation(
        width, vectors.shape[1], temperature=config.distillation_temperature
    )
    table = torch.tensor(vectors, device=device)
    return Distillation(projection.to(device), table, config.distillation_weight)


def _arguments(
    config: TrainConfig, runtime: Runtime, checkpoints: Path, steps: int
) -> TrainingArguments:
    """Translate the recipe into the trainer's settings."""
    every = max(1, -(-steps // config.evaluations))
    device = runtime.torch_device()
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(config.warmup * steps),
        max_grad_norm=1.0,
        bf16=runtime.torch_dtype() == torch.bfloat16,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=_best_by(config),
        greater_is_better=True,
        logging_steps=max(1, every // 4),
        # A loss that is no number stops the training instead, see divergence.
        logging_nan_inf_filter=False,
        report_to=config.report_to or "none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=device.type == "cpu",
        seed=runtime.seed,
        # TrainingProgress shows what happens, on standard error.
        disable_tqdm=True,
    )
    if config.gradient_checkpointing:
        arguments.gradient_checkpointing = True
    # One process drives one device; several GPUs must not make the trainer split our batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _memory(learner: Learner, config: TrainConfig, runtime: Runtime) -> memory.MemoryEstimate:
    """Count the memory of a step from the recipe."""
    model = learner.model
    levels, width = model.index.levels, model.prompts.longest(model.index.levels)
    logits = config.batch_tokens * max(model.index.level_sizes)
    if config.form == "instruction":
        embeddings: Any = model.language_model.get_output_embeddings()
        rows = max(1, config.batch_tokens // (levels * model.prompts.max_history))
        logits = rows * levels * int(embeddings.weight.shape[0])
    return memory.estimate(
        model.language_model,
        batch_tokens=config.batch_tokens,
        width=width,
        logits=logits,
        checkpointing=config.gradient_checkpointing,
        value_bytes=runtime.torch_dtype().itemsize,
    )


def _best_by(config: TrainConfig) -> str:
    """Return the figure of validation that chooses the checkpoint."""
    return HIT if config.bridge.candidates == 1 else "ndcg@10"


def _sample(examples: Histories, users: int, seed: int) -> Histories:
    """Return at most so many examples, drawn at random by seed, in their old order."""
    if len(examples) <= users:
        return examples
    rows = np.random.default_rng(seed).choice(len(examples), users, replace=False)
    return examples.take(np.sort(rows))


def _claim(checkpoints: Path, config: TrainConfig, seed: int, inputs: dict[str, Path]) -> None:
    """Make the checkpoint folder ours: remove one that another recipe or other inputs left."""
    body = [
        config.model_dump(mode="json"),
        seed,
        [artifacts.read_manifest(path).digest for path in inputs.values()],
    ]
    key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    mark = checkpoints / "belongs_to.txt"
    if checkpoints.exists() and not (mark.is_file() and mark.read_text() == key):
        logger.warning("%s is of another recipe or other inputs; starting anew", checkpoints)
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)


def _save(
    learner: Learner,
    folder: Path,
    log: list[dict[str, Any]],
    dense: DenseTerm | None,
    best_by: str,
) -> None:
    """Write the adapter (if any), the merged model, the log, its plot and the card."""
    model = learner.model
    if isinstance(learner.trained, PeftModel):
        if model.bridge is not None:
            model.bridge.soft.detach_from(model.language_model)
        learner.trained.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
        merged = merge(learner.trained)
        model = GenerativeModel(**{**model.__dict__, "language_model": merged})
        if model.bridge is not None:
            model.bridge.soft.attach(merged)
    best = max(
        (entry for entry in log if f"eval_{best_by}" in entry),
        default={},
        key=lambda entry: entry[f"eval_{best_by}"],
    )
    model.facts["validation"] = {
        name.removeprefix("eval_"): value for name, value in best.items() if "eval_" in name
    }
    if dense is not None:
        weight = model.facts["validation"]["dense_weight"]
        model = replace(model, dense=dense.learner.served(weight))
    model.save(folder)
    PrefixTrie.from_index(model.index, model.item_counts).save(folder)
    (folder / "training.json").write_text(json.dumps(log, indent=2) + "\n")
    draw_curve(log, folder / "training.png")
    write_card(model, folder / "README.md")
