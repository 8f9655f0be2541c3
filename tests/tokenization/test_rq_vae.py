import json

import numpy as np
import pytest
import torch

from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.tokenization import rq_vae
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae import RqVae

SMALL = {"hidden": [16], "dimensions": 4, "epochs": 20, "batch_size": 64, "seed": 3}


def vectors(n=240, d=6, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=3, size=(12, d))
    return (centres[np.arange(n) % 12] + rng.normal(size=(n, d))).astype(np.float32)


X = vectors()


@pytest.fixture(scope="module")
def fitted():
    return RqVae(3, 8, **(SMALL | {"epochs": 150})).fit(X)


def test_codes_are_the_nearest_at_every_level_whoever_asks(fitted):
    quantized = fitted.encode(X)
    for level in range(3):
        distances = fitted.distances(X, quantized.codes[:, :level])
        assert distances.shape == (len(X), 8)
        np.testing.assert_array_equal(distances.argmin(axis=1), quantized.codes[:, level])
    np.testing.assert_array_equal(fitted.codes_of(X), quantized.codes)


def test_decoding_gives_back_what_encoding_says_and_the_loss_is_the_distance(fitted):
    quantized = fitted.encode(X)
    np.testing.assert_array_equal(fitted.decode(quantized.codes), quantized.vectors)
    loss = ((X.astype(np.float64) - quantized.vectors) ** 2).sum(axis=1).mean()
    assert quantized.loss == pytest.approx(loss, rel=1e-6)
    spread = ((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert quantized.loss < 0.5 * spread


def test_unseen_vectors_get_the_codes_of_their_cluster(fitted):
    old, new = fitted.codes_of(X)[:, 0], fitted.codes_of(X + np.float32(0.01))[:, 0]
    assert (old == new).mean() > 0.95


def test_equal_vectors_get_equal_rows_to_the_bit_however_many_are_asked_for(fitted):
    alone = fitted.distances(X[:1], np.zeros((1, 1), dtype=np.int32))
    many = np.repeat(X[:1], 700, axis=0)
    together = fitted.distances(many, np.zeros((700, 1), dtype=np.int32))
    assert (together == alone).all()
    mixed = np.concatenate([X, X[::-1]])
    codes = fitted.codes_of(mixed)
    np.testing.assert_array_equal(codes[: len(X)], codes[len(X) :][::-1])


def test_what_is_saved_and_read_gives_the_same(fitted, tmp_path):
    fitted.save(tmp_path)
    assert json.loads((tmp_path / "quantizer.json").read_text())["method"] == "rq_vae"
    again = RqVae.load(tmp_path)
    assert again.level_sizes == (8, 8, 8)
    for one, other in ((fitted.encode(X), again.encode(X)),):
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.vectors, other.vectors)
    prefix = fitted.codes_of(X)[:, :2]
    np.testing.assert_array_equal(fitted.distances(X, prefix), again.distances(X, prefix))


def test_another_quantizer_is_not_read(tmp_path):
    ResidualKMeans(2, 4).fit(X).save(tmp_path)
    with pytest.raises(ArtifactError, match="residual_kmeans"):
        RqVae.load(tmp_path)


def test_the_same_seed_gives_the_same_codes_whatever_the_threads():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(RqVae(2, 8, **(SMALL | {"epochs": 5})).fit(X).codes_of(X))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)
    other = RqVae(2, 8, **(SMALL | {"epochs": 5, "seed": 4})).fit(X).codes_of(X)
    assert (other != found[0]).any()


class Killed(Exception):
    pass


