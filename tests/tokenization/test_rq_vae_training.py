import copy
import logging

import numpy as np
import pytest
import torch

from genrec.cf.training_checkpoint import Checkpoint
from genrec.errors import ConfigError
from genrec.tokenization import rq_vae_training
from genrec.tokenization.letter_losses import Letter
from genrec.tokenization.rq_vae_network import RqVaeNetwork, Scaling
from genrec.tokenization.rq_vae_training import Round, Schedule, best_round, train


def clusters(n=240, d=6, seed=0):
    """Twelve clusters of vectors."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=3, size=(12, d))
    return (centres[np.arange(n) % 12] + rng.normal(size=(n, d))).astype(np.float32)


X = clusters()
ASSIGN = rq_vae_training._Trainer._assign
LETTER = Letter(0.1, 0.1, 2, np.random.default_rng(1).normal(size=(240, 3)).astype(np.float32))


def build():
    return RqVaeNetwork(6, [16], 4, (8, 8), epsilon=0.003)


def schedule(**changes):
    return Schedule(**({"epochs": 20, "batch_size": 64, "seed": 3} | changes))


def trained(x=X, build=build, letter=None, checkpoint=None, **changes):
    return train(x, Scaling.of(x), schedule(**changes), build, letter=letter, checkpoint=checkpoint)


def figures(log):
    return [(entry.epoch, entry.loss, entry.collision_rate, entry.error) for entry in log]


def assert_same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def differ(one, other):
    return not torch.equal(one.codebooks[0], other.codebooks[0])


def test_learns_to_reconstruct():
    network, log = trained(epochs=200)
    assert [entry.epoch for entry in log] == list(range(5, 201, 5))
    assert log[0].error > 0.5
    assert best_round(log).error < 0.2
    # 240 items share 64 tuples; most of them are in use.
    assert len(X) * (1 - best_round(log).collision_rate) > 50
    with torch.no_grad():
        assigned = network.assign(network.encoder(torch.from_numpy(scaled(X))))
    # Items of one cluster start with the same code, those of others mostly with another.
    first = assigned.codes[:, 0].numpy().reshape(-1, 12)
    assert (first == first[0]).mean() > 0.8
    assert len(np.unique(first[0])) >= 6


def scaled(x):
    return Scaling.of(x).scaled(x).astype(np.float32)


def test_the_figures_are_those_of_the_nearest_codes_of_all_items():
    network, log = trained()
    best = best_round(log)
    x = scaled(X)
    with torch.no_grad():
        assigned = network.assign(network.encoder(torch.from_numpy(x)))
        rest = x - network.decoder(assigned.quantized).numpy()
    codes = assigned.codes.numpy()
    assert best.collision_rate == pytest.approx(1 - len(np.unique(codes, axis=0)) / len(X))
    assert best.error == pytest.approx((rest**2).sum() / (x**2).sum(), rel=1e-5)
    assert best.score == best.collision_rate + best.error


def test_same_seed_same_weights_other_seed_other_weights():
    first, log = trained(letter=LETTER)
    torch.rand(5)  # what was drawn elsewhere does not matter
    second, other_log = trained(letter=LETTER)
    assert_same_weights(first, second)
    assert figures(log) == figures(other_log)
    assert differ(first, trained(letter=LETTER, seed=4)[0])


def test_the_number_of_threads_changes_nothing_and_is_put_back():
    before = torch.get_num_threads()
    x = clusters(n=3000, d=64)
    made = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            wide = trained(x, lambda: RqVaeNetwork(64, [64], 8, (16, 16), epsilon=0.003), epochs=5)
            made.append(wide[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_same_weights(made[0], made[1])
    assert_same_weights(made[0], made[2])


def test_leaves_the_random_numbers_of_the_caller_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    trained(epochs=1)
    assert torch.equal(torch.rand(1), expected)


class Killed(Exception):
    pass


class KilledAfter(Checkpoint):
    """Stops the training once this many rounds are saved."""

    rounds = 2

    def save(self, state):
        super().save(state)
        if len(state.log) == self.rounds:
            raise Killed


@pytest.mark.parametrize("letter", [None, LETTER])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, letter):
    whole, log = trained(letter=letter)
    with pytest.raises(Killed):
        trained(letter=letter, checkpoint=KilledAfter(tmp_path, {"a": 1}))
    resumed, resumed_log = trained(letter=letter, checkpoint=Checkpoint(tmp_path, {"a": 1}))
    assert_same_weights(whole, resumed)
    assert figures(log) == figures(resumed_log)


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    whole, log = trained(checkpoint=Checkpoint(tmp_path, {}))
    monkeypatch.setattr(RqVaeNetwork, "quantize", lambda *_: pytest.fail("trained again"))
    again, log_again = trained(checkpoint=Checkpoint(tmp_path, {}))
    assert_same_weights(whole, again)
    assert log == log_again


def test_a_checkpoint_of_other_data_is_not_continued(tmp_path, caplog):
    with pytest.raises(Killed):
        trained(checkpoint=KilledAfter(tmp_path, {"data": "a"}))
    with caplog.at_level(logging.WARNING):
        network, _ = trained(checkpoint=Checkpoint(tmp_path, {"data": "b"}))
    assert "other settings or data" in caplog.text
    assert_same_weights(network, trained()[0])


def scripted(monkeypatch, errors):
    """Give out these errors round after round; return the weights at each."""
    errors, seen = iter(errors), []

    def with_error(trainer):
        seen.append(copy.deepcopy(trainer.network))
        return ASSIGN(trainer)[0], next(errors)

    monkeypatch.setattr(rq_vae_training._Trainer, "_assign", with_error)
    return seen


def test_keeps_the_weights_of_the_best_round(monkeypatch, tmp_path):
    seen = scripted(monkeypatch, [9.0, 3.0, 8.0, 5.0])
    network, log = trained()
    assert best_round(log).epoch == 10
    assert_same_weights(network, seen[1])
    assert differ(seen[1], seen[2])
    # The best weights outlive an interruption.
    scripted(monkeypatch, [9.0, 3.0])
    with pytest.raises(Killed):
        trained(checkpoint=KilledAfter(tmp_path, {}))
    scripted(monkeypatch, [8.0, 5.0])
    assert_same_weights(trained(checkpoint=Checkpoint(tmp_path, {}))[0], network)


def test_the_best_round_weighs_collisions_and_error_alike():
    def entry(epoch, collision_rate, error):
        return Round(epoch, 0.0, collision_rate, error, 0, 0.0)

    log = [entry(5, 0.0, 0.5), entry(10, 0.25, 0.125), entry(15, 0.125, 0.25), entry(20, 0.9, 0.1)]
    assert best_round(log).epoch == 10


def crowded():
    """A network whose codes but one lie far from everything."""
    made = build()

    def start(latents, seed):
        with torch.no_grad():
            for codebook in made.codebooks:
                codebook.fill_(1e3)
                codebook[0] = 0

    made.start_codebooks = start
    return made


def test_dead_codes_are_revived_where_items_fit_badly(monkeypatch):
    moved = []
    revive = rq_vae_training._Trainer._revive

    def watch(trainer, assigned, epoch):
        before = [codebook.detach().clone() for codebook in trainer.network.codebooks]
        count = revive(trainer, assigned, epoch)
        moved.append((assigned, before, [c.detach().clone() for c in trainer.network.codebooks]))
        for codebook, old in zip(trainer.network.codebooks, before, strict=True):
            changed = (codebook.detach() != old).any(dim=1)
            for entry in ("exp_avg", "exp_avg_sq"):
                assert not trainer.optimizer.state[codebook][entry][changed].any()
                assert trainer.optimizer.state[codebook][entry][~changed].any()
        return count

    monkeypatch.setattr(rq_vae_training._Trainer, "_revive", watch)
    network, log = trained(build=crowded, epochs=50)
    # The settling period is the last fifth.
    assert len(moved) == 8
    assert log[0].revived == 7 + 7
    assert log[-1].revived == log[-2].revived == 0
    assigned, before, after = moved[0]
    for level in range(2):
        dead = np.setdiff1d(np.arange(8), assigned.codes[:, level])
        assert dead.tolist() == list(range(1, 8))
        residuals = assigned.residuals[:, level].numpy()
        for code in dead:
            assert (residuals == after[level][code].numpy()).all(axis=1).any()
        assert torch.equal(after[level][0], before[level][0])
    with torch.no_grad():
        codes = network.assign(network.encoder(torch.from_numpy(scaled(X)))).codes
    assert all(len(torch.unique(codes[:, level])) >= 6 for level in range(2))


def test_items_that_fit_exactly_revive_nothing():
    x = np.repeat(X[:1], 30, axis=0)
    _, log = trained(x, lambda: RqVaeNetwork(6, [16], 4, (8, 8), epsilon=None))
    assert all(entry.error < 1e-6 for entry in log)
    assert log[-1].collision_rate == 1 - 1 / 30


def test_the_learning_rate_rises_and_falls(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def step_and_look(self, *arguments):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step_and_look)
    # 240 items in batches of at most 64 are 4 equal batches; 40 epochs are 160 steps, 8 to rise.
    trained(epochs=40, learning_rate=0.01)
    layers, codes = np.array(rates).T
    assert len(layers) == 160
    np.testing.assert_allclose(codes, layers * rq_vae_training.CODEBOOK_RATE)
    np.testing.assert_allclose(layers[:8], 0.01 * np.arange(1, 9) / 8)
    np.testing.assert_allclose(layers[8:], 0.01 * (160 - np.arange(8, 160)) / 152)


def test_every_item_is_learned_from_once_an_epoch(monkeypatch):
    batches = []
    step = rq_vae_training._Trainer._step

    def watch(trainer, rows, generator):
        batches.append(rows)
        return step(trainer, rows, generator)

    monkeypatch.setattr(rq_vae_training._Trainer, "_step", watch)
    trained(epochs=2)
    assert [len(rows) for rows in batches] == [60] * 8
    for epoch in (batches[:4], batches[4:]):
        assert sorted(np.concatenate(epoch).tolist()) == list(range(240))
    assert not np.array_equal(batches[0], batches[4])


def test_a_training_that_diverges_says_what_to_lower():
    with pytest.raises(ConfigError, match=r"lower\s+index.rq_vae.learning_rate \(now 1e\+20\)"):
        trained(learning_rate=1e20)


def test_letters_losses_change_what_is_learned():
    plain = trained()[0]
    assert differ(plain, trained(letter=Letter(0.1, 0, 2, LETTER.collaborative))[0])
    assert differ(plain, trained(letter=Letter(0, 0.1, 2))[0])
    assert_same_weights(plain, trained(letter=Letter())[0])
