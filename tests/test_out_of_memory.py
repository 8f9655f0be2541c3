"""When memory runs out in a stage, the message names the stage and what of its recipe to lower."""

import re

import pytest

from genrec import pipeline
from genrec.config import Recipe
from genrec.errors import ConfigError
from genrec.pipeline import run_stage, runtime_of
from genrec.recipe_file import key_paths
from genrec.stages import STAGES


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """Return what runs a stage that fails with an error."""

    def run(verb, error):
        def fail(run_folder, recipe, runtime):
            raise error

        monkeypatch.setattr(pipeline, "resolve_name", lambda entry: fail)
        monkeypatch.setattr(pipeline, "check_inputs", lambda *given: None)
        run_stage(verb, tmp_path, Recipe(), runtime_of(Recipe()))

    return run


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.verb)
def test_the_message_names_the_stage_and_keys_that_exist(failing, stage):
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(ConfigError, match=f"not enough memory for `genrec {stage.verb}`") as caught:
        failing(stage.verb, error)
    named = set(re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", str(caught.value)))
    assert named and named <= set(key_paths())


def test_other_errors_are_not_taken_for_a_lack_of_memory(failing):
    with pytest.raises(RuntimeError, match="shapes do not match"):
        failing("data", RuntimeError("shapes do not match"))