def test_a_fit_that_was_killed_ends_with_the_same_codes(tmp_path, monkeypatch):
    whole = RqVae(2, 8, **SMALL).fit(X).codes_of(X)

    class KilledSoon(rq_vae.Checkpoint):
        def save(self, state):
            super().save(state)
            if len(state.log) == 2:
                raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(rq_vae, "Checkpoint", KilledSoon)
        with pytest.raises(Killed):
            RqVae(2, 8, **SMALL, checkpoint=tmp_path / "saved").fit(X)
    resumed = RqVae(2, 8, **SMALL, checkpoint=tmp_path / "saved")
    np.testing.assert_array_equal(resumed.fit(X).codes_of(X), whole)
    # Other vectors do not go on from it.
    other = RqVae(2, 8, **SMALL, checkpoint=tmp_path / "saved").fit(X + 1)
    np.testing.assert_array_equal(
        other.codes_of(X + 1), RqVae(2, 8, **SMALL).fit(X + 1).codes_of(X + 1)
    )


def test_codebooks_that_collapse_stop_the_run():
    # Two far groups of all but equal vectors: the first level needs two of its 32 codes.
    rng = np.random.default_rng(0)
    x = np.where(np.arange(300)[:, None] % 2, 50.0, -50.0) + rng.normal(scale=1e-3, size=(300, 4))
    quantizer = RqVae(2, 32, **(SMALL | {"epochs": 5}), minimum_usage=0.99)
    with pytest.raises(ConfigError, match=r"level \d of the RQ-VAE uses \d+ of its 32 codes"):
        quantizer.fit(x.astype(np.float32))


@pytest.mark.parametrize(
    "x",
    [np.zeros((50, 4)), np.ones((3000, 4)), np.ones((1, 4)), np.eye(4), np.zeros((2, 1))],
    ids=["zeros", "identical", "one item", "fewer items than codes", "one dimension"],
)
def test_little_to_learn_from_still_gives_codes(x):
    x = x.astype(np.float32)
    quantizer = RqVae(2, 8, **(SMALL | {"epochs": 5}))
    codes = quantizer.fit(x).codes_of(x)
    distinct = len(np.unique(x, axis=0))
    assert len(np.unique(codes, axis=0)) <= distinct
    assert codes.shape == (len(x), 2)
    free = quantizer.distances(x[:1], np.zeros((1, 0), dtype=np.int32))
    assert np.isinf(free[0, distinct:]).all()


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.full((5, 3), np.nan), "NaN"),
        (np.full((5, 3), np.inf), "infinite"),
        (np.zeros((0, 3)), "no vectors"),
        (np.zeros(3), "shape"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused(x, words):
    with pytest.raises(DataError, match=words):
        RqVae(2, 4, **SMALL).fit(x.astype(np.float32))


def test_the_collaborative_loss_needs_collaborative_vectors():
    with pytest.raises(DataError):
        RqVae(2, 8, **SMALL, collaborative_weight=0.1).fit(X)


def test_before_fit_there_is_nothing_to_encode_with():
    with pytest.raises(DataError, match="call fit or load"):
        RqVae(2, 4).encode(X)


def test_other_widths_are_refused(fitted):
    with pytest.raises(DataError, match="shape"):
        fitted.encode(X[:, :3])


@pytest.mark.parametrize("learning_rate", [0.3, 10.0])
def test_an_encoder_that_has_died_stops_the_run(learning_rate):
    """All latents are equal then, so that no code could tell the items apart."""
    x = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    quantizer = RqVae(3, 16, hidden=[16, 16, 16], dimensions=8, epochs=20, batch_size=128,
                      learning_rate=learning_rate, minimum_usage=0.3, seed=1)  # fmt: skip
    with pytest.raises(ConfigError, match=r"index\.rq_vae\.learning_rate"):
        quantizer.fit(x)


@pytest.mark.parametrize("options", [{"diversity_weight": 1e-3}, {"uniform_mapping": True}])
def test_steps_that_are_much_too_long_are_named(options):
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    quantizer = RqVae(2, 8, hidden=[16], dimensions=4, epochs=10, learning_rate=1e15, **options)
    with pytest.raises(ConfigError, match=r"lower index\.rq_vae\.learning_rate"):
        quantizer.fit(x)
