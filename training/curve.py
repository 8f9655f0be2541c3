"""The training curve as a picture."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


def draw_curve(log: list[dict[str, Any]], path: Path) -> None:
    """Draw loss and validation NDCG@10 over the training steps into a PNG file."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    for axis, name, label, colour in (
        (left, "loss", "training loss", "tab:grey"),
        (left, "eval_loss", "validation loss", "tab:blue"),
        (right, "eval_ndcg@10", "validation NDCG@10", "tab:orange"),
    ):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        if points:
            axis.plot(*zip(*points, strict=True), label=label, color=colour)
    left.set_xlabel("optimizer steps")
    left.set_ylabel("nats per item")
    right.set_ylabel("NDCG@10")
    reached = [entry["eval_ndcg@10"] for entry in log if "eval_ndcg@10" in entry]
    right.set_ylim(0, 1.1 * max(reached, default=0) or 1)
    if left.lines or right.lines:
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
