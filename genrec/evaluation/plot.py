"""One picture of a report: recall and NDCG of each model, with intervals and the best possible."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from genrec.evaluation.results import Report

BEST_COLOUR = "#3b7cc0"
OTHER_COLOUR = "#b9c9da"
INK = "#222222"
MUTED = "#6b6b6b"
LIMIT_COLOUR = "#b5561c"
TITLES = {"recall": "Recall", "ndcg": "NDCG"}


def plot(report: Report, path: Path) -> None:
    """Draw recall and NDCG side by side, one bar a model, into a PNG.

    Whiskers are the 95 % intervals, the darkest bar is the best model, the dashed line is the
    best any recommender can reach where that is known.

    Args:
        report: What was measured.
        path: PNG file to write.
    """
    room = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.06)
    figure = Figure(figsize=(10, 1.7 + 0.5 * len(report.rows)), layout=room)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key in zip(panels, report.headline, strict=True):
        _panel(axes, report, key)
    panels[0].set_yticks(range(len(report.rows)), report.models, fontsize=11)
    panels[0].invert_yaxis()  # Shared: the first model stands on top in both panels.
    figure.supxlabel(_caption(report), fontsize=9, color=MUTED)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _panel(axes: Axes, report: Report, key: str) -> None:
    values = [row[key] for row in report.rows]
    low = [row.get(f"{key}_low", row[key]) for row in report.rows]
    high = [row.get(f"{key}_high", row[key]) for row in report.rows]
    limit = report.best_possible.get(key)
    colours = [BEST_COLOUR if value == max(values) else OTHER_COLOUR for value in values]
    places = range(len(values))
    axes.barh(places, values, height=0.62, color=colours)
    reach = max([*high, limit or 0.0, 1e-6])
    for place, (value, left, right) in enumerate(zip(values, low, high, strict=True)):
        if right > left:
            whisker = [[max(value - left, 0.0)], [max(right - value, 0.0)]]
            axes.errorbar(value, place, xerr=whisker, color=INK, capsize=4, zorder=3)
        axes.text(
            right + 0.015 * reach,
            place,
            f"{value:.3f}",
            va="center",
            fontsize=10,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            zorder=4,
        )
    if limit is not None:
        axes.axvline(limit, color=LIMIT_COLOUR, linestyle=(0, (4, 3)), linewidth=1.4, zorder=2)
        axes.annotate(
            f"best possible {limit:.3f}",
            (limit, 1.0),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
            color=LIMIT_COLOUR,
        )
    _dress(axes, key, reach)


def _dress(axes: Axes, key: str, reach: float) -> None:
    """Set limits, title and ticks; leave out every line that says nothing."""
    metric, cutoff = key.split("@")
    axes.set_title(f"{TITLES[metric]}@{cutoff}", loc="left", fontsize=12, color=INK, pad=8)
    axes.set_xlim(0, 1.16 * reach)
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, colors=MUTED, axis="x")
    axes.tick_params(length=0, axis="y")
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#bbbbbb")


def _caption(report: Report) -> str:
    text = f"{report.protocol['examples']:,} {report.protocol['part']} examples"
    if report.protocol["bootstrap_samples"]:
        text += "; whiskers are 95 % intervals over users"
    return text
