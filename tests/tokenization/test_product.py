import json

import faiss
import numpy as np
import pytest

from genrec.errors import ArtifactError, DataError
from genrec.tokenization.collisions import resolve
from genrec.tokenization.product import ProductQuantizer

ROTATE = pytest.mark.parametrize("rotate", [False, True])


def vectors(n=400, d=12, seed=0):
    """Vectors whose dimensions depend on each other, more spread in some directions."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d)) * np.linspace(2, 0.2, d)[:, None]
    return (rng.normal(size=(n, d)) @ mix).astype(np.float32)


def rotated_by_hand(quantizer, x):
    """The vectors in the quantizer's own space, in double precision, cut into pieces."""
    step = len(quantizer.mean) // quantizer.levels
    # Pieces of 12 dimensions: 3 x 4, or 5 of which the last three lack one.
    parts = np.array_split(x.astype(float), quantizer.levels, axis=1)
    padded = np.hstack([np.pad(part, ((0, 0), (0, step - part.shape[1]))) for part in parts])
    turned = padded if quantizer.rotation is None else padded @ quantizer.rotation.T.astype(float)
    return turned.reshape(len(x), quantizer.levels, -1)


def tables_by_hand(quantizer, x):
    """Squared distance of each piece to each of its centroids, one table a level."""
    pieces = rotated_by_hand(quantizer, x)
    return [
        ((pieces[:, level, None, :] - codebook[None].astype(float)) ** 2).sum(axis=2)
        for level, codebook in enumerate(quantizer.codebooks)
    ]


@ROTATE
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_each_piece_has_its_nearest_centroid(rotate, levels):
    x, unseen = vectors(), vectors(n=60, seed=9)
    quantizer = ProductQuantizer(levels, 16, rotate=rotate, iterations=10).fit(x)
    assert quantizer.level_sizes == (16,) * levels
    # Twelve dimensions do not go into five pieces; zeros fill three of them up.
    assert len(quantizer.mean) == {1: 12, 3: 12, 5: 15}[levels]
    assert (quantizer.rotation is not None) == (rotate and levels > 1)
    for sample in (x, unseen):
        tables = tables_by_hand(quantizer, sample)
        expected = np.stack([table.argmin(axis=1) for table in tables], axis=1)
        quantized = quantizer.encode(sample)
        np.testing.assert_array_equal(quantized.codes, expected)
        np.testing.assert_array_equal(quantizer.codes_of(sample), expected)
        own = [table.min(axis=1) for table in tables]
        error = ((sample - quantized.vectors.astype(float)) ** 2).sum(axis=1)
        assert quantized.loss == pytest.approx(error.mean(), rel=1e-4)
        if levels != 5:
            np.testing.assert_allclose(error, sum(own), rtol=1e-3, atol=1e-4)
        else:
            # What falls into the filled-up dimensions is no part of the vector.
            assert (error <= sum(own) * (1 + 1e-3)).all()


