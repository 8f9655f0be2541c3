"""The train stage: from a dataset and an index to a model folder that can be served."""

import hashlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import EarlyStoppingCallback, TrainingArguments

from genrec import artifacts
from genrec.cf.fit_sasrec import SasRecName
from genrec.cf.load import load as load_baseline
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
from genrec.training.averaging import WeightAverage
from genrec.training.batches import Augmentation, BatchPlan
from genrec.training.card import write_card
from genrec.training.checkpoints import last_checkpoint
from genrec.training.curve import draw_curve
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
    if config.teacher_weight:
        inputs["cf"] = run_folder / "cf"
        teacher = load_teacher(inputs["cf"], config.teacher, index, runtime)
    codebooks = []
    if config.language_model is not None and config.new_rows == "codebook":
        codebooks = load_codebooks(inputs["index"])
    runtime.start()
    learner = prepare(config, dataset, index, runtime, {"index_digest": index_digest}, codebooks)
    checkpoints = run_folder / "model.checkpoint"
    _claim(checkpoints, config, runtime.seed, inputs)
    started = time.perf_counter()
    log = fit(learner, config, dataset, runtime, checkpoints, teacher)
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
        _save(learner, partial, log)
    shutil.rmtree(checkpoints)
    return folder


def load_teacher(folder: Path, name: SasRecName, index: ItemIndex, runtime: Runtime) -> Teacher:
    """Read a SASRec of a ``cf`` folder as teacher.

    Raises:
        ArtifactError: When the folder is missing or damaged, or does not hold that one.
    """
    device = runtime.torch_device()
    ranker = load_baseline(folder, name, device)
    assert isinstance(ranker, SasRecRanker)
    return Teacher(ranker.network, index, device)


def fit(
    learner: Learner,
    config: TrainConfig,
    dataset: Dataset,
    runtime: Runtime,
    checkpoints: Path,
    teacher: Teacher | None = None,
) -> list[dict[str, Any]]:
    """Train until the plan ends or validation stops getting better; keep the best weights.

    Returns:
        The training log: one entry a logged step or validation.
    """
    model = learner.model
    device = runtime.torch_device()
    plan = BatchPlan(
        dataset.sequences(),
        epochs=config.epochs,
        batch_items=max(1, config.batch_tokens // model.index.levels),
        augmentation=Augmentation(config.max_history, config.crop_probability, config.item_dropout),
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
        objective,
        lambda: validate(model, objective, examples),
        WeightAverage(learner.trained, config.average_decay),
        config.row_learning_rate,
        [EarlyStoppingCallback(early_stopping_patience=config.patience)],
    )
    with TrainingProgress(steps, quiet=runtime.quiet) as progress, without_progress_bars():
        trainer.add_callback(progress)
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
    return [dict(entry) for entry in trainer.state.log_history]


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
        metric_for_best_model="ndcg@10",
        greater_is_better=True,
        logging_steps=max(1, every // 4),
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


def _save(learner: Learner, folder: Path, log: list[dict[str, Any]]) -> None:
    """Write the adapter (if any), the merged model, the log, its plot and the card."""
    model = learner.model
    if isinstance(learner.trained, PeftModel):
        learner.trained.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
        merged = merge(learner.trained)
        model = GenerativeModel(**{**model.__dict__, "language_model": merged})
    best = max(
        (entry for entry in log if "eval_ndcg@10" in entry),
        default={},
        key=lambda entry: entry["eval_ndcg@10"],
    )
    model.facts["validation"] = {
        name.removeprefix("eval_"): value for name, value in best.items() if "eval_" in name
    }
    model.save(folder)
    PrefixTrie.from_index(model.index, model.item_counts).save(folder)
    (folder / "training.json").write_text(json.dumps(log, indent=2) + "\n")
    draw_curve(log, folder / "training.png")
    write_card(model, folder / "README.md")
