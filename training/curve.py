"""The training curve as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_TASK_LOSS = "eval_loss_"
_TASK_NDCG = "eval_ndcg@10_"


def draw_curve(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss and validation NDCG@10 over the training steps into a PNG file.

    A log with tasks gets two more pictures below: validation loss and NDCG@10 of each.
    """
    matplotlib.use("Agg")
    tasks = list(dict.fromkeys(name for entry in log for name in entry if _is_of_a_task(name)))
    figure = Figure(figsize=(7, 12 if tasks else 4), layout="constrained")
    left, *below = figure.subplots(3 if tasks else 1, squeeze=False)[:, 0]
    right = left.twinx()
    for axis, name, label, colour in (
        (left, "loss", "training loss", "tab:grey"),
        (left, "eval_loss", "validation loss", "tab:blue"),
        (right, "eval_ndcg@10", "validation NDCG@10", "tab:orange"),
    ):
        _line(axis, log, name, label=label, color=colour)
    left.set_xlabel("optimizer steps")
    # Batches of tasks hold words as well, so their loss is one of tokens.
    training = "token (training), per item (validation)" if tasks else "item"
    left.set_ylabel(f"nats per {training}")
    right.set_ylabel("NDCG@10")
    reached = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
    right.set_ylim(0, 1.1 * max(reached, default=0) or 1)
    if left.lines or right.lines:
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    if tasks:
        _draw_tasks(below[0], log, tasks, _TASK_LOSS, "validation loss, nats per token")
        _draw_tasks(below[1], log, tasks, _TASK_NDCG, "NDCG@10")
    figure.savefig(path, dpi=120)


def _is_of_a_task(name: str) -> bool:
    return name.startswith((_TASK_LOSS, _TASK_NDCG))


def _draw_tasks(
    axis: Axes, log: Sequence[dict[str, Any]], names: Sequence[str], prefix: str, label: str
) -> None:
    """Draw one figure of every task that has it."""
    for name in names:
        if name.startswith(prefix):
            _line(axis, log, name, label=name.removeprefix(prefix))
    axis.set_xlabel("optimizer steps")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    if axis.lines:
        axis.legend(frameon=False, fontsize="small")


def _line(axis: Axes, log: Sequence[dict[str, Any]], name: str, **style: Any) -> None:  # noqa: ANN401
    # Learning from rewards counts its steps anew, after those on events.
    before = max((entry["step"] for entry in log if "phase" not in entry), default=0)
    points = [
        (entry["step"] + before * ("phase" in entry), entry[name]) for entry in log if name in entry
    ]
    if points:
        axis.plot(*zip(*points, strict=True), **style)
