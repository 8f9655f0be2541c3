"""Added dropout acts in training and only there."""

import pytest
import torch

from genrec.errors import ConfigError
from genrec.model.language_model import from_scratch
from genrec.training.dropout import add_dropout


def model_of(index):
    torch.manual_seed(0)
    return from_scratch(index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=32)[0]


def test_acts_in_training_only(small_index):
    model = model_of(small_index)
    tokens = torch.tensor([[1, 4, 9]])
    plain = model.eval()(input_ids=tokens).logits
    add_dropout(model, 0.5)
    torch.testing.assert_close(model(input_ids=tokens).logits, plain)
    model.train()
    first, second = (model(input_ids=tokens).logits for _ in range(2))
    assert not torch.allclose(first, second)


def test_zero_changes_nothing_and_other_models_are_refused(small_index):
    model = model_of(small_index)
    add_dropout(model, 0.0)
    assert not model.get_input_embeddings()._forward_hooks
    with pytest.raises(ConfigError, match="o_proj"):
        add_dropout(torch.nn.Sequential(torch.nn.Linear(2, 2)), 0.1)
