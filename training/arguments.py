"""Hugging Face's trainer settings, as the recipe means them."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from genrec import processes
from genrec.config_train import TrainConfig
from genrec.errors import ConfigError
from genrec.runtime import Runtime
from genrec.training.candidate_objective import HIT

# Renamed in transformers 5.2x; read by the constructor alone.
_CHECKPOINTING: str = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in TrainingArguments.__dataclass_fields__
)


def batches_of_each(config: TrainConfig) -> int:
    """Return the batches of one optimizer step that each process reads.

    Raises:
        ConfigError: When the processes cannot share them equally.
    """
    shared, over = divmod(config.batches_per_step, processes.count())
    if over:
        raise ConfigError(
            f"train.batches_per_step is {config.batches_per_step}, which {processes.count()} "
            "processes cannot share equally. What is learned depends on it and not on the number "
            f"of processes: set it to {processes.count()} or a multiple from the start, for one "
            "process as well."
        )
    return shared


def require_first_gpu(runtime: Runtime) -> None:
    """Refuse a GPU other than the first: the trainer takes that one whatever it is told.

    Raises:
        ConfigError: It says how to choose another one.
    """
    place = runtime.torch_device()
    if processes.count() > 1 and place.index is not None:
        raise ConfigError(
            f"runtime.device is {place}, but {processes.count()} processes take a GPU each; set "
            "runtime.device: cuda."
        )
    if place.type == "cuda" and place.index:
        raise ConfigError(
            f"runtime.device is {place}, but training takes the first GPU that it sees; set the "
            f"environment variable CUDA_VISIBLE_DEVICES={place.index}, and runtime.device: cuda."
        )


def trainer_arguments(
    config: TrainConfig, runtime: Runtime, checkpoints: Path, steps: int
) -> TrainingArguments:
    """Translate the recipe into the trainer's settings."""
    every = max(1, -(-steps // config.evaluations))
    device = runtime.torch_device()
    renamed: dict[str, Any] = {_CHECKPOINTING: config.gradient_checkpointing}
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=batches_of_each(config),
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
        metric_for_best_model=best_by(config),
        greater_is_better=True,
        logging_steps=max(1, every // 4),
        # A loss that is no number stops the training instead, see divergence.
        logging_nan_inf_filter=False,
        report_to=config.report_to or "none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=device.type == "cpu",
        seed=runtime.seed,
        # A training that goes on remembers how long it has waited for a better figure.
        restore_callback_states_from_checkpoint=True,
        # TrainingProgress shows what happens, on standard error.
        disable_tqdm=True,
        # Not every batch of these has a gradient for everything that is trained.
        ddp_find_unused_parameters=bool(config.tasks)
        or config.bridge.used
        or config.dense.weight > 0,
        # What a model keeps of a batch is that of its own process.
        ddp_broadcast_buffers=False,
        **renamed,
    )
    # One process drives one device; several GPUs must not make the trainer split our batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def best_by(config: TrainConfig) -> str:
    """Return the figure of validation that chooses the checkpoint."""
    return HIT if config.bridge.candidates == 1 else "ndcg@10"
