"""Intervals against the exact distribution of the bootstrap and the normal approximation."""

import numpy as np
import pytest
from scipy import stats

from genrec.errors import ConfigError, DataError
from genrec.evaluation import bootstrap
from genrec.evaluation.bootstrap import interval, resampled_means


@pytest.mark.parametrize(("n", "share"), [(400, 0.5), (1000, 0.1)])
def test_bernoulli_mean_equals_the_analytical_interval(n, share):
    hits = np.zeros((n, 1))
    hits[: int(n * share)] = 1.0
    means = resampled_means(hits, np.arange(n), 20_000, seed=1)[:, 0]
    low, high = interval(means)
    # The bootstrap sum of n draws from these hits is binomial: its quantiles are known exactly.
    exact = stats.binom.ppf([0.025, 0.975], n, share) / n
    assert np.abs(np.array([low, high]) - exact).max() <= 1 / n + 1e-12
    half = 1.959964 * np.sqrt(share * (1 - share) / n)
    assert low == pytest.approx(share - half, abs=0.06 * half)
    assert high == pytest.approx(share + half, abs=0.06 * half)
    assert means.std() == pytest.approx(half / 1.959964, rel=0.03)


def test_users_are_drawn_not_events():
    """Ten equal events of a user say no more than one: the interval must not shrink."""
    random = np.random.default_rng(0)
    hits = (random.random(200) < 0.3).astype(float)
    once = resampled_means(hits[:, None], np.arange(200), 2000, seed=3)[:, 0]
    users = np.repeat(np.arange(200), 10)
    ten = resampled_means(np.repeat(hits, 10)[:, None], users, 2000, seed=3)[:, 0]
    assert ten == pytest.approx(once, abs=1e-12)
    wrong = resampled_means(np.repeat(hits, 10)[:, None], np.arange(2000), 2000, seed=3)[:, 0]
    assert wrong.std() < 0.5 * once.std()


def test_users_with_unequal_numbers_of_events():
    """Two users, one with three hits and one with a single miss: three outcomes are possible."""
    values = np.array([[1.0], [1.0], [1.0], [0.0]])
    means = resampled_means(values, np.array([7, 7, 7, 9]), 4000, seed=0)[:, 0]
    found, counts = np.unique(means, return_counts=True)
    assert found.tolist() == [0.0, 0.75, 1.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_differences_are_paired():
    random = np.random.default_rng(0)
    hits = (random.random(500) < 0.4).astype(float)
    better = hits.copy()
    better[np.flatnonzero(hits == 0)[:10]] = 1.0
    means = resampled_means(np.stack([hits, better, hits], axis=1), np.arange(500), 2000, seed=0)
    assert interval(means[:, 0] - means[:, 2]) == (0.0, 0.0)
    low, high = interval(means[:, 1] - means[:, 0])
    # Ten of 500 users gain one hit: the difference is itself a Bernoulli mean.
    exact = stats.binom.ppf([0.025, 0.975], 500, 10 / 500) / 500
    assert [low, high] == pytest.approx(exact, abs=1.01 / 500)
    apart = resampled_means(better[:, None], np.arange(500), 2000, seed=99)[:, 0]
    wide_low, wide_high = interval(apart - means[:, 0])
    assert wide_high - wide_low > 3 * (high - low)


def test_blocks_change_nothing_and_the_seed_everything(monkeypatch):
    random = np.random.default_rng(0)
    values = random.random((50, 2))
    whole = resampled_means(values, np.arange(50), 100, seed=5)
    monkeypatch.setattr(bootstrap, "_BLOCK_ENTRIES", 350)
    blocks = resampled_means(values, np.arange(50), 100, seed=5)
    assert np.allclose(blocks, whole, rtol=0, atol=1e-14)
    assert not np.array_equal(resampled_means(values, np.arange(50), 100, seed=6), whole)


def test_bad_input():
    with pytest.raises(ConfigError, match="samples is 0"):
        resampled_means(np.ones((2, 1)), np.arange(2), 0, seed=0)
    with pytest.raises(DataError, match="2 rows of values for 3 users"):
        resampled_means(np.ones((2, 1)), np.arange(3), 5, seed=0)
    with pytest.raises(DataError, match="0 rows"):
        resampled_means(np.ones((0, 1)), np.arange(0), 5, seed=0)
