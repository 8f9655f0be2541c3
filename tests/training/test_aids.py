"""What does not go together is refused before anything is trained."""

import pytest

from genrec.cf import fit
from genrec.config import Recipe
from genrec.errors import ConfigError
from genrec.training import train
from tests.training.world import ENCODER_DECODER, RUNTIME, make_run, recipe

TASKS = {"tasks": [{"name": "stream", "weight": 1.0}], "language_model": "smollm2"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (TASKS | {"bridge": {"items": True}}, "hold words and codes alone"),
        (TASKS | {"bridge": {"user": True}}, "hold words and codes alone"),
        (TASKS | {"dense": {"weight": 1.0}}, "hold words and codes alone"),
        (TASKS | {"distillation_weight": 0.1}, "hold words and codes alone"),
        ({"bridge": {"candidates": 1.0}, "dense": {"weight": 1.0}}, "nothing but the question"),
        ({"reinforcement": {"steps": 1}, "dense": {"weight": 1.0}}, "rewards are learned"),
        ({"reinforcement": {"steps": 1}, "bridge": {"user": True}}, "rewards are learned"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path, cycle_dataset, small_index, settings, words):
    run = make_run(tmp_path, cycle_dataset, small_index)
    with pytest.raises(ConfigError, match=words):
        train.run(run, recipe(**settings), RUNTIME)


def test_a_teacher_that_reads_too_little_is_refused(tmp_path, cycle_dataset, small_index):
    run = make_run(tmp_path, cycle_dataset, small_index)
    small = {"epochs": 1, "dimensions": 8, "heads": 1, "layers": 1, "max_history": 3}
    fit.run(run, Recipe(cf=small), RUNTIME)
    with pytest.raises(ConfigError, match="the teacher reads 3 items"):
        train.run(run, recipe(teacher_weight=0.5), RUNTIME)
    taught = {"dense": {"weight": 1.0, "vectors": None, "alignment_weight": 0.1}}
    with pytest.raises(ConfigError, match="names the last one only"):
        train.run(run, recipe(**ENCODER_DECODER | taught, max_history=3), RUNTIME)
