"""Hugging Face's Trainer over a fixed plan of batches and an objective of ours."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from genrec.training.averaging import WeightAverage
from genrec.training.batches import Plan
from genrec.training.objectives import Objective


def first(batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Unwrap the one entry of a data loader's batch: entries of a plan are whole batches."""
    return batch[0]


class CodeTrainer(Trainer):
    """Trains a model on item codes.

    Args:
        model: The model whose trainable parameters are updated and saved.
        args: Trainer settings.
        plan: All batches of the training, in order.
        objective: The loss.
        validation: Measures the model as it is; its figures steer stopping and the best
            checkpoint.
        average: Running average of the weights; it is what is validated and kept.
        row_learning_rate: Step size of the trained token rows, where it differs.
        callbacks: More callbacks.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        plan: Plan,
        objective: Objective,
        validation: Callable[[], dict[str, float]],
        average: WeightAverage,
        row_learning_rate: float | None,
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=plan,
            eval_dataset=plan,
            data_collator=first,
            callbacks=[*callbacks, ThroughputCallback(plan, objective), AveragingCallback(average)],
        )
        self.remove_callback(PrinterCallback)
        self._plan = plan
        self._average = average
        self._objective = objective
        self._validation = validation
        self._row_learning_rate = row_learning_rate

    def _get_train_sampler(self, *_args: Any, **_kwargs: Any) -> SequentialSampler:  # noqa: ANN401
        return SequentialSampler(self._plan)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the objective's loss of one batch."""
        with self.compute_loss_context_manager():
            return self._objective.batch_loss(inputs)

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:  # noqa: ANN401
        """Measure the model on the validation users; figures get the prefix ``eval_``."""
        started = time.perf_counter()
        self._average.swap()
        metrics = {f"eval_{name}": value for name, value in self._validation().items()}
        self._average.swap()
        metrics["eval_seconds"] = time.perf_counter() - started
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """Save adapters without the frozen embedding matrix, which PEFT would add to each."""
        if isinstance(self.model, PeftModel) and output_dir is not None:
            self.model.save_pretrained(output_dir, save_embedding_layers=False)
        else:
            super()._save(output_dir, state_dict)
        self._average.save(Path(str(output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._average.load(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Put the average of the best checkpoint into the model."""
        self._average.load(Path(str(self.state.best_model_checkpoint)))
        self._average.swap()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:  # noqa: ANN401
        """Give the trained token rows their own step size, when one is set."""
        if self._row_learning_rate is None or self.optimizer is not None:
            return super().create_optimizer(*args, **kwargs)
        model: Any = self.model
        rows: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                (rows if "trainable_tokens_delta" in name else others).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": others, "weight_decay": self.args.weight_decay},
                {"params": rows, "lr": self._row_learning_rate, "weight_decay": 0.0},
            ],
            lr=self.args.learning_rate,
        )
        return self.optimizer


class AveragingCallback(TrainerCallback):
    """Updates the running average after every optimizer step."""

    def __init__(self, average: WeightAverage) -> None:
        self._average = average

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Take in the new weights."""
        self._average.update(state.global_step)


class ThroughputCallback(TrainerCallback):
    """Adds tokens per second and the share of padding to every log line."""

    def __init__(self, plan: Plan, objective: Objective) -> None:
        self._plan = plan
        self._tokens_per_place = objective.tokens_per_place
        self._started = 0.0
        self._step = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Start the clock."""
        self._started, self._step = time.perf_counter(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Add the figures to training lines."""
        if logs is None or "loss" not in logs or state.global_step <= self._step:
            return
        now = time.perf_counter()
        tokens = sum(
            self._plan.rows_of(step) * self._plan.width_of(step) * self._tokens_per_place
            for step in range(self._step, state.global_step)
        )
        logs["tokens_per_second"] = tokens / (now - self._started)
        logs["padding_share"] = self._plan.padding_share
        state.log_history[-1].update(
            tokens_per_second=logs["tokens_per_second"], padding_share=logs["padding_share"]
        )
        self._started, self._step = now, state.global_step
