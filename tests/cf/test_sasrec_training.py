import logging

import numpy as np
import pytest
import torch

from genrec.cf import epoch_training, sasrec_training
from genrec.cf.epoch_training import Epoch, Schedule, batches, best_epoch
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.sasrec_training import train
from genrec.cf.training_checkpoint import Checkpoint
from genrec.cf.validation import validate
from genrec.data.histories import from_lists
from genrec.errors import ArtifactError, ConfigError, DataError
from tests.cf.worlds import random_sequences

ITEMS = 15
NONE = from_lists([])


def build(dropout=0.3):
    return SasRec(ITEMS, dimensions=8, layers=1, heads=2, dropout=dropout, max_history=8)


def examples(sequences):
    return from_lists([s[:-1] for s in sequences], target=np.array([s[-1] for s in sequences]))


def schedule(**changes):
    return Schedule(**({"epochs": 4, "patience": 99, "batch_items": 64, "seed": 3} | changes))


TRAINING = from_lists(random_sequences(0))
VALIDATION = examples(random_sequences(1))


def assert_same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def differ(one, other):
    return not torch.equal(one.item_vectors.weight, other.item_vectors.weight)


def test_learns_a_world_whose_next_item_is_certain():
    # The item after i is always i + 4, modulo 15.
    starts = np.arange(60)
    world = [[(start + 4 * step) % ITEMS for step in range(6)] for start in starts]
    held_out = examples([[(start + 4 * step) % ITEMS for step in range(4)] for start in range(15)])
    network, log = train(
        from_lists(world), NONE, schedule(epochs=30, learning_rate=0.02), lambda: build(0.1)
    )
    rankings = SasRecRanker(network).rank([held_out[i] for i in range(15)], 1)
    assert [ranking.items[0] for ranking in rankings] == held_out.target.tolist()
    assert log[-1].loss < log[0].loss


def test_scores_in_half_precision_move_the_weights_where_float32_moves_them():
    whole, log = train(TRAINING, NONE, schedule(epochs=3), build)
    half, half_log = train(TRAINING, NONE, schedule(epochs=3), build, precision=torch.bfloat16)
    assert half.item_vectors.weight.dtype == torch.float32
    assert differ(half, whole)
    assert half_log[-1].loss == pytest.approx(log[-1].loss, rel=1e-2)
    both = (network.item_vectors.weight.detach().flatten() for network in (half, whole))
    assert float(torch.cosine_similarity(*both, dim=0)) > 0.99


def test_the_first_loss_is_that_of_guessing():
    # Vectors start near zero, so every item is as likely as any: the loss is log(n) per position.
    _, log = train(TRAINING, NONE, schedule(epochs=1, learning_rate=1e-9), build)
    assert log[0].loss == pytest.approx(np.log(ITEMS), abs=0.02)


def test_same_seed_same_weights_other_seed_other_weights():
    first, log = train(TRAINING, VALIDATION, schedule(), build)
    torch.rand(5)  # what was drawn elsewhere does not matter
    second, other_log = train(TRAINING, VALIDATION, schedule(), build)
    third, _ = train(TRAINING, VALIDATION, schedule(seed=4), build)
    assert_same_weights(first, second)
    assert [entry.loss for entry in log] == [entry.loss for entry in other_log]
    assert differ(first, third)


def test_leaves_the_random_numbers_of_the_caller_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    train(TRAINING, NONE, schedule(epochs=1), build)
    assert torch.equal(torch.rand(1), expected)


def test_returns_the_average_of_the_steps(monkeypatch):
    # The first epoch: the plain mean over its steps; the second: exponential, a share 1/steps.
    steps = []
    adamw_step = torch.optim.AdamW.step

    def step_and_look(self):
        adamw_step(self)
        steps.append(self.param_groups[0]["params"][0].detach().clone())

    monkeypatch.setattr(torch.optim.AdamW, "step", step_and_look)
    first, _ = train(TRAINING, NONE, schedule(epochs=1), build)
    count = len(steps)
    assert count > 2
    expected = sum(steps) / count
    torch.testing.assert_close(first.item_vectors.weight.detach(), expected)
    steps.clear()
    second, _ = train(TRAINING, NONE, schedule(epochs=2), build)
    for weights in steps[count:]:
        expected = expected + (weights - expected) / count
    torch.testing.assert_close(second.item_vectors.weight.detach(), expected)


def test_slices_of_logits_give_the_same_gradient(monkeypatch):
    whole, _ = train(TRAINING, NONE, schedule(epochs=1), build)
    monkeypatch.setattr(sasrec_training, "LOGITS_AT_ONCE", 7 * ITEMS)
    sliced, _ = train(TRAINING, NONE, schedule(epochs=1), build)
    torch.testing.assert_close(
        sliced.item_vectors.weight, whole.item_vectors.weight, rtol=1e-3, atol=1e-5
    )
    assert differ(sliced, train(TRAINING, NONE, schedule(epochs=2), build)[0])


