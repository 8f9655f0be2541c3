"""What the training on events left, for a run that was stopped after it."""

import torch

from genrec.model.generative import GenerativeModel
from genrec.training import train
from genrec.training.learner import Learner
from genrec.training.tuned import tuned_once
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
    assert tuned_once(first, kept, learn, keep=True) == [{"step": 3}]
    assert tuned_once(again, kept, never, keep=True) == [{"step": 3}]
    assert again.model.facts == first.model.facts
    for own, other in zip(first.trained.parameters(), again.trained.parameters(), strict=True):
        assert torch.equal(own, other)
