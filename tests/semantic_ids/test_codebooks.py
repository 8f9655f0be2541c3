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


def test_an_index_without_codebooks_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.new_rows to titles"):
        load_codebooks(tmp_path)
