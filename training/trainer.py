"""Hugging Face's Trainer over a fixed plan of batches and an objective of ours."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
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

from genrec import processes
from genrec.errors import ConfigError
from genrec.training.averaging import WeightAverage
from genrec.training.batches import Plan
from genrec.training.divergence import require_finite
from genrec.training.optimizer_state import Schedule, load_optimizer, save_optimizer
from genrec.training.pieces import cut, own_piece, whole
from genrec.training.trained_module import TrainedModule
from genrec.training.training_log import LossTerms

logger = logging.getLogger(__name__)


def first(batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Unwrap the one entry of a data loader's batch: entries of a plan are whole batches."""
    return batch[0]


class CodeTrainer(Trainer):
    """Trains a model on item codes.

    Args:
        module: What is updated and saved; its forward pass is the loss.
        args: Trainer settings.
        plan: All batches of the training, in order. A step takes the next of them, or the next
            few, and several processes take turns.
        validation: Measures the model as it is; its figures steer stopping and the best
            checkpoint.
        average_decay: Of the running average of the weights, which is what is validated and kept.
        row_learning_rate: Step size of the trained token rows, where it differs.
        callbacks: More callbacks.
        kept: The same module once more, where the processes are to hold ``module`` in pieces and
            this one validates and keeps it.
    """

    def __init__(
        self,
        module: TrainedModule,
        args: TrainingArguments,
        plan: Plan,
        validation: Callable[[], dict[str, float]],
        average_decay: float,
        row_learning_rate: float | None,
        callbacks: list[TrainerCallback],
        kept: TrainedModule | None = None,
    ) -> None:
        super().__init__(
            model=module,
            args=args,
            train_dataset=plan,
            eval_dataset=plan,
            data_collator=first,
            callbacks=callbacks,
        )
        self._share_out(module)
        self._average = WeightAverage(module, average_decay, kept)
        self.add_callback(AveragingCallback(self._average))
        self.remove_callback(PrinterCallback)
        self._plan = plan
        self._module = module
        self._batches_read = 0
        self._terms = LossTerms()
        self.add_callback(self._terms)
        self._validation = validation
        self._row_learning_rate = row_learning_rate

    def _share_out(self, module: TrainedModule) -> None:
        """Leave each process a piece of the weights, where the launcher's configuration says so.

        Now, and not when training starts, so that the average is in pieces as well.
        """
        if processes.sharding() is None:
            return
        self._require_accelerate(self.is_fsdp_enabled)
        plugin = self.accelerator.state.fsdp_plugin
        groups = cut(
            module,
            reshard_after_forward=bool(plugin.reshard_after_forward),
            offload_policy=plugin.cpu_offload,
        )
        parameters = list(module.parameters())
        logger.info(
            "this process holds %s of %s parameters, in %d groups",
            f"{sum(own_piece(each).numel() for each in parameters):,}",
            f"{sum(each.numel() for each in parameters):,}",
            groups,
        )

    def _require_accelerate(self, does_it: bool) -> None:
        """Refuse to train with more in each process than the launcher asked for."""
        if not does_it:
            raise ConfigError(
                f"the launcher asks for {processes.sharding()}, which accelerate does not do on "
                f"{self.args.device.type}; launch it with distributed_type: MULTI_CPU, or torchrun."
            )

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
        # Accelerate does this for models that it prepares, but not for those in pieces.
        with self.accelerator.autocast():
            terms = model(inputs)
        self._terms.add(terms)
        return torch.stack(list(terms.values())).sum()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Read one batch; stop at a loss that is no number."""
        loss = super().training_step(*args, **kwargs)
        self._require_finite(loss, "loss")
        self._batches_read += 1
        return loss

    def _require_finite(self, value: Tensor, what: str) -> None:
        require_finite(
            value,
            what,
            step=self.state.global_step,
            batch=self._place_in_plan(),
            plan=self._plan,
            rates=self._rates(),
            folder=Path(str(self.args.output_dir)),
        )

    def _place_in_plan(self) -> int:
        """Return the number of the batch that this process reads."""
        each = self.args.gradient_accumulation_steps
        turns = self.state.global_step * each + self._batches_read % each
        return turns * processes.count() + processes.place()

    def _rates(self) -> str:
        """Return the keys of the recipe that hold the step sizes, and what they are now."""
        return f"train.learning_rate (now {self.args.learning_rate:g}) and train.row_learning_rate"

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip the gradients of the model, and apart from them those beside it."""
        beside = self._module.beside
        if beside:
            apart = nn.utils.clip_grad_norm_(beside.parameters(), self.args.max_grad_norm)
            self._require_finite(whole(apart), "length of the gradient beside the model")
        base: Any = super()
        norm: Tensor = whole(base._clip_grad_norm(self._module.trained))
        self._require_finite(norm, "length of the gradient")
        return norm

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:  # noqa: ANN401
        """Measure the model on the validation users; figures get the prefix ``eval_``."""
        started = time.perf_counter()
        # One process measures and all go by its figures, so that they stop at the same step.
        with self._average.shown():
            figures = processes.from_first(self._validation)
        metrics = {f"eval_{name}": value for name, value in figures.items()}
        metrics["eval_seconds"] = time.perf_counter() - started
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what is trained and its average into a checkpoint; all processes take part."""
        folder = Path(str(output_dir))
        self._module.save(folder)
        self._average.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
        """Read what ``save_model`` wrote."""
        self._module.load(Path(resume_from_checkpoint))
        self._average.load(Path(resume_from_checkpoint))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_optimizer(self._module, self._inner_optimizer(), self._schedule(), Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            where = Path(checkpoint)
            load_optimizer(self._module, self._inner_optimizer(), self._schedule(), where)

    def _schedule(self) -> Schedule:
        assert self.lr_scheduler is not None  # made before the first checkpoint
        return self.lr_scheduler

    def _inner_optimizer(self) -> torch.optim.Optimizer:
        """Return what accelerate has wrapped: torch's optimizer, or DeepSpeed's."""
        optimizer: Any = self.optimizer
        inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        return inner

    def _load_best_model(self) -> None:
        """Put the average of the best checkpoint into the model."""
        self._average.load(Path(str(self.state.best_model_checkpoint)))
        self._average.show()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:  # noqa: ANN401
        """Give the trained token rows their own step size, when one is set."""
        if self.optimizer is not None:
            return super().create_optimizer(*args, **kwargs)
        optimizer: torch.optim.Optimizer = (
            super().create_optimizer(self._module.trained)
            if self._row_learning_rate is None
            else self._rows_apart(self._row_learning_rate)
        )
        beside = list(self._module.beside.parameters())
        if beside:
            decay = self.args.weight_decay
            optimizer.add_param_group({"params": beside, "weight_decay": decay})
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        self.optimizer = optimizer
        return optimizer

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Schedule:  # noqa: ANN401
        """Make the schedule, once accelerate has prepared model and optimizer."""
        self._put_groups_back()
        schedule: Schedule = super().create_scheduler(*args, **kwargs)
        return schedule

    def _put_groups_back(self) -> None:
        """Have the optimizer's groups hold their parameters again.

        Accelerate finds parameters that were cut in pieces again by where these lie in memory,
        which tells no empty pieces apart. Here nothing was replaced, so they are put back.
        """
        for group, own in zip(self._inner_optimizer().param_groups, self._groups, strict=True):
            group["params"] = own

    def _rows_apart(self, row_learning_rate: float) -> torch.optim.Optimizer:
        rows: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self._module.trained.named_parameters():
            if parameter.requires_grad:
                (rows if "trainable_tokens_delta" in name else others).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": others, "weight_decay": self.args.weight_decay},
                {"params": rows, "lr": row_learning_rate, "weight_decay": 0.0},
            ],
            lr=self.args.learning_rate,
        )


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
