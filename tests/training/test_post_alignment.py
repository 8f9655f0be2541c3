"""The post-alignment loss against arithmetic written out."""

import math

import numpy as np
import pytest
import torch

from genrec.errors import DataError
from genrec.training.post_alignment import PostAlignment


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_hand(own, frozen, same, temperature):
    """The two directions, one exponential at a time; ``same[i][j]``: j is no negative of i."""
    scores = unit(own) @ unit(frozen).T / temperature
    n, total = len(own), 0.0
    for i in range(n):
        for line in (scores[i], scores[:, i]):
            others = sum(math.exp(line[j]) for j in range(n) if j == i or not same[i][j])
            total -= math.log(math.exp(line[i]) / others)
    return total / (2 * n)


@pytest.fixture
def loss():
    torch.manual_seed(0)
    return PostAlignment(5, 3, temperature=0.5)


def vectors(m, seed=1):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(m, 5)), generator.normal(size=(m, 3))


def test_against_arithmetic_with_a_user_who_occurs_twice(loss):
    states, frozen = vectors(4)
    users = [7, 8, 7, 9]
    weight, bias = (p.detach().double().numpy() for p in loss.projection.parameters())
    same = [[a == b for b in users] for a in users]
    expected = by_hand(states @ weight.T + bias, frozen, same, 0.5)
    got = loss(torch.tensor(states), torch.tensor(frozen), torch.tensor(users))
    assert got.item() == pytest.approx(expected, rel=1e-5)
    plain = by_hand(states @ weight.T + bias, frozen, np.zeros((4, 4)), 0.5)
    assert loss(torch.tensor(states), torch.tensor(frozen)).item() == pytest.approx(plain, rel=1e-5)
    assert plain > expected


def test_two_users_with_one_history_are_no_negatives_of_each_other(loss):
    states, frozen = vectors(3)
    frozen[2] = 2 * frozen[0]
    weight, bias = (p.detach().double().numpy() for p in loss.projection.parameters())
    same = np.zeros((3, 3), dtype=bool)
    same[0, 2] = same[2, 0] = True
    expected = by_hand(states @ weight.T + bias, frozen, same, 0.5)
    got = loss(torch.tensor(states), torch.tensor(frozen))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_users_the_frozen_model_knows_nothing_of_are_left_out(loss):
    states, frozen = vectors(4)
    frozen[1] = 0
    keep = [0, 2, 3]
    got = loss(torch.tensor(states), torch.tensor(frozen))
    assert got.item() == loss(torch.tensor(states[keep]), torch.tensor(frozen[keep])).item()
    frozen[2:] = 0
    alone = loss(torch.tensor(states), torch.tensor(frozen))
    assert alone.item() == 0
    alone.backward()


def test_only_the_states_learn(loss):
    states = torch.randn(4, 5, requires_grad=True)
    frozen = torch.randn(4, 3, requires_grad=True)
    loss(states, frozen).backward()
    assert frozen.grad is None
    assert states.grad.abs().sum() > 0


def test_training_brings_the_two_together(loss):
    frozen = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    states = torch.nn.Parameter(torch.randn(6, 5, generator=torch.Generator().manual_seed(3)))
    optimizer = torch.optim.Adam([states, *loss.parameters()], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(states, frozen)
        value.backward()
        optimizer.step()
    nearest = (
        torch.nn.functional.normalize(loss.projection(states), dim=1)
        @ torch.nn.functional.normalize(frozen, dim=1).T
    ).argmax(1)
    assert nearest.tolist() == list(range(6))


def test_another_width_is_refused(loss):
    with pytest.raises(DataError, match="4 dimensions, expected 3"):
        loss(torch.zeros(2, 5), torch.zeros(2, 4))
