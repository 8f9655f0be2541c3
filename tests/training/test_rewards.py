"""Rewards and advantages against the rules written out."""

import numpy as np
import pytest
import torch

from genrec.training.rewards import group_advantages, group_rewards


def test_a_hit_is_worth_one_and_a_wrong_item_costs_by_its_place():
    hits = torch.tensor([[False, True, False, False]])
    rewards = group_rewards(hits, torch.ones_like(hits))
    gains = [1 / np.log2(place + 1) for place in (1, 2, 3, 4)]
    want = [-gains[0] / sum(gains), 1.0, -gains[2] / sum(gains), -gains[3] / sum(gains)]
    torch.testing.assert_close(rewards[0].tolist(), want, rtol=1e-6, atol=0)


def test_a_group_without_a_hit_is_worth_nothing():
    hits = torch.zeros(2, 3, dtype=torch.bool)
    assert group_rewards(hits, torch.ones_like(hits)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_places_without_an_item_count_for_nothing():
    hits = torch.tensor([[False, True, False, False]])
    real = torch.tensor([[True, True, True, False]])
    short, whole = group_rewards(hits, real), group_rewards(hits[:, :3], real[:, :3])
    assert short[0, :3].tolist() == whole[0].tolist()
    assert short[0, 3] == 0
    advantages = group_advantages(short, real)
    assert advantages[0, :3].tolist() == group_advantages(whole, real[:, :3])[0].tolist()
    assert advantages[0, 3] == 0


def test_a_group_of_hits_only_teaches_nothing():
    """Where hints leave one item, it is right, and there is nothing to set it against."""
    hits = torch.tensor([[True, False]])
    real = torch.tensor([[True, False]])
    rewards = group_rewards(hits, real)
    assert rewards.tolist() == [[1, 0]]
    assert group_advantages(rewards, real).tolist() == [[0, 0]]


def test_advantages_are_in_units_of_the_sample_deviation():
    rewards = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    found = group_advantages(torch.from_numpy(rewards), torch.ones(3, 7, dtype=torch.bool))
    for group, advantages in zip(rewards, found, strict=True):
        want = (group - group.mean()) / (np.std(group, ddof=1) + 1e-4)
        np.testing.assert_allclose(advantages, want, rtol=1e-4, atol=1e-6)


def test_equal_rewards_give_no_advantage():
    advantages = group_advantages(torch.full((2, 4), 0.25), torch.ones(2, 4, dtype=torch.bool))
    assert advantages.abs().max() == pytest.approx(0, abs=1e-6)
