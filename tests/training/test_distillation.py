import math

import pytest
import torch

from genrec.errors import DataError
from genrec.training.distillation import InModalityDistillation


@pytest.fixture
def distillation():
    torch.manual_seed(0)
    return InModalityDistillation(5, 3, temperature=0.5)


def by_hand(module, states, rows, vectors):
    """One position at a time, in plain Python."""
    flat = rows.flatten().tolist()
    candidates = sorted({row for row in flat if row != -100 and any(vectors[row].tolist())})
    losses = []
    for state, row in zip(states.reshape(-1, states.shape[-1]), flat, strict=True):
        if row not in candidates:
            continue
        guess = [
            sum(w * s for w, s in zip(weights, state.tolist(), strict=True)) + bias
            for weights, bias in zip(
                module.projection.weight.tolist(), module.projection.bias.tolist(), strict=True
            )
        ]
        exps = {
            other: math.exp(cosine(guess, vectors[other].tolist()) / module.temperature)
            for other in candidates
        }
        losses.append(-math.log(exps[row] / sum(exps.values())))
    return sum(losses) / len(losses)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_the_loss_by_hand(distillation):
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(2, 4, 5, generator=generator)
    vectors = torch.randn(6, 3, generator=generator)
    vectors[4] = 0
    # Item 2 three times, padding in the middle and at the end, item 4 without a vector.
    rows = torch.tensor([[2, 0, -100, 2], [5, 4, 2, -100]])
    loss = distillation(states, rows, vectors)
    assert loss.item() == pytest.approx(by_hand(distillation, states, rows, vectors), rel=1e-5)


def test_gradients_agree_with_differences(distillation):
    distillation = distillation.double()
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    rows = torch.tensor([3, 1, 1, 0])
    parameters = dict(distillation.named_parameters())

    def loss(states, weight, bias):
        given = {"projection.weight": weight, "projection.bias": bias}
        return torch.func.functional_call(distillation, given, (states, rows, vectors))

    assert torch.autograd.gradcheck(loss, (states, *parameters.values()))


def test_the_vectors_are_targets_and_not_learned(distillation):
    states = torch.randn(3, 5, requires_grad=True)
    vectors = torch.randn(3, 3, requires_grad=True)
    distillation(states, torch.tensor([0, 1, 2]), vectors).backward()
    assert vectors.grad is None
    assert states.grad.abs().sum() > 0
    assert distillation.projection.weight.grad.abs().sum() > 0


def test_states_that_know_their_item_learn_to_tell_it():
    torch.manual_seed(0)
    distillation = InModalityDistillation(16, 8)
    states, vectors = torch.randn(10, 16), torch.randn(10, 8)
    rows = torch.arange(10)
    optimizer = torch.optim.Adam(distillation.parameters(), lr=0.05)
    first = distillation(states, rows, vectors).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss = distillation(states, rows, vectors)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < first


@pytest.mark.parametrize("rows", [[-100, -100], [3, 3], [1, -100]])
def test_with_nothing_to_tell_apart_the_loss_is_zero_and_so_is_its_gradient(distillation, rows):
    states = torch.randn(2, 5, requires_grad=True)
    vectors = torch.eye(3).repeat(2, 1)
    vectors[1] = 0
    loss = distillation(states, torch.tensor(rows), vectors)
    loss.backward()
    assert loss.item() == 0
    assert not states.grad.any()


def test_half_precision_states_give_a_full_precision_loss(distillation):
    states = torch.randn(4, 5).bfloat16()
    rows, vectors = torch.arange(4), torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = distillation(states, rows, vectors.bfloat16())
    assert loss.dtype == torch.float32
    expected = distillation(states.float(), rows, vectors.bfloat16().float())
    torch.testing.assert_close(loss, expected)


def test_vectors_of_another_width_are_refused(distillation):
    with pytest.raises(DataError, match="have 4 dimensions, expected 3"):
        distillation(torch.randn(2, 5), torch.arange(2), torch.randn(2, 4))
