"""The losses and figures of single tasks in the training log."""

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from genrec.training.tasks.objective import Tally
from genrec.training.training_log import add_to_line

logger = logging.getLogger(__name__)


class TaskLog(TrainerCallback):
    """Adds the loss of each task to every log line, and logs the figures of every validation.

    Args:
        tally: Where the objective keeps the losses.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Add ``loss_TASK``, in nats a token of the answer, or log what validation found."""
        if logs is None:
            return
        if "loss" in logs:
            own = {f"loss_{task}": loss for task, loss in self._tally.drain().items()}
            add_to_line(own, logs, state)
        for task in self._tally.names:
            if f"eval_loss_{task}" in logs:
                logger.info("  %s: %s", task, in_words(logs, task))


def in_words(logs: dict[str, float], task: str) -> str:
    """Return the validation figures of one task as text."""
    words = f"validation loss {logs[f'eval_loss_{task}']:.3f}"
    ndcg = logs.get(f"eval_ndcg@10_{task}")
    return words if ndcg is None else f"{words}, NDCG@10 {ndcg:.4f}"
