"""The number type and the checkpointing that a recipe asks are those of the training."""

import pytest
import torch
from transformers import TrainingArguments
from transformers.models.llama.modeling_llama import LlamaMLP

from genrec import artifacts
from genrec.errors import ConfigError
from genrec.runtime import Runtime
from genrec.training import train
from genrec.training.arguments import require_first_gpu, trainer_arguments
from genrec.training.objectives import Objective
from tests.training.world import make_run, recipe, tiny_language_model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_model_computes_in_the_type_of_the_recipe(
    tmp_path, cycle_dataset, small_index, monkeypatch, dtype
):
    honest, seen = Objective.losses, set()

    def losses(self, items):
        with torch.no_grad():
            hidden = self.model.base_model(input_ids=torch.zeros(1, 2).long()).last_hidden_state
            seen.add((hidden @ hidden.transpose(1, 2)).dtype)
        return honest(self, items)

    monkeypatch.setattr(Objective, "losses", losses)
    runtime = Runtime(device="cpu", threads=1, quiet=True, dtype=dtype)
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    train.run(run, recipe(max_steps=2, evaluations=1), runtime)
    assert seen == {getattr(torch, dtype)}


def test_checkpointed_blocks_learn_the_same(tmp_path, cycle_dataset, small_index, monkeypatch):
    runtime = Runtime(device="cpu", threads=1, quiet=True, dtype="float32")
    source = str(tiny_language_model(tmp_path / "lm", small_index))
    forward, calls = LlamaMLP.forward, []

    def counted(self, *given):
        calls.append(self.training)
        return forward(self, *given)

    monkeypatch.setattr(LlamaMLP, "forward", counted)
    found = []
    for on in (False, True):
        run = make_run(tmp_path / str(on), cycle_dataset, small_index)
        lora = {"rank": 4, "alpha": 8, "dropout": 0.0}
        settings = recipe(
            language_model=source, lora=lora, max_steps=4, evaluations=1, gradient_checkpointing=on
        )
        folder = train.run(run, settings, runtime)
        found.append((artifacts.sha256_of(folder / "model.safetensors"), sum(calls)))
        calls.clear()
    assert found[0][0] == found[1][0]
    # Read again for the gradients: twice as often.
    assert found[1][1] == 2 * found[0][1] > 0


def test_the_trainer_is_told_by_the_constructor(tmp_path):
    runtime = Runtime(device="cpu", threads=1, quiet=True)
    settings = recipe(gradient_checkpointing=True).train
    made = trainer_arguments(settings, runtime, tmp_path, 3)
    names = {"activation_checkpointing", "gradient_checkpointing"}
    there = names & set(TrainingArguments.__dataclass_fields__)
    assert all(getattr(made, name) for name in there)


def test_a_gpu_other_than_the_first_is_refused(monkeypatch):
    monkeypatch.setattr(Runtime, "torch_device", lambda _: torch.device("cuda:1"))
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1"):
        require_first_gpu(Runtime())
    monkeypatch.setattr(Runtime, "torch_device", lambda _: torch.device("cuda"))
    require_first_gpu(Runtime())
