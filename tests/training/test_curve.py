"""The training curve is a picture, also of a log with little in it."""

import pytest
from matplotlib.figure import Figure

from genrec.training.curve import draw_curve


@pytest.mark.parametrize(
    "log",
    [
        [{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": 2.0, "eval_ndcg@10": 0.1}],
        [],
        [
            {"step": 1, "eval_loss_search": 3.0, "eval_ndcg@10_search": 0.1},
            {"step": 2, "eval_loss_search": 2.0, "eval_ndcg@10_search": 0.2, "eval_loss_x": 1.0},
        ],
    ],
)
def test_draws_a_png(log, tmp_path):
    draw_curve(log, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_every_task_has_a_line_in_each_of_its_pictures(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_more: drawn.append(figure))
    figures = {"eval_loss_a": 2.0, "eval_loss_b": 3.0, "eval_ndcg@10_b": 0.4, "eval_ndcg@10": 0.1}
    draw_curve([{"step": 1, **figures}, {"step": 2, **figures}], tmp_path / "curve.png")
    lines = [
        {line.get_label(): list(line.get_ydata()) for line in axis.lines} for axis in drawn[0].axes
    ]
    assert {"a": [2.0, 2.0], "b": [3.0, 3.0]} in lines
    assert {"b": [0.4, 0.4]} in lines


def test_steps_of_rewards_come_after_those_of_events(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_args, **_more: drawn.append(figure))
    log = [
        {"step": 5, "eval_ndcg@10": 0.1},
        {"step": 9, "eval_ndcg@10": 0.2},
        {"step": 0, "eval_ndcg@10": 0.2, "phase": "reinforcement"},
        {"step": 3, "eval_ndcg@10": 0.3, "phase": "reinforcement"},
    ]
    draw_curve(log, tmp_path / "curve.png")
    steps = [list(line.get_xdata()) for axis in drawn[0].axes for line in axis.lines]
    assert steps == [[5, 9, 9, 12]]
