"""What a person sees while the model trains: one bar, and one log line a validation."""

import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

# Key of the trainer's log -> how it is shown: all in the log, these short ones in the bar.
_FORMS = {
    "loss": "loss {:.3f}",
    "eval_loss": "validation loss {:.3f}",
    "group_ndcg": "NDCG of the groups {:.4f}",
    "eval_ndcg@10": "NDCG@10 {:.4f}",
    "eval_recall@50": "recall@50 {:.4f}",
    "tokens_per_second": "{:,.0f} tokens/s",
}
_IN_THE_BAR = ("loss", "group_ndcg", "eval_ndcg@10", "tokens_per_second")
_BAR_WIDTH = 12


class TrainingProgress(TrainerCallback):
    """Shows the steps, the loss, the validation NDCG@10 and the speed; use it in a ``with``.

    Everything goes to standard error, so that standard output holds answers only.

    Args:
        steps: Optimizer steps of the whole training.
        quiet: No bar; the log lines stay.
        title: What the bar is called.
    """

    def __init__(self, steps: int, *, quiet: bool, title: str = "Training") -> None:
        self._steps = steps
        self._latest: dict[str, float] = {}
        self._bar = Progress(
            TextColumn(title),
            BarColumn(bar_width=_BAR_WIDTH),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> Self:
        """Show the bar."""
        logging.getLogger("transformers.trainer_utils").addFilter(_says_something)
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()
        logging.getLogger("transformers.trainer_utils").removeFilter(_says_something)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Move the bar; a continued training starts where it was."""
        self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Take in new figures; after a validation, log them."""
        figures = logs or {}
        self._latest.update({key: figures[key] for key in _FORMS if key in figures})
        self._bar.update(self._task, description=self._words(_IN_THE_BAR))
        if "eval_loss" in figures:
            logger.info("step %d of %d: %s", state.global_step, self._steps, self._words(_FORMS))

    def _words(self, keys: Iterable[str]) -> str:
        known = [key for key in keys if key in self._latest]
        return ", ".join(_FORMS[key].format(self._latest[key]) for key in known)


def _says_something(record: logging.LogRecord) -> bool:
    """Pass all but the remark that checkpoints were written within one second of each other."""
    return "mtime may not be reliable" not in record.getMessage()
