"""The codebooks of an index folder, as each kind of quantizer writes them."""

import numpy as np
import pytest

from genrec.errors import ConfigError
from genrec.semantic_ids.codebooks import load_codebooks
from genrec.tokenization.product import ProductQuantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae import RqVae

VECTORS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", [ResidualKMeans, ProductQuantizer])
def test_the_codebooks_that_were_learned(kind, tmp_path):
    quantizer = kind(2, 8).fit(VECTORS)
    quantizer.save(tmp_path)
    for found, learned in zip(load_codebooks(tmp_path), quantizer.codebooks, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, learned)


def test_the_codebooks_of_an_rq_vae_are_what_its_distances_are_measured_to(tmp_path):
    quantizer = RqVae(2, 8, hidden=[16], dimensions=4, epochs=2, seed=1).fit(VECTORS)
    quantizer.save(tmp_path)
    first, second = load_codebooks(tmp_path)
    assert first.shape == second.shape == (8, 4)
    codes = quantizer.codes_of(VECTORS)
    # The distance to a code after a prefix is that of what the prefix leaves of the latents.
    before = quantizer.distances(VECTORS, codes[:, :0])
    after = quantizer.distances(VECTORS, codes[:, :1])
    # Differences of squared distances are linear in the latents z, which they thus give away.
    flat = 2 * (first[1:] - first[0])
    latents = np.linalg.lstsq(
        flat,
        (before[:, :1] - before[:, 1:]).T
        + np.square(first[1:]).sum(1)[:, None]
        - np.square(first[0]).sum(),
    )[0].T
    left = latents - first[codes[:, 0]]
    np.testing.assert_allclose(
        np.square(left[:, None] - second).sum(2), after, rtol=1e-3, atol=1e-4
    )


def test_an_index_without_codebooks_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.new_rows to titles"):
        load_codebooks(tmp_path)
