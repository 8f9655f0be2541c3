"""What a person sees while the model trains: one bar, and one log line a validation."""

import logging
import time
from collections.abc import Callable, Iterable
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
# Where no bar moves, as in a file, a line comes at least so often.
_SECONDS_BETWEEN_LINES = 30.0


class TrainingProgress(TrainerCallback):
    """Shows the steps, the loss, the validation NDCG@10 and the speed; use it in a ``with``.

    Everything goes to standard error, so that standard output holds answers only. Where that is no
    terminal, a log line comes in place of the bar whenever half a minute has passed without one.

    Args:
        steps: Optimizer steps of the whole training.
        quiet: No bar and none of these lines; those of validations stay.
        title: What the bar is called.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        steps: int,
        *,
        quiet: bool,
        title: str = "Training",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = steps
        self._title = title
        self._clock = clock
        self._last_line = clock()
        self._latest: dict[str, float] = {}
        self._bar = Progress(
            TextColumn(title),
            BarColumn(bar_width=_BAR_WIDTH),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=quiet,
            get_time=clock,
        )
        self._in_lines = not quiet and not self._bar.console.is_terminal
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
        if self._in_lines and self._clock() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = self._clock()
            left = self._bar.tasks[self._task].time_remaining
            words = self._words(_IN_THE_BAR)
            logger.info(
                "%s: step %d of %d%s%s",
                self._title,
                state.global_step,
                self._steps,
                f", about {left / 60:.0f} min left" if left else "",
                f": {words}" if words else "",
            )

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
            self._last_line = self._clock()
            logger.info("step %d of %d: %s", state.global_step, self._steps, self._words(_FORMS))

    def _words(self, keys: Iterable[str]) -> str:
        known = [key for key in keys if key in self._latest]
        return ", ".join(_FORMS[key].format(self._latest[key]) for key in known)


def _says_something(record: logging.LogRecord) -> bool:
    """Pass all but the remark that checkpoints were written within one second of each other."""
    return "mtime may not be reliable" not in record.getMessage()