def test_keeps_the_weights_of_the_best_epoch_and_stops(monkeypatch):
    scores = iter([0.1, 0.4, 0.4, 0.2, 0.9])
    seen = []

    def scripted(ranker, _):
        seen.append(ranker.network.item_vectors.weight.detach().clone())
        return 0.5, next(scores)

    monkeypatch.setattr(epoch_training, "validate", scripted)
    network, log = train(TRAINING, VALIDATION, schedule(epochs=9, patience=2), build)
    assert [entry.ndcg_at_10 for entry in log] == [0.1, 0.4, 0.4, 0.2]
    assert best_epoch(log) == 2
    assert torch.equal(network.item_vectors.weight, seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_without_validation_the_last_epoch_is_kept():
    network, log = train(TRAINING, NONE, schedule(epochs=3, patience=1), build)
    assert [entry.ndcg_at_10 for entry in log] == [None, None, None]
    assert best_epoch(log) == 3 and best_epoch([]) == 0
    assert differ(network, train(TRAINING, NONE, schedule(epochs=2), build)[0])


def test_validation_figures_by_hand():
    torch.manual_seed(0)
    network = build().eval()
    ranks = []
    for i in range(len(VALIDATION)):
        scores = network.scores(network.last_states([VALIDATION[i]]))[0].detach().numpy()
        seen = set(VALIDATION[i].tolist())
        order = sorted(set(range(ITEMS)) - seen, key=lambda item: -scores[item])[:10]
        target = int(VALIDATION.target[i])
        ranks.append(order.index(target) if target in order else None)
    recall, ndcg = validate(SasRecRanker(network), VALIDATION)
    hits = [rank for rank in ranks if rank is not None]
    assert 0 < len(hits) < len(ranks)
    assert recall == pytest.approx(len(hits) / len(ranks))
    assert ndcg == pytest.approx(sum(1 / np.log2(rank + 2) for rank in hits) / len(ranks))


@pytest.mark.parametrize("most", [1, 7, 40, 10_000])
def test_batches_hold_every_sequence_once_within_the_bound(most):
    lengths = np.random.default_rng(0).integers(1, 30, size=200)
    made = batches(lengths, most, np.random.default_rng(1))
    assert sorted(np.concatenate(made).tolist()) == list(range(200))
    for batch in made:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= most


def test_batches_hold_little_padding():
    lengths = np.random.default_rng(0).integers(1, 30, size=2000)
    made = batches(lengths, 500, np.random.default_rng(1))
    held = sum(len(batch) * lengths[batch].max() for batch in made)
    assert held < 1.05 * lengths.sum()
    other = batches(lengths, 500, np.random.default_rng(2))
    assert [b.tolist() for b in made] != [b.tolist() for b in other]


class Killed(Exception):
    pass


class KilledAfter(Checkpoint):
    """Stops the training once this many epochs are saved."""

    epochs = 2

    def save(self, state):
        super().save(state)
        if len(state.log) == self.epochs:
            raise Killed


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    whole, log = train(TRAINING, VALIDATION, schedule(), build)
    with pytest.raises(Killed):
        train(TRAINING, VALIDATION, schedule(), build, checkpoint=KilledAfter(tmp_path, {"a": 1}))
    resumed, resumed_log = train(
        TRAINING, VALIDATION, schedule(), build, checkpoint=Checkpoint(tmp_path, {"a": 1})
    )
    assert_same_weights(whole, resumed)
    assert [(e.epoch, e.loss, e.ndcg_at_10) for e in log] == [
        (e.epoch, e.loss, e.ndcg_at_10) for e in resumed_log
    ]


def test_best_weights_survive_an_interruption(tmp_path, monkeypatch):
    scores = iter([0.9, 0.1, 0.1, 0.1])
    monkeypatch.setattr(epoch_training, "validate", lambda *_: (0.5, next(scores)))
    with pytest.raises(Killed):
        train(TRAINING, VALIDATION, schedule(), build, checkpoint=KilledAfter(tmp_path, {}))
    resumed, _ = train(TRAINING, VALIDATION, schedule(), build, checkpoint=Checkpoint(tmp_path, {}))
    assert_same_weights(resumed, train(TRAINING, NONE, schedule(epochs=1), build)[0])


def test_a_checkpoint_of_other_data_is_not_continued(tmp_path, caplog):
    with pytest.raises(Killed):
        train(TRAINING, NONE, schedule(), build, checkpoint=KilledAfter(tmp_path, {"data": "a"}))
    with caplog.at_level(logging.WARNING):
        assert Checkpoint(tmp_path, {"data": "b"}).load() is None
    assert "other settings or data" in caplog.text
    assert len(Checkpoint(tmp_path, {"data": "a"}).load().log) == 2


def test_a_damaged_checkpoint_says_what_to_delete(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"half a file")
    with pytest.raises(ArtifactError, match="state.safetensors cannot be read .* delete it"):
        Checkpoint(tmp_path, {}).load()


def test_a_step_size_that_explodes_is_named():
    with pytest.raises(ConfigError, match="lower cf.learning_rate"):
        train(TRAINING, NONE, schedule(learning_rate=1e30, epochs=9), build)


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(DataError, match="no training event"):
        train(NONE, NONE, schedule(), build)


def test_first_of_equal_epochs_is_best():
    log = [Epoch(i + 1, 1.0, 0.0, score, 0.0) for i, score in enumerate([0.0, 0.0])]
    assert best_epoch(log) == 1


def test_every_position_that_is_read_is_trained():
    """A history of all that is read and the start row before it, as in serving."""
    longer = from_lists([np.arange(12, dtype=np.int32)])
    torch.manual_seed(1)
    start = build().positions.weight.detach()
    network, _ = train(longer, NONE, schedule(epochs=1, seed=1, weight_decay=0.0), build)
    assert len(start) == network.max_history + 1 < 12
    assert (network.positions.weight != start).any(1).all()
