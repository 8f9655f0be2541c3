"""Tables too large for memory, for every quantizer that learns by k-means."""

import tracemalloc

import numpy as np
import pytest

from genrec.tokenization import kmeans
from genrec.tokenization.product import ProductQuantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans


def residual(balanced, normalise):
    def make(levels, codes):
        return ResidualKMeans(
            levels, codes, iterations=8, balanced=balanced, normalise_residuals=normalise
        )

    return make


def product(rotate):
    return lambda levels, codes: ProductQuantizer(levels, codes, iterations=8, rotate=rotate)


MAKERS = [
    pytest.param(residual(False, False), id="residual"),
    pytest.param(residual(True, False), id="balanced"),
    pytest.param(residual(False, True), id="normalised"),
    pytest.param(residual(True, True), id="balanced-normalised"),
    pytest.param(product(False), id="product"),
    pytest.param(product(True), id="rotated"),
]


def learned(quantizer, x):
    """Codes of the items learned from."""
    if isinstance(quantizer, ResidualKMeans):
        return quantizer.fit_encode(x)
    return quantizer.fit(x).codes_of(x)


def vectors(n, d=8):
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


def mapped(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("make", MAKERS)
def test_a_mapped_table_of_half_precision_gets_the_codes_of_its_values(make, tmp_path):
    # More than 256 vectors a code, so it learns from a sample.
    half = vectors(n=1500).astype(np.float16)
    full = half.astype(np.float32)
    expected, quantizer = make(2, 4), make(2, 4)
    codes = learned(expected, full)
    table = mapped(tmp_path, half)
    np.testing.assert_array_equal(learned(quantizer, table), codes)
    np.testing.assert_array_equal(quantizer.codes_of(table), expected.codes_of(full))
    np.testing.assert_array_equal(
        quantizer.distances(table, codes[:, :1]), expected.distances(full, codes[:, :1])
    )
    assert quantizer.encode(table).loss == pytest.approx(expected.encode(full).loss)


@pytest.mark.parametrize("make", MAKERS)
def test_many_blocks_are_as_good_as_one(make, monkeypatch):
    x = vectors(n=300)
    whole = make(2, 8)
    codes = learned(whole, x)
    encoded, table = whole.encode(x), whole.distances(x, codes[:, :1])
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 32)
    blocked = make(2, 8)
    np.testing.assert_array_equal(learned(blocked, x), codes)
    np.testing.assert_array_equal(blocked.encode(x).codes, encoded.codes)
    np.testing.assert_allclose(blocked.encode(x).vectors, encoded.vectors, atol=1e-6)
    np.testing.assert_array_equal(blocked.distances(x, codes[:, :1]), table)


@pytest.mark.parametrize("make", MAKERS)
def test_a_large_table_is_never_held_in_memory(make, tmp_path, monkeypatch):
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 512)
    x = mapped(tmp_path, vectors(n=20000, d=128).astype(np.float16))
    quantizer = make(2, 4)
    tracemalloc.start()
    try:
        codes = learned(quantizer, x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The whole table takes 5 MB as it is and 10 MB in single precision; 1,024 rows are learned.
    assert peak < 4e6
    assert codes.shape == (20000, 2)
    # What was learned from a sample holds for all.
    loss = quantizer.encode(x).loss
    assert loss < 0.999 * x.astype(np.float32).var(axis=0).sum()


@pytest.mark.parametrize("normalise", [False, True])
def test_balanced_codes_of_a_large_table_have_their_equal_share_at_most(normalise):
    x = vectors(n=5000)
    x[:2500] /= 10
    codes = residual(True, normalise)(2, 4).fit_encode(x)
    for level in range(2):
        assert np.bincount(codes[:, level]).tolist() == [1250] * 4
    plain = residual(False, normalise)(2, 4).fit_encode(x)
    assert np.bincount(plain[:, 0]).max() > 1250
