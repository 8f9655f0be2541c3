"""What the training on events left, for a run that was stopped after it."""

import json

import pytest
import torch

from genrec import artifacts
from genrec.model.generative import GenerativeModel
from genrec.training import train
from genrec.training.learner import Learner
from genrec.training.tuned import tuned_once
from tests.training.bridged_run import write_run
from tests.training.world import RUNTIME, make_run, recipe


def learner_of(folder):
    model = GenerativeModel.load(folder, device=RUNTIME.torch_device())
    model.language_model.requires_grad_()
    return Learner(model.language_model, model)


def test_weights_log_and_facts_come_back_and_nothing_is_trained_again(
    tmp_path, cycle_dataset, small_index
):
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    folder = train.run(run, recipe(max_steps=1, evaluations=1), RUNTIME)
    first, again = learner_of(folder), learner_of(folder)

    def learn():
        first.model.facts["tasks"] = {"sequences": {"search": 7}}
        with torch.no_grad():
            for parameter in first.trained.parameters():
                parameter.add_(1)
        return [{"step": 3}]

    def never():
        raise AssertionError("trained twice")

    kept = tmp_path / "tuned"
    assert tuned_once(first, {}, kept, learn) == [{"step": 3}]
    assert tuned_once(again, {}, kept, never) == [{"step": 3}]
    assert again.model.facts == first.model.facts
    for own, other in zip(first.trained.parameters(), again.trained.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_stop_while_the_shares_are_chosen_does_not_train_again(
    tmp_path, cycle_dataset, small_index, monkeypatch
):
    settings = recipe(max_steps=4, evaluations=2, dense={"weight": 1.0, "vectors": "text"})
    straight = write_run(tmp_path / "straight", cycle_dataset, small_index)
    stopped = write_run(tmp_path / "stopped", cycle_dataset, small_index)
    train.run(straight, settings, RUNTIME)
    with monkeypatch.context() as patch:
        patch.setattr(train, "calibrate", stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(stopped, settings, RUNTIME)
    monkeypatch.setattr(train, "learn_events", lambda *_: pytest.fail("trained twice"))
    train.run(stopped, settings, RUNTIME)
    for name in ("model.safetensors", "dense.safetensors"):
        one, other = (artifacts.sha256_of(run / "model" / name) for run in (straight, stopped))
        assert one == other
    log = [(run / "model" / "training.json").read_text() for run in (straight, stopped)]
    assert len(json.loads(log[0])) == len(json.loads(log[1]))


def stop(*_):
    raise KeyboardInterrupt
