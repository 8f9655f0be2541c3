"""The training curve is a picture, also of a log with little in it."""

import pytest

from genrec.training.curve import draw_curve


@pytest.mark.parametrize(
    "log",
    [
        [{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": 2.0, "eval_ndcg@10": 0.1}],
        [],
    ],
)
def test_draws_a_png(log, tmp_path):
    draw_curve(log, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