@ROTATE
def test_decoding_puts_centroids_in_their_places_and_the_mean_elsewhere(rotate):
    x = vectors()
    quantizer = ProductQuantizer(3, 16, rotate=rotate, iterations=10).fit(x)
    codes = quantizer.codes_of(x)
    pieces = rotated_by_hand(quantizer, x)
    mean = pieces.mean(axis=0)
    for levels in (0, 1, 3, None):
        turned = np.tile(mean, (len(x), 1, 1))
        for level in range(3 if levels is None else levels):
            turned[:, level] = quantizer.codebooks[level][codes[:, level]]
        turned = turned.reshape(len(x), -1)
        back = turned if quantizer.rotation is None else turned @ quantizer.rotation
        np.testing.assert_allclose(quantizer.decode(codes, levels), back, atol=1e-4)
    errors = [((x - quantizer.decode(codes, levels)) ** 2).sum() for levels in range(4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(((x - x.mean(axis=0)) ** 2).sum(), rel=1e-3)


def test_the_rotation_is_one_and_helps():
    x = vectors(n=2000)
    turned = ProductQuantizer(4, 16, iterations=15).fit(x)
    straight = ProductQuantizer(4, 16, rotate=False, iterations=15).fit(x)
    np.testing.assert_allclose(turned.rotation @ turned.rotation.T, np.eye(12), atol=1e-5)
    assert turned.encode(x).loss < 0.9 * straight.encode(x).loss


@ROTATE
def test_it_is_as_good_as_its_peer(rotate):
    x = vectors(n=2000)
    peer = faiss.ProductQuantizer(12, 4, 4)
    peer.cp.min_points_per_centroid = 1
    turned = x
    if rotate:
        opq = faiss.OPQMatrix(12, 4)
        opq.pq = peer
        opq.train(x)
        turned = opq.apply(x)
    peer.train(turned)
    error = ((turned - peer.decode(peer.compute_codes(turned))) ** 2).sum(axis=1).mean()
    own = ProductQuantizer(4, 16, rotate=rotate).fit(x).encode(x).loss
    assert own < 1.05 * error


@ROTATE
def test_distances_add_up_over_the_levels_given(rotate):
    x = vectors(n=100)
    quantizer = ProductQuantizer(5, 8, rotate=rotate, iterations=10).fit(x)
    prefix = np.random.default_rng(0).integers(0, 8, size=(100, 5)).astype(np.int32)
    tables = tables_by_hand(quantizer, x)
    given = np.zeros((100, 1))
    for level in range(5):
        table = quantizer.distances(x, prefix[:, :level])
        np.testing.assert_allclose(table, given + tables[level], rtol=1e-3, atol=1e-4)
        assert (table >= given * (1 - 1e-6)).all()
        given = np.take_along_axis(table, prefix[:, level : level + 1].astype(int), axis=1)


@ROTATE
def test_equal_vectors_have_equal_distances_wherever_they_stand(rotate):
    x = vectors(n=90, d=33)
    quantizer = ProductQuantizer(4, 8, rotate=rotate, iterations=10).fit(x)
    codes = quantizer.codes_of(x)
    order = np.random.default_rng(0).permutation(90)
    for level in range(4):
        whole = quantizer.distances(x, codes[:, :level])
        twice = quantizer.distances(np.vstack([x, x]), np.vstack([codes, codes])[:, :level])
        np.testing.assert_array_equal(twice[:90], twice[90:])
        np.testing.assert_array_equal(
            quantizer.distances(x[order], codes[order, :level]), whole[order]
        )


def test_codes_that_stand_for_nothing_are_infinitely_far():
    x = vectors(n=6).repeat(20, axis=0)
    quantizer = ProductQuantizer(3, 10).fit(x)
    # So few vectors need no rotation: every piece is reproduced.
    assert quantizer.rotation is None
    assert [len(codebook) for codebook in quantizer.codebooks] == [6, 6, 6]
    quantized = quantizer.encode(x)
    np.testing.assert_array_equal(quantized.vectors, x)
    assert quantized.loss == 0
    table = quantizer.distances(x, quantized.codes[:, :2])
    assert np.isinf(table[:, 6:]).all()
    assert np.isfinite(table[:, :6]).all()


@ROTATE
def test_the_same_seed_gives_the_same_codes_on_any_number_of_threads(rotate):
    x = vectors(n=1500, d=32)
    before = faiss.omp_get_max_threads()
    try:
        codes = []
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            quantizer = ProductQuantizer(4, 32, rotate=rotate, iterations=10, seed=5)
            codes.append(quantizer.fit(x).codes_of(x))
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])
    other = ProductQuantizer(4, 32, rotate=rotate, iterations=10, seed=6).fit(x).codes_of(x)
    assert (other != codes[0]).any()


