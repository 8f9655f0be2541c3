import numpy as np
import pytest
import torch

from genrec.tokenization.alignment import ModalityAdaption, contrastive_loss


def pairs(m=5, d=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(m, d, generator=generator, **options) for _ in range(2)]


def test_the_contrastive_loss_by_hand():
    cf, text = (each.numpy() for each in pairs())
    total = 0.0
    for i in range(5):
        for one, other in ((cf, text), (text, cf)):
            exps = [
                np.exp(one[i] @ row / np.linalg.norm(one[i]) / np.linalg.norm(row) / 0.3)
                for row in other
            ]
            total -= np.log(exps[i] / sum(exps)) / 2
    loss = contrastive_loss(torch.from_numpy(cf), torch.from_numpy(text), 0.3)
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)


def test_both_sides_get_the_gradient_of_the_contrastive_loss():
    sides = [each.requires_grad_() for each in pairs(dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda cf, text: contrastive_loss(cf, text, 0.3), sides)


def test_the_contrastive_loss_at_its_ends():
    one = torch.eye(4)
    assert contrastive_loss(one, 9 * one, 0.01).item() == pytest.approx(0, abs=1e-6)
    # Vectors that are all the same tell nothing: every item is as likely as any.
    same = torch.ones(4, 3)
    assert contrastive_loss(same, same, 0.01).item() == pytest.approx(np.log(4))
    assert contrastive_loss(same[:1], same[:1], 0.01).item() == 0


def test_the_adaption_layer_by_hand():
    torch.manual_seed(0)
    adaption = ModalityAdaption(6, 4)
    torch.nn.init.normal_(adaption.norm.weight)
    torch.nn.init.normal_(adaption.norm.bias)
    weights = {name: value.detach().numpy() for name, value in adaption.named_parameters()}
    text = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    projected = text @ weights["projection.weight"].T + weights["projection.bias"]
    centred = projected - projected.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = normed * weights["norm.weight"] + weights["norm.bias"]
    with torch.no_grad():
        given = adaption(torch.from_numpy(text)).numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    length = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(adaption.predict(text), expected / length, rtol=1e-4, atol=1e-5)


def test_a_text_that_says_nothing_is_adapted_to_nothing():
    text = np.array([[0, 0], [1, 2]], dtype=np.float32)
    adapted = ModalityAdaption(2, 3).predict(text)
    assert not adapted[0].any()
    assert np.linalg.norm(adapted[1]) == pytest.approx(1, rel=1e-5)


def test_the_layer_is_put_back_from_its_arrays():
    adaption = ModalityAdaption(6, 4)
    text = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    again = ModalityAdaption.from_arrays(adaption.arrays())
    np.testing.assert_array_equal(again.predict(text), adaption.predict(text))
