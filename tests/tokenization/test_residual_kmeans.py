import json

import faiss
import numpy as np
import pytest
from sklearn.cluster import KMeans

from genrec.errors import ArtifactError, DataError
from genrec.tokenization.residual_kmeans import ResidualKMeans


def vectors(n=400, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def nearest_by_hand(x, codebooks):
    """Codes and reconstruction by the definition, in double precision."""
    residual = x.astype(np.float64)
    codes = []
    for codebook in codebooks:
        distance = ((residual[:, None, :] - codebook[None].astype(np.float64)) ** 2).sum(axis=2)
        codes.append(distance.argmin(axis=1))
        residual = residual - codebook[codes[-1]]
    return np.stack(codes, axis=1), residual


def test_encode_follows_the_definition():
    x = vectors()
    quantizer = ResidualKMeans(3, 16, seed=1).fit(x)
    unseen = vectors(seed=9)
    for sample in (x, unseen):
        quantized = quantizer.encode(sample)
        codes, residual = nearest_by_hand(sample, quantizer.codebooks)
        np.testing.assert_array_equal(quantized.codes, codes)
        np.testing.assert_allclose(quantized.vectors, sample - residual, atol=1e-5)
        assert quantized.loss == pytest.approx((residual**2).sum() / len(sample), rel=1e-5)
        np.testing.assert_allclose(quantizer.decode(codes), sample - residual, atol=1e-5)


def test_decoding_fewer_levels_adds_fewer_centroids():
    quantizer = ResidualKMeans(3, 16).fit(vectors())
    codes = quantizer.encode(vectors()).codes
    first, second = quantizer.codebooks[:2]
    expected = first[codes[:, 0]] + second[codes[:, 1]]
    np.testing.assert_array_equal(quantizer.decode(codes, 2), expected)


def test_each_level_is_a_k_means_of_what_is_left():
    x = vectors(n=600, d=4)
    quantizer = ResidualKMeans(2, 8, iterations=100, restarts=3).fit(x)
    codes = quantizer.encode(x).codes
    residual = x
    for level, codebook in enumerate(quantizer.codebooks):
        for code in range(8):
            members = residual[codes[:, level] == code]
            np.testing.assert_allclose(codebook[code], members.mean(axis=0), atol=0.02)
        peer = KMeans(8, n_init=3, max_iter=100, random_state=0).fit(residual)
        own = ((residual - codebook[codes[:, level]]) ** 2).sum()
        assert own <= 1.05 * peer.inertia_
        residual = residual - codebook[codes[:, level]]


def test_separated_clusters_are_found():
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], dtype=np.float32)
    offsets = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    x = (centres[:, None] + offsets[None]).reshape(-1, 2).repeat(5, axis=0)
    quantized = ResidualKMeans(2, 4, restarts=5).fit(x).encode(x)
    assert len(np.unique(quantized.codes[:, 0])) == 4
    assert len(np.unique(quantized.codes, axis=0)) == 12
    assert quantized.loss < 1e-6


def test_the_same_seed_gives_the_same_codes_on_any_number_of_threads():
    x = vectors(n=3000, d=32)
    before = faiss.omp_get_max_threads()
    try:
        codes = []
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            codes.append(ResidualKMeans(3, 32, iterations=10, seed=5).fit(x).encode(x).codes)
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])
    other = ResidualKMeans(3, 32, iterations=10, seed=6).fit(x).encode(x).codes
    assert (other != codes[0]).any()


@pytest.mark.parametrize("distinct", [5, 8])
def test_no_more_distinct_vectors_than_codes_are_reproduced_exactly(distinct):
    x = vectors(n=distinct).repeat(40, axis=0)
    quantizer = ResidualKMeans(3, 8).fit(x)
    quantized = quantizer.encode(x)
    assert [len(codebook) for codebook in quantizer.codebooks] == [distinct, 1, 1]
    assert quantizer.level_sizes == (8, 8, 8)
    np.testing.assert_array_equal(quantized.vectors, x)
    assert quantized.loss == 0
    assert len(np.unique(quantized.codes, axis=0)) == distinct


def test_one_vector_is_enough():
    x = vectors(n=1)
    assert ResidualKMeans(2, 4).fit(x).encode(x).codes.tolist() == [[0, 0]]


def test_few_vectors_a_code_print_no_warning(capfd):
    ResidualKMeans(2, 64).fit(vectors(n=100))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_distances_of_the_last_level():
    x = np.vstack([vectors(n=50), vectors(n=50)])
    quantizer = ResidualKMeans(2, 40).fit(x)
    codes = quantizer.encode(x).codes
    table = quantizer.last_distances(x, codes)
    assert table.shape == (100, 40)
    assert len(quantizer.codebooks[1]) < 40
    residual = x.astype(np.float64) - quantizer.codebooks[0][codes[:, 0]]
    for code in range(40):
        if code < len(quantizer.codebooks[1]):
            expected = ((residual - quantizer.codebooks[1][code]) ** 2).sum(axis=1)
            np.testing.assert_allclose(table[:, code], expected, atol=1e-5)
        else:
            assert np.isinf(table[:, code]).all()
    np.testing.assert_array_equal(table[:50], table[50:])


def test_a_round_trip_through_a_folder(tmp_path):
    x = vectors()
    quantizer = ResidualKMeans(3, 16, iterations=7, restarts=2, seed=3).fit(x)
    quantizer.save(tmp_path)
    loaded = ResidualKMeans.load(tmp_path)
    np.testing.assert_array_equal(loaded.encode(x).codes, quantizer.encode(x).codes)
    again = loaded.fit(x)
    np.testing.assert_array_equal(again.encode(x).codes, quantizer.encode(x).codes)


def test_another_kind_of_quantizer_is_refused(tmp_path):
    (tmp_path / "quantizer.json").write_text(json.dumps({"method": "other"}))
    with pytest.raises(ArtifactError, match="method 'other', expected 'residual_kmeans'"):
        ResidualKMeans.load(tmp_path)


def test_bad_vectors_are_refused():
    quantizer = ResidualKMeans(2, 4)
    with pytest.raises(DataError, match="no rows"):
        quantizer.fit(np.zeros((0, 3), dtype=np.float32))
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        quantizer.fit(np.zeros(3, dtype=np.float32))
    with pytest.raises(DataError, match="NaN"):
        quantizer.fit(np.full((2, 3), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="call fit or load first"):
        quantizer.encode(vectors())
    quantizer.fit(vectors(d=8))
    with pytest.raises(DataError, match=r"expected \[items, 8\]"):
        quantizer.encode(vectors(d=9))
