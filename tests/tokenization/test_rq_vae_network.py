import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from genrec.tokenization import kmeans
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae_network import Assignment, RqVaeNetwork, Scaling
from genrec.tokenization.sinkhorn import uniform_codes


def network(sizes=(8, 8), epsilon=None, commitment=0.25, seed=0):
    torch.manual_seed(seed)
    made = RqVaeNetwork(6, [10], 4, sizes, commitment=commitment, epsilon=epsilon)
    for codebook in made.codebooks:
        torch.nn.init.normal_(codebook)
    return made


def latents(n=30, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32))


def nearest_by_hand(z, codebooks):
    """Codes and residuals of each level by the definition."""
    residual, codes, residuals = z.numpy().astype(np.float64), [], []
    for codebook in codebooks:
        table = codebook.detach().numpy().astype(np.float64)
        residuals.append(residual)
        codes.append(((residual[:, None] - table) ** 2).sum(axis=2).argmin(axis=1))
        residual = residual - table[codes[-1]]
    return np.stack(codes, axis=1), [*residuals, residual]


def test_the_decoder_mirrors_the_encoder():
    made = RqVaeNetwork(6, [10, 5], 4, (8,))
    shapes = [tuple(layer.weight.shape) for layer in made.encoder if hasattr(layer, "weight")]
    assert shapes == [(10, 6), (5, 10), (4, 5)]
    back = [tuple(layer.weight.shape) for layer in made.decoder if hasattr(layer, "weight")]
    assert back == [shape[::-1] for shape in shapes[::-1]]
    # No activation after the last layer: both signs come out.
    assert (made.encoder(torch.randn(200, 6)) < 0).any()
    assert (made.decoder(torch.randn(200, 4)) < 0).any()
    linear = RqVaeNetwork(6, [], 4, (8,))
    assert len(linear.encoder) == len(linear.decoder) == 1


def test_codes_are_the_nearest_and_the_loss_is_that_of_the_paper():
    made, z = network((8, 5, 3)), latents()
    quantization = made.quantize(z)
    codes, residuals = nearest_by_hand(z, made.codebooks)
    np.testing.assert_array_equal(quantization.codes, codes)
    # |v - r|^2 is what the level leaves; codebook and commitment loss have the same value.
    losses = [1.25 * (rest**2).mean() for rest in residuals[1:]]
    assert float(quantization.loss.detach()) == pytest.approx(np.mean(losses), rel=1e-5)
    np.testing.assert_allclose(
        quantization.quantized.detach(), z.numpy() - residuals[-1], atol=1e-5
    )


def test_assignment_holds_every_level():
    made, z = network((8, 5, 3)), latents()
    parts = [made.assign(part) for part in (z[:7], z[7:])]
    whole = Assignment.join(parts)
    codes, residuals = nearest_by_hand(z, made.codebooks)
    np.testing.assert_array_equal(whole.codes, codes)
    for level in range(3):
        np.testing.assert_allclose(whole.residuals[:, level].detach(), residuals[level], atol=1e-5)
        errors = (residuals[level + 1] ** 2).sum(axis=1)
        np.testing.assert_allclose(whole.errors[:, level].detach(), errors, atol=1e-5)
    np.testing.assert_allclose(whole.quantized.detach(), z.numpy() - residuals[-1], atol=1e-5)


def test_gradients_go_straight_through_to_the_latents():
    made, z = network(), latents().requires_grad_()
    target = torch.randn(30, 6)
    quantized = made.quantize(z).quantized
    functional.mse_loss(made.decoder(quantized), target).backward()
    leaf = quantized.detach().requires_grad_()
    functional.mse_loss(made.decoder(leaf), target).backward()
    torch.testing.assert_close(z.grad, leaf.grad)
    assert all(codebook.grad is None for codebook in made.codebooks)


def test_the_loss_moves_codes_to_residuals_and_latents_to_codes():
    made, z = network(commitment=0.5), latents().requires_grad_()
    quantization = made.quantize(z)
    quantization.loss.backward()
    codes, residuals = nearest_by_hand(z.detach(), made.codebooks)
    elements = z.numel() * 2
    commitment = np.zeros(z.shape)
    for level, codebook in enumerate(made.codebooks):
        pull = np.zeros(tuple(codebook.shape))
        # d/dv of (v - r)^2 is 2 (v - r) = -2 times what the level leaves.
        np.add.at(pull, codes[:, level], -2 * residuals[level + 1] / elements)
        np.testing.assert_allclose(codebook.grad, pull, atol=1e-6)
        commitment += 0.5 * 2 * residuals[level + 1] / elements
    np.testing.assert_allclose(z.grad, commitment, atol=1e-6)


def test_the_last_level_alone_is_given_out_evenly():
    made, z = network((8, 8), epsilon=0.003), latents(64)
    codes = made.quantize(z).codes.numpy()
    plain, residuals = nearest_by_hand(z, made.codebooks)
    np.testing.assert_array_equal(codes[:, 0], plain[:, 0])
    table = made.codebooks[1].detach().numpy()
    distances = ((residuals[1][:, None] - table) ** 2).sum(axis=2)
    np.testing.assert_array_equal(codes[:, 1], uniform_codes(distances, 0.003, 50))
    assert np.bincount(codes[:, 1]).max() < np.bincount(plain[:, 1]).max()
    np.testing.assert_array_equal(made.assign(z).codes.numpy(), plain)


def test_codebooks_start_by_k_means_each_on_its_own_residual():
    made, z = network((8, 8, 8)), latents(300)
    made.start_codebooks(z.numpy(), seed=5)
    peer = ResidualKMeans(3, 8, iterations=25, seed=5).fit(z.numpy())
    for codebook, centroids in zip(made.codebooks, peer.codebooks, strict=True):
        np.testing.assert_array_equal(codebook.detach(), centroids)
    few = copy.deepcopy(made)
    few.start_codebooks(z[:1].repeat(20, 1).numpy(), seed=5)
    assert (few.codebooks[0][0] == z[0]).all() and not few.codebooks[0][1:].any()


def test_scaling_keeps_proportions_and_is_undone(monkeypatch):
    x = np.random.default_rng(0).normal(3, 5, size=(50, 4)).astype(np.float32)
    x[:, 0] *= 100
    scaling = Scaling.of(x)
    np.testing.assert_allclose(scaling.centre, x.mean(axis=0, dtype=np.float64))
    assert scaling.factor == pytest.approx(np.sqrt(x.var(axis=0, dtype=np.float64).mean()))
    scaled = scaling.scaled(x)
    assert (scaled**2).mean() == pytest.approx(1)
    np.testing.assert_array_equal(scaling.restored(scaled), x)
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 7)
    blocked = Scaling.of(x)
    np.testing.assert_allclose(blocked.centre, scaling.centre)
    assert blocked.factor == pytest.approx(scaling.factor)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_equal_vectors_have_nothing_to_scale(value):
    x = np.full((7000, 3), value, dtype=np.float32)
    scaling = Scaling.of(x)
    assert scaling.factor == 1
    np.testing.assert_allclose(scaling.scaled(x), 0, atol=1e-9)
