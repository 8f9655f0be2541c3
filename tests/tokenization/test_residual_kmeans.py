import json

import faiss
import numpy as np
import pytest
from sklearn.cluster import KMeans

from genrec.errors import ArtifactError, DataError
from genrec.tokenization.collisions import resolve
from genrec.tokenization.residual_kmeans import ResidualKMeans

VARIANTS = [
    pytest.param({"balanced": balanced, "normalise_residuals": normalise}, id=name)
    for name, balanced, normalise in (
        ("plain", False, False),
        ("balanced", True, False),
        ("normalised", False, True),
        ("both", True, True),
    )
]


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_gives_the_same_codes_on_any_number_of_threads(variant):
    x = vectors(n=3000, d=32)
    before = faiss.omp_get_max_threads()
    try:
        codes = []
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            quantizer = ResidualKMeans(3, 32, iterations=10, seed=5, **variant)
            codes.append((quantizer.fit_encode(x), quantizer.codes_of(x)))
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])
    other = ResidualKMeans(3, 32, iterations=10, seed=6, **variant).fit_encode(x)
    assert (other != codes[0][0]).any()


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_vector_is_enough(variant):
    x = vectors(n=1)
    quantizer = ResidualKMeans(2, 4, **variant)
    assert quantizer.fit_encode(x).tolist() == [[0, 0]]
    assert quantizer.encode(x).codes.tolist() == [[0, 0]]
    np.testing.assert_array_equal(quantizer.decode(quantizer.codes_of(x)), x)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [0, 3])
def test_thousands_of_equal_vectors(variant, value):
    x = np.full((2000, 5), value, dtype=np.float32)
    quantizer = ResidualKMeans(2, 16, **variant)
    codes = quantizer.fit_encode(x)
    np.testing.assert_allclose(quantizer.decode(codes), x, rtol=1e-3, atol=1e-6)
    assert quantizer.encode(x).loss < 1e-5
    for level in range(2):
        counts = np.bincount(codes[:, level], minlength=16)
        assert counts.tolist() == ([125] * 16 if variant["balanced"] else [2000] + [0] * 15)


