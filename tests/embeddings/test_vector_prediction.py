import numpy as np
import pytest
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from genrec.embeddings import vector_prediction
from genrec.embeddings.vector_prediction import PENALTIES, VectorPrediction


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def world(n=200, noise=0.3, seed=0):
    """The cf vector is a linear map of the text, and noise."""
    rng = np.random.default_rng(seed)
    text = unit(rng.normal(size=(n, 6)))
    return text, unit(text @ rng.normal(size=(6, 4)) + noise * rng.normal(size=(n, 4)))


def solution(text, cf, penalty):
    """The map by scikit-learn; the penalty is a share of the mean eigenvalue of T'T."""
    scale = (text.astype(np.float64) ** 2).sum() / text.shape[1]
    return Ridge(alpha=penalty * scale, fit_intercept=False).fit(text, cf).coef_.T


@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_agrees_with_ridge_regression_at_the_penalty_that_is_best_held_out(noise):
    text, given = world(noise=noise)
    given = unit(given + [2, 0, 0, 1])  # what all share
    cf = unit(given - given.mean(axis=0))
    fold = np.arange(len(text)) % 5
    cosines = []
    for penalty in PENALTIES:
        held_out = []
        for part in range(5):
            fitted = solution(text[fold != part], cf[fold != part], penalty)
            held_out.append((unit(text[fold == part] @ fitted) * cf[fold == part]).sum(axis=1))
        cosines.append(np.concatenate(held_out).mean())
    prediction = VectorPrediction.fit(text, given)
    assert prediction.facts["penalty"] == PENALTIES[int(np.argmax(cosines))]
    assert prediction.facts["held_out_cosine"] == pytest.approx(max(cosines), abs=1e-4)
    expected = solution(text, cf, prediction.facts["penalty"])
    np.testing.assert_allclose(prediction.weights, expected, atol=1e-5)
    np.testing.assert_allclose(prediction.predict(text), unit(text @ expected), atol=1e-5)


def test_more_noise_asks_for_a_larger_penalty():
    clear, noisy = (VectorPrediction.fit(*world(noise=noise)).facts for noise in (0.01, 5.0))
    assert clear["penalty"] < noisy["penalty"]
    assert noisy["held_out_cosine"] < 0.5 < 0.95 < clear["held_out_cosine"]


def test_what_was_learned_says_something_of_items_never_seen():
    text, cf = world(400)
    prediction = VectorPrediction.fit(text[:300], cf[:300])
    assert (prediction.predict(text[300:]) * cf[300:]).sum(axis=1).mean() > 0.8


def test_a_map_that_is_unsure_does_not_guess_what_all_share():
    """Guesses are as far apart as the vectors that they stand in for."""
    text, cf = world(noise=3.0)
    shared = unit(cf + [3, 0, 0, 0])
    guess = VectorPrediction.fit(text[:150], shared[:150]).predict(text[150:])
    assert np.abs(guess.mean(axis=0)).max() < 0.35
    centred = unit(shared - shared[:150].mean(axis=0))
    assert (guess * centred[150:]).sum(axis=1).mean() > 0.1


def test_an_item_without_text_gets_zero():
    text, cf = world()
    guess = VectorPrediction.fit(text, cf).predict(np.zeros((1, 6), dtype=np.float32))
    np.testing.assert_array_equal(guess, np.zeros((1, 4)))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_handful_of_items_is_no_error(n):
    text, cf = world(2)
    prediction = VectorPrediction.fit(text[:n], cf[:n])
    guess = prediction.predict(text)
    assert np.isfinite(guess).all()
    assert prediction.facts["items"] == n
    assert (prediction.facts["held_out_cosine"] is None) == (n < 2)
    if n:
        own = unit(cf - cf.mean(axis=0)) if n == 2 else cf[:1]
        assert (guess[:n] * own).sum(axis=1).min() > 0.9


def test_of_very_many_items_evenly_spaced_ones_are_learned_from(monkeypatch):
    monkeypatch.setattr(vector_prediction, "MOST_ITEMS", 100)
    rows = np.arange(1000, 1201)
    chosen = vector_prediction.spaced(rows)
    assert chosen.tolist() == [1000 + int(201 * i / 100) for i in range(100)]
    assert chosen[-1] == 1198
    assert vector_prediction.spaced(rows[:100]).tolist() == rows[:100].tolist()


def test_the_number_of_threads_plays_no_part():
    rng = np.random.default_rng(0)
    text, cf = unit(rng.normal(size=(2000, 96))), unit(rng.normal(size=(2000, 32)))
    weights = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            weights.append(VectorPrediction.fit(text, cf).weights)
    np.testing.assert_array_equal(*weights)
