"""The running average against arithmetic written out."""

import pytest
import torch

from genrec.training.averaging import WeightAverage


def test_average_follows_the_formula_and_swaps_back(tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, decay=0.5)
    want = 1.0
    for step, value in enumerate([2.0, 4.0, 8.0, 16.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(step)
        decay = min(0.5, step / (step + 9))
        want = decay * want + (1 - decay) * value
    average.swap()
    assert model.weight.item() == pytest.approx(want)
    average.swap()
    assert model.weight.item() == 16.0
    average.save(tmp_path)
    other = WeightAverage(model, decay=0.5)
    other.load(tmp_path)
    other.swap()
    assert model.weight.item() == pytest.approx(want)


def test_frozen_weights_are_left_alone():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.bias.fill_(5.0)
    average.swap()
    assert model.bias.tolist() == [5.0, 5.0]
