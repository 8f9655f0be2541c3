"""What does not go together is refused before anything is trained."""

import pytest
import torch
from safetensors.torch import load_file

from genrec.cf import fit
from genrec.config import Recipe
from genrec.errors import ConfigError
from genrec.training import train
from genrec.training.aids import read_aids
from genrec.training.learner import prepare
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
        ({"bridge": {"user": True, "frozen": True}}, "nothing to keep"),
        (
            {"dense": {"teacher_weight": 0.5, "cf": True}},
            "train.dense.teacher_weight, train.dense.cf",
        ),
        ({"reinforcement": {"steps": 1}, "dense": {"weight": 1.0}}, "rewards are learned"),
        ({"reinforcement": {"steps": 1}, "bridge": {"user": True}}, "rewards are learned"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path, cycle_dataset, small_index, settings, words):
    run = make_run(tmp_path, cycle_dataset, small_index)
    with pytest.raises(ConfigError, match=words):
        train.run(run, recipe(**settings), RUNTIME)


def test_the_vectors_of_the_index_are_distilled_row_by_row(tmp_path, cycle_dataset, small_index):
    run = make_run(tmp_path, cycle_dataset, small_index)
    config = recipe(distillation_weight=0.3, distillation_temperature=0.2).train
    learner = prepare(config, cycle_dataset, small_index, RUNTIME, {})
    inputs = {name: run / name for name in ("dataset", "index")}
    found = read_aids(config, learner, inputs, RUNTIME).distillation
    wanted = load_file(run / "index" / "fusion.safetensors")["vectors"]
    assert torch.equal(found.vectors, wanted)
    assert (found.weight, found.projection.temperature) == (0.3, 0.2)


def test_a_teacher_that_reads_too_little_is_refused(tmp_path, cycle_dataset, small_index):
    run = make_run(tmp_path, cycle_dataset, small_index)
    small = {"epochs": 1, "dimensions": 8, "heads": 1, "layers": 1, "max_history": 3}
    fit.run(run, Recipe(cf=small), RUNTIME)
    with pytest.raises(ConfigError, match="the teacher reads 3 items"):
        train.run(run, recipe(teacher_weight=0.5), RUNTIME)
    taught = {"dense": {"weight": 1.0, "vectors": None, "alignment_weight": 0.1}}
    with pytest.raises(ConfigError, match="names the last one only"):
        train.run(run, recipe(**ENCODER_DECODER | taught, max_history=3), RUNTIME)
