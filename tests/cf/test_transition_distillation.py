"""Distilled transition counts: the loss by arithmetic, what is drawn, and what vectors learn."""

import math

import numpy as np
import pytest
import torch

from genrec.cf.epoch_training import Schedule
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.sasrec_training import train
from genrec.cf.training_checkpoint import Checkpoint
from genrec.cf.transition import Transition
from genrec.cf.transition_distillation import TransitionDistillation
from genrec.cf.validation import validate
from genrec.data.histories import from_lists
from genrec.data.synthetic import generate_store
from genrec.errors import ConfigError
from tests.cf.test_sasrec_training import (
    VALIDATION,
    Killed,
    KilledAfter,
    assert_same_weights,
    differ,
)
from tests.cf.worlds import random_sequences

ITEMS = 15


def distillation(sequences, items=ITEMS, weight=0.5, temperature=0.7):
    counts = np.bincount(sequences.items, minlength=items).astype(np.int64)
    transition = Transition.count(sequences, Popularity(counts))
    return TransitionDistillation.of(transition, weight=weight, temperature=temperature)


def network(items=ITEMS):
    torch.manual_seed(0)
    made = SasRec(items, dimensions=8, layers=1, heads=2, max_history=8)
    torch.nn.init.normal_(made.item_vectors.weight)
    return made


# After 0 came 1 three times, 2 once and 0 itself once; after 1 came 0 twice.
COUNTED = from_lists([[0, 1, 0, 1], [0, 2], [0, 0, 1]])


def test_the_loss_is_the_cross_entropy_written_out():
    model = network(4)
    vectors = model.item_vectors.weight[:4].tolist()

    def share(item, other):
        def power(j):
            product = sum(a * b for a, b in zip(vectors[item], vectors[j], strict=True))
            return math.exp(product / 0.7)

        return power(other) / sum(power(j) for j in range(4) if j != item)

    of_0 = -(3 / 4 * math.log(share(0, 1)) + 1 / 4 * math.log(share(0, 2)))
    of_1 = -math.log(share(1, 0))
    found = distillation(COUNTED, 4).loss(model, torch.tensor([0, 1, 0]))
    assert found.item() == pytest.approx((2 * of_0 + of_1) / 3, rel=1e-5)


def test_items_are_drawn_as_often_as_something_followed_them(monkeypatch):
    monkeypatch.setattr("genrec.cf.transition_distillation.ITEMS_PER_STEP", 20_000)
    extra = distillation(COUNTED, 4)
    assert extra.frequencies.tolist() == [4, 1, 0, 0]
    drawn = []
    monkeypatch.setattr(
        TransitionDistillation, "loss", lambda _, __, items: drawn.append(items) or torch.ones(())
    )
    assert extra(network(4)).item() == 0.5
    assert (drawn[0] == 0).float().mean().item() == pytest.approx(4 / 5, abs=0.02)


def test_a_large_catalogue_draws_fewer_items(monkeypatch):
    monkeypatch.setattr("genrec.cf.transition_distillation.SCORES_AT_ONCE", 9)
    drawn = []
    monkeypatch.setattr(
        TransitionDistillation, "loss", lambda _, __, items: drawn.append(items) or torch.ones(())
    )
    distillation(COUNTED, 4)(network(4))
    assert len(drawn[0]) == 2


def test_nothing_that_follows_adds_nothing():
    alone = distillation(from_lists([[0], [1, 1]]))
    assert alone(network()).item() == 0


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"temperature": 0.0}, {"weight": math.nan}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="both must be above 0"):
        distillation(COUNTED, **wrong)


TRAINING = from_lists(random_sequences(0))


def build():
    return SasRec(
        ITEMS,
        dimensions=8,
        layers=1,
        heads=2,
        dropout=0.3,
        max_history=8,
        query_window=3,
        long_share=0.5,
    )


def run(weight=0.5, sequences=TRAINING, validation=VALIDATION, checkpoint=None, **changes):
    options = {"epochs": 4, "patience": 99, "batch_items": 64, "seed": 3} | changes
    extra = distillation(sequences, weight=weight)
    return train(
        sequences, validation, Schedule(**options), build, extra_loss=extra, checkpoint=checkpoint
    )


def test_vectors_of_items_that_follow_each_other_come_together():
    # Pairs 0-1, 2-3, ... follow each other; item 14 is alone.
    generator = np.random.default_rng(0)
    world = from_lists([[2 * i, 2 * i + 1] * 2 for i in generator.integers(0, 7, size=80)])
    none = from_lists([])
    found, _ = run(2.0, world, none, epochs=30, learning_rate=0.02)
    vectors = found.item_vectors.weight[:14].detach()
    products = vectors @ vectors.T
    products.fill_diagonal_(-torch.inf)
    assert products.argmax(1).tolist() == [i ^ 1 for i in range(14)]


def test_the_transitions_of_the_embedded_store_are_learned():
    store = generate_store(300, 30, 5)
    sequences = list(store.sequences.values())
    training = from_lists([each[:-1].tolist() for each in sequences])
    held_out = from_lists(
        [each[:-1].tolist() for each in sequences],
        target=np.array([each[-1] for each in sequences]),
    )
    extra = distillation(training, 30)
    options = Schedule(epochs=15, batch_items=256, learning_rate=5e-3, seed=3)
    found, alone = (
        train(
            training,
            from_lists([]),
            options,
            lambda: SasRec(
                30, dimensions=16, layers=1, heads=2, dropout=0.2, query_window=3, long_share=0.5
            ),
            extra_loss=loss,
        )[0]
        for loss in (extra, None)
    )
    followed = extra.frequencies.nonzero().flatten()
    taught, untaught = (float(extra.loss(each, followed).detach()) for each in (found, alone))
    assert taught < untaught - 0.05
    popularity = Popularity(np.bincount(training.items, minlength=30).astype(np.int64))
    _, popular = validate(popularity, held_out)
    _, learned = validate(SasRecRanker(found, "transition_sasrec"), held_out)
    assert learned > 1.3 * popular


def test_the_extra_loss_is_learned_from_and_not_logged():
    # Steps too small to matter: the first epoch's log is the loss before learning.
    (_, log), (_, other) = (run(w, epochs=1, learning_rate=1e-9) for w in (5.0, 1e-9))
    assert log[0].loss == pytest.approx(other[0].loss, abs=1e-4)
    assert differ(run(5.0, epochs=1)[0], run(1e-9, epochs=1)[0])


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    whole, log = run()
    with pytest.raises(Killed):
        run(checkpoint=KilledAfter(tmp_path, {"a": 1}))
    resumed, again = run(checkpoint=Checkpoint(tmp_path, {"a": 1}))
    assert_same_weights(whole, resumed)
    assert [(e.epoch, e.loss, e.ndcg_at_10) for e in log] == [
        (e.epoch, e.loss, e.ndcg_at_10) for e in again
    ]