@pytest.mark.parametrize("variant", VARIANTS)
def test_fewer_items_than_codes(variant):
    x = vectors(n=5)
    quantizer = ResidualKMeans(2, 8, **variant)
    codes = quantizer.fit_encode(x)
    assert sorted(codes[:, 0].tolist()) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(codes[:, 0], quantizer.codes_of(x)[:, 0])
    np.testing.assert_allclose(quantizer.decode(codes), x, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_catalogue_with_many_vectors_missing_gets_codes_of_its_own(variant):
    x = np.vstack([np.zeros((300, 6), dtype=np.float32), vectors(n=300, d=6)])
    quantizer = ResidualKMeans(3, 16, **variant)
    codes = quantizer.fit_encode(x)
    ids = [f"{row:03d}" for row in range(len(x))]
    resolution = resolve(
        codes,
        quantizer.level_sizes,
        ids,
        lambda rows: quantizer.distances(x[rows], codes[rows, :-1]),
    )
    assert len(np.unique(resolution.codes, axis=0)) == len(x)


def test_few_vectors_a_code_print_no_warning(capfd):
    ResidualKMeans(2, 64).fit(vectors(n=100))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_distances_of_the_last_level():
    x = np.vstack([vectors(n=50), vectors(n=50)])
    quantizer = ResidualKMeans(2, 40).fit(x)
    codes = quantizer.encode(x).codes
    table = quantizer.distances(x, codes[:, :-1])
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_vectors_have_equal_distances_wherever_they_stand(variant):
    x = vectors(n=90, d=33)
    quantizer = ResidualKMeans(3, 8, **variant).fit(x)
    codes = quantizer.codes_of(x)
    order = np.random.default_rng(0).permutation(90)
    for level in range(3):
        whole = quantizer.distances(x, codes[:, :level])
        shuffled = quantizer.distances(x[order], codes[order, :level])
        np.testing.assert_array_equal(shuffled, whole[order])
        alone = quantizer.distances(x[7:8], codes[7:8, :level])
        np.testing.assert_array_equal(alone, whole[7:8])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_nearest_code_is_the_one_that_encode_gives(variant):
    # A zero, a copy of a centroid and others: for the first two nothing is left to scale.
    x = np.vstack([np.zeros((1, 8)), vectors(n=1).repeat(60, axis=0), vectors(n=300)])
    x = x.astype(np.float32)
    quantizer = ResidualKMeans(3, 8, **variant).fit(x)
    codes = quantizer.codes_of(x)
    for level in range(3):
        table = quantizer.distances(x, codes[:, :level])
        np.testing.assert_array_equal(table.argmin(axis=1), codes[:, level])


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("n", "codes"), [(500, 16), (500, 7), (1500, 4)])
def test_balanced_codes_have_their_equal_share_at_most(n, codes, normalise):
    x = vectors(n=n)
    x[: n // 2] /= 10
    quantizer = ResidualKMeans(3, codes, balanced=True, normalise_residuals=normalise)
    own = quantizer.fit_encode(x)
    plain = ResidualKMeans(3, codes, normalise_residuals=normalise).fit_encode(x)
    share = -(-n // codes)
    for level in range(3):
        assert np.bincount(own[:, level]).max() <= share
    assert np.bincount(plain[:, 0]).max() > share
    # It costs some error, but not much: nothing like codes at random.
    error = ((x - quantizer.decode(own)) ** 2).sum()
    shuffled = np.random.default_rng(0).permutation(own)
    assert error < 0.7 * ((x - quantizer.decode(shuffled)) ** 2).sum()


def test_unseen_vectors_know_no_bounds():
    x = vectors(n=200)
    quantizer = ResidualKMeans(2, 10, balanced=True).fit(x)
    crowd = x[:1].repeat(50, axis=0)
    codes, residual = nearest_by_hand(crowd, quantizer.codebooks)
    quantized = quantizer.encode(crowd)
    np.testing.assert_array_equal(quantized.codes, codes)
    assert len(np.unique(quantized.codes, axis=0)) == 1
    assert quantized.loss == pytest.approx((residual**2).sum() / 50, rel=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_balanced_codes_do_not_depend_on_the_order_of_the_items(normalise):
    x = vectors(n=700, d=24)
    order = np.random.default_rng(1).permutation(len(x))
    settings = {"iterations": 10, "balanced": True, "normalise_residuals": normalise}
    straight = ResidualKMeans(3, 12, **settings)
    shuffled = ResidualKMeans(3, 12, **settings)
    codes = straight.fit_encode(x)
    np.testing.assert_array_equal(shuffled.fit_encode(x[order]), codes[order])
    for one, other in zip(straight.codebooks, shuffled.codebooks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_balanced_codes_of_the_items_learned_from_differ_from_encode():
    x = vectors(n=300)
    for variant in ({}, {"normalise_residuals": True}):
        quantizer = ResidualKMeans(3, 16, **variant)
        codes = quantizer.fit_encode(x)
        np.testing.assert_array_equal(codes, ResidualKMeans(3, 16, **variant).fit(x).codes_of(x))
        np.testing.assert_array_equal(codes, quantizer.encode(x).codes)
    quantizer = ResidualKMeans(3, 16, balanced=True)
    assert (quantizer.fit_encode(x) != quantizer.encode(x).codes).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_round_trip_through_a_folder(variant, tmp_path):
    x = vectors()
    quantizer = ResidualKMeans(3, 16, iterations=7, restarts=2, seed=3, **variant)
    codes = quantizer.fit_encode(x)
    quantizer.save(tmp_path)
    loaded = ResidualKMeans.load(tmp_path)
    assert json.loads((tmp_path / "quantizer.json").read_text())["method"] == "residual_kmeans"
    np.testing.assert_array_equal(loaded.codes_of(x), quantizer.codes_of(x))
    np.testing.assert_array_equal(loaded.decode(codes), quantizer.decode(codes))
    np.testing.assert_array_equal(
        loaded.distances(x, codes[:, :2]), quantizer.distances(x, codes[:, :2])
    )
    np.testing.assert_array_equal(loaded.fit_encode(x), codes)


def test_a_folder_from_before_there_were_variants_is_plain(tmp_path):
    quantizer = ResidualKMeans(2, 4).fit(vectors())
    quantizer.save(tmp_path)
    settings = json.loads((tmp_path / "quantizer.json").read_text())
    for name in ("balanced", "normalise_residuals"):
        assert settings.pop(name) is False
    (tmp_path / "quantizer.json").write_text(json.dumps(settings))
    loaded = ResidualKMeans.load(tmp_path)
    np.testing.assert_array_equal(loaded.codes_of(vectors()), quantizer.codes_of(vectors()))


def test_another_kind_of_quantizer_is_refused(tmp_path):
    (tmp_path / "quantizer.json").write_text(json.dumps({"method": "other"}))
    with pytest.raises(ArtifactError, match="method 'other', expected 'residual_kmeans'"):
        ResidualKMeans.load(tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bad_vectors_are_refused(variant):
    quantizer = ResidualKMeans(2, 4, **variant)
    for learn in (quantizer.fit, quantizer.fit_encode):
        with pytest.raises(DataError, match="no rows"):
            learn(np.zeros((0, 3), dtype=np.float32))
        with pytest.raises(DataError, match=r"shape \(3,\)"):
            learn(np.zeros(3, dtype=np.float32))
        with pytest.raises(DataError, match="NaN"):
            learn(np.full((2, 3), np.nan, dtype=np.float32))
        with pytest.raises(DataError, match="infinite"):
            learn(np.full((2, 3), np.inf, dtype=np.float16))
    none = np.zeros((400, 0), dtype=np.int32)
    for use in (quantizer.encode, quantizer.codes_of, lambda x: quantizer.distances(x, none)):
        with pytest.raises(DataError, match="call fit or load first"):
            use(vectors())
    with pytest.raises(DataError, match="call fit or load first"):
        quantizer.decode(np.zeros((1, 2), dtype=np.int32))
    quantizer.fit(vectors(d=8))
    spoiled = vectors(d=8)
    spoiled[3, 3] = np.nan
    for use in (quantizer.encode, quantizer.codes_of, lambda x: quantizer.distances(x, none)):
        with pytest.raises(DataError, match=r"expected \[items, 8\]"):
            use(vectors(d=9))
        with pytest.raises(DataError, match="first in row 3"):
            use(spoiled)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_vectors_get_no_codes(variant):
    quantizer = ResidualKMeans(2, 4, **variant).fit(vectors())
    quantized = quantizer.encode(vectors()[:0])
    assert quantized.codes.shape == (0, 2)
    assert quantized.loss == 0
    assert quantizer.distances(vectors()[:0], quantized.codes[:, :1]).shape == (0, 4)