@ROTATE
@pytest.mark.parametrize("levels", [2, 5])
def test_a_round_trip_through_a_folder(rotate, levels, tmp_path):
    x = vectors()
    settings = {"rotate": rotate, "iterations": 7, "restarts": 2, "seed": 3}
    quantizer = ProductQuantizer(levels, 16, **settings).fit(x)
    quantizer.save(tmp_path)
    assert json.loads((tmp_path / "quantizer.json").read_text())["method"] == "product"
    loaded = ProductQuantizer.load(tmp_path)
    codes = quantizer.codes_of(x)
    np.testing.assert_array_equal(loaded.codes_of(x), codes)
    np.testing.assert_array_equal(loaded.decode(codes, 1), quantizer.decode(codes, 1))
    np.testing.assert_array_equal(
        loaded.distances(x, codes[:, :1]), quantizer.distances(x, codes[:, :1])
    )
    np.testing.assert_array_equal(loaded.fit(x).codes_of(x), codes)


def test_another_kind_of_quantizer_is_refused(tmp_path):
    (tmp_path / "quantizer.json").write_text(json.dumps({"method": "residual_kmeans"}))
    with pytest.raises(ArtifactError, match="method 'residual_kmeans', expected 'product'"):
        ProductQuantizer.load(tmp_path)


@ROTATE
@pytest.mark.parametrize(
    "x",
    [
        pytest.param(vectors(n=1), id="one item"),
        pytest.param(vectors(n=5), id="fewer items than codes"),
        pytest.param(vectors(n=9), id="fewer items than dimensions"),
        pytest.param(np.zeros((50, 12), dtype=np.float32), id="all zero"),
        pytest.param(np.full((3000, 12), 2, dtype=np.float32), id="thousands of equal vectors"),
        pytest.param(
            np.vstack([np.zeros((500, 12), dtype=np.float32), vectors(n=100)]), id="many missing"
        ),
        pytest.param(vectors(d=12)[:, :2], id="fewer dimensions than levels"),
    ],
)
def test_poor_tables_still_get_codes_of_their_own(rotate, x, capfd):
    quantizer = ProductQuantizer(3, 8, rotate=rotate, iterations=10).fit(x)
    codes = quantizer.codes_of(x)
    assert codes.shape == (len(x), 3)
    assert codes.min() >= 0
    assert codes.max() < 8
    spread = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert quantizer.encode(x).loss <= 0.5 * spread + 1e-9
    ids = [f"{row:04d}" for row in range(len(x))]
    resolution = resolve(
        codes,
        quantizer.level_sizes,
        ids,
        lambda rows: quantizer.distances(x[rows], codes[rows, :-1]),
    )
    assert len(np.unique(resolution.codes, axis=0)) == len(x)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@ROTATE
def test_bad_vectors_are_refused(rotate):
    quantizer = ProductQuantizer(2, 4, rotate=rotate)
    with pytest.raises(DataError, match="no rows"):
        quantizer.fit(np.zeros((0, 3), dtype=np.float32))
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        quantizer.fit(np.zeros(3, dtype=np.float32))
    for value in (np.nan, np.inf):
        with pytest.raises(DataError, match="NaN or infinite"):
            quantizer.fit(np.full((2, 3), value, dtype=np.float32))
    none = np.zeros((400, 0), dtype=np.int32)
    for use in (quantizer.encode, quantizer.codes_of, lambda x: quantizer.distances(x, none)):
        with pytest.raises(DataError, match="call fit or load first"):
            use(vectors())
    quantizer.fit(vectors())
    spoiled = vectors()
    spoiled[3, 3] = np.nan
    for use in (quantizer.encode, quantizer.codes_of, lambda x: quantizer.distances(x, none)):
        with pytest.raises(DataError, match=r"expected \[items, 12\]"):
            use(vectors(d=13))
        with pytest.raises(DataError, match="first in row 3"):
            use(spoiled)


@ROTATE
def test_no_vectors_get_no_codes(rotate):
    quantizer = ProductQuantizer(2, 4, rotate=rotate).fit(vectors())
    quantized = quantizer.encode(vectors()[:0])
    assert quantized.codes.shape == (0, 2)
    assert quantized.loss == 0
    assert quantizer.distances(vectors()[:0], quantized.codes[:, :1]).shape == (0, 4)


def test_very_large_values_have_the_rotation_of_small_ones():
    x = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    rotations = [ProductQuantizer(2, 8, seed=1).fit(x * scale).rotation for scale in (1, 2.0**59)]
    np.testing.assert_array_equal(*rotations)
