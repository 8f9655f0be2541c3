"""What the training log says of the parts of the loss and of what it cost to get there."""

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from genrec import processes
from genrec.training.batches import Plan
from genrec.training.candidate_objective import CandidateObjective
from genrec.training.objectives import Objective


class LossTerms(TrainerCallback):
    """Adds the mean of each term of the loss to training lines, where there is more than one.

    The mean is over all batches since the last line, those of all processes.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take in the terms of one step, scalars by name."""
        self._steps += 1
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Add ``loss_NAME`` to training lines."""
        if logs is None or "loss" not in logs:
            return
        if len(self._sums) > 1:
            steps, *sums = processes.totals([self._steps, *map(float, self._sums.values())])
            means = {
                f"loss_{name}": sum_ / steps for name, sum_ in zip(self._sums, sums, strict=True)
            }
            add_to_line(means, logs, state)
        self._sums, self._steps = {}, 0


class ThroughputCallback(TrainerCallback):
    """Says in the log what the training has cost so far.

    Every line gets ``tokens_read``, all tokens that all processes together were trained on until
    then, with words of prompts and padding, and ``train_seconds``, without the time of validations;
    both go on where a stopped training was. Training lines get ``tokens_per_second`` and
    ``padding_share`` as well.
    """

    def __init__(self, plan: Plan, objective: Objective | CandidateObjective) -> None:
        self._padding_share = plan.padding_share
        self._tokens = self._tokens_before = self._logged = 0
        self._seconds = self._started = 0.0
        for reader in _readers(objective.model):
            reader.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, reader: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Count what is about to be read, given as token ids [B, T] or as vectors [B, T, d]."""
        if reader.training:
            ways = (*given, named.get("input_ids"), named.get("inputs_embeds"))
            read = next(way for way in ways if way is not None)
            self._tokens += int(read.shape[0] * read.shape[1])

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Start the clock, where an earlier try stopped if there was one."""
        known = [entry for entry in state.log_history if "tokens_read" in entry]
        if known:
            self._tokens_before = self._logged = int(known[-1]["tokens_read"])
            self._seconds = float(known[-1]["train_seconds"])
        self._started = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Add the figures to lines of training and of validation."""
        if logs is None or not {"loss", "eval_seconds"} & logs.keys():
            return
        now = time.perf_counter()
        seconds = now - self._started - logs.get("eval_seconds", 0.0)
        read = self._tokens_before + int(processes.totals([self._tokens])[0])
        tokens = read - self._logged
        self._seconds += seconds
        self._started, self._logged = now, read
        figures: dict[str, float] = {
            "tokens_read": read,
            "train_seconds": self._seconds,
        }
        if "loss" in logs and tokens:
            figures["tokens_per_second"] = tokens / seconds
            figures["padding_share"] = self._padding_share
        add_to_line(figures, logs, state)


def add_to_line(figures: Mapping[str, float], logs: dict[str, float], state: TrainerState) -> None:
    """Add figures to a line of the log, both to what later callbacks see and to what is kept."""
    logs.update(figures)
    state.log_history[-1].update(figures)


def _readers(language_model: Any) -> list[nn.Module]:  # noqa: ANN401 - any of transformers' models
    """Return the parts of a language model that read tokens, whatever asks them to."""
    if language_model.config.is_encoder_decoder:
        return [language_model.get_encoder(), language_model.get_decoder()]
    return [language_model.base_model]
