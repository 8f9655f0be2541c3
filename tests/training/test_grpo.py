"""The loss against the formula, number by number."""

import math

import pytest
import torch

from genrec.training.grpo import grpo_loss

CLIP, WEIGHT = 0.2, 0.04


def by_hand(new, old, reference, advantages, drawn):
    """The formula in plain Python: loss, mean divergence, share that is clipped."""
    costs, divergences, clipped = [], [], []
    for row in range(len(new)):
        for place in range(len(new[0])):
            own = []
            for level in range(len(new[0][0])):
                if not drawn[row][place][level]:
                    continue
                ratio = math.exp(new[row][place][level] - old[row][place][level])
                gain = advantages[row][place]
                away = reference[row][place][level] - new[row][place][level]
                divergence = math.exp(away) - away - 1
                best = min(ratio * gain, min(max(ratio, 1 - CLIP), 1 + CLIP) * gain)
                own.append(WEIGHT * divergence - best)
                divergences.append(divergence)
                clipped.append((ratio < 1 - CLIP and gain < 0) or (ratio > 1 + CLIP and gain > 0))
            if own:
                costs.append(sum(own) / len(own))
    return (sum(part) / len(part) for part in (costs, divergences, clipped))


def batch(groups=3, items=4, levels=3):
    random = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    new = -draw(groups, items, levels).abs()
    old = new + 0.3 * draw(groups, items, levels)
    reference = new + 0.5 * draw(groups, items, levels)
    drawn = torch.ones(groups, items, levels, dtype=torch.bool)
    drawn[0, :, 0] = False  # a hint
    drawn[1, -1] = False  # an item fewer
    advantages = draw(groups, items)
    return new, old, reference, advantages, drawn


def test_loss_divergence_and_clipping_are_those_of_the_formula():
    parts = batch()
    found = grpo_loss(*parts, clip=CLIP, kl_weight=WEIGHT)
    loss, divergence, clipped = by_hand(*(part.tolist() for part in parts))
    assert found.loss.item() == pytest.approx(loss, rel=1e-12)
    assert found.kl == pytest.approx(divergence, rel=1e-12)
    assert found.clipped == pytest.approx(clipped, rel=1e-6)
    assert 0 < found.clipped < 1


def test_the_gradient_of_the_first_step_is_the_advantage_alone():
    """With new, old and reference alike, d loss / d new = -A / (codes of the item * items)."""
    new, _, _, advantages, drawn = batch()
    new.requires_grad_()
    same = new.detach()
    found = grpo_loss(new, same, same, advantages, drawn, clip=CLIP, kl_weight=WEIGHT)
    found.loss.backward()
    codes, items = drawn.sum(-1, keepdim=True), int(drawn.any(-1).sum())
    want = torch.where(drawn, -advantages.unsqueeze(-1) / codes.clamp(min=1) / items, 0.0)
    torch.testing.assert_close(new.grad, want)
    assert found.kl == 0
    assert found.clipped == 0


def test_what_went_too_far_is_no_longer_pushed():
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    drawn = torch.ones(1, 1, 1, dtype=torch.bool)
    for moved, gain, pushed in (
        (0.5, 1.0, False),
        (-0.5, -1.0, False),
        (-0.5, 1.0, True),
        (0.5, -1.0, True),
    ):
        new = (-one + moved).requires_grad_()
        found = grpo_loss(new, -one, -one, one[0] * gain, drawn, clip=CLIP, kl_weight=0.0)
        found.loss.backward()
        assert (new.grad.item() != 0) == pushed


def test_divergence_is_never_negative_and_pulls_back():
    new = torch.tensor([[[-1.0], [-3.0]]], dtype=torch.float64, requires_grad=True)
    reference = torch.full((1, 2, 1), -2.0, dtype=torch.float64)
    found = grpo_loss(
        new,
        new.detach(),
        reference,
        torch.zeros(1, 2, dtype=torch.float64),
        torch.ones(1, 2, 1, dtype=torch.bool),
        clip=CLIP,
        kl_weight=1.0,
    )
    found.loss.backward()
    assert found.kl == pytest.approx((math.exp(-1) + 1 - 1 + math.exp(1) - 1 - 1) / 2)
    assert new.grad[0, 0, 0] > 0 > new.grad[0, 1, 0]
