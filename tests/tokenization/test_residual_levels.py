import numpy as np
import pytest

from genrec.tokenization.residual_kmeans import ResidualKMeans


def vectors(n=400, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def normalised_by_hand(x, codes, codebooks):
    """Own lengths s_0 = 1, s_1, ... float64[n, L] and what is left at each level, by definition."""
    left, lengths, rests = x.astype(np.float64), [np.ones(len(x))], []
    for level, codebook in enumerate(codebooks):
        rests.append(left)
        left = left - codebook[codes[:, level]]
        lengths.append(np.linalg.norm(left, axis=1))
        left = left / lengths[-1][:, None]
    return np.stack(lengths[:-1], axis=1), rests


def test_normalised_residuals_follow_the_definition():
    x, unseen = vectors(n=500), vectors(n=100, seed=9)
    quantizer = ResidualKMeans(3, 8, normalise_residuals=True).fit(x)
    for sample in (x, unseen):
        quantized = quantizer.encode(sample)
        lengths, rests = normalised_by_hand(sample, quantized.codes, quantizer.codebooks)
        for level, rest in enumerate(rests):
            away = rest[:, None, :] - quantizer.codebooks[level][None].astype(np.float64)
            table = (away**2).sum(axis=2)
            np.testing.assert_array_equal(quantized.codes[:, level], table.argmin(axis=1))
            own = np.prod(lengths[:, : level + 1], axis=1)
            np.testing.assert_allclose(
                quantizer.distances(sample, quantized.codes[:, :level]),
                table * own[:, None] ** 2,
                rtol=1e-4,
            )
    lengths, _ = normalised_by_hand(x, quantizer.codes_of(x), quantizer.codebooks)
    for level in (0, 1):
        for code in range(8):
            mine = quantizer.codes_of(x)[:, level] == code
            expected = lengths[mine, level + 1].mean()
            assert quantizer.mean_lengths[level][code] == pytest.approx(expected, rel=1e-4)


def test_normalised_codes_stand_for_centroids_at_mean_lengths():
    x = vectors(n=500)
    quantizer = ResidualKMeans(3, 8, normalise_residuals=True).fit(x)
    quantized = quantizer.encode(x)
    (first, second, third), (after, later) = quantizer.codebooks, quantizer.mean_lengths
    a, b, c = quantized.codes.T
    inner = second[b] + later[b][:, None] * third[c]
    expected = first[a] + after[a][:, None] * inner
    np.testing.assert_allclose(quantized.vectors, expected, atol=1e-5)
    np.testing.assert_allclose(
        quantizer.decode(quantized.codes, 2),
        first[a] + after[a][:, None] * second[b],
        atol=1e-5,
    )
    assert quantized.loss == pytest.approx(((x - expected) ** 2).sum(axis=1).mean(), rel=1e-4)
    # Neither shorter nor longer would be a better guess.
    for factor in (0.8, 1.25):
        other = first[a] + factor * after[a][:, None] * inner
        assert ((x - other) ** 2).sum(axis=1).mean() > quantized.loss


def test_normalised_residuals_do_not_follow_far_out_items():
    x = vectors(n=600, d=6)
    x[::3] *= 1000
    code = {}
    for normalise in (False, True):
        quantizer = ResidualKMeans(2, 16, normalise_residuals=normalise).fit(x)
        near = np.flatnonzero(np.arange(len(x)) % 3)
        code[normalise] = np.unique(quantizer.codes_of(x)[near, 1])
    # Without it all ordinary items share a code or two of the second level.
    assert len(code[False]) <= 2
    assert len(code[True]) >= 8
