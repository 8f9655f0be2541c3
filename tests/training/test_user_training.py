"""Training the user-side model: losses against written-out arithmetic, and what is learned."""

import numpy as np
import pytest
import torch

from genrec.cf import epoch_training
from genrec.cf.epoch_training import best_epoch
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.training_checkpoint import Checkpoint
from genrec.cf.validation import validate
from genrec.data.histories import from_lists
from genrec.errors import ConfigError, DataError
from genrec.model.user_body import body_from_scratch
from genrec.model.user_model import UserModel
from genrec.model.user_ranker import UserRanker
from genrec.training import frozen_users, user_training
from genrec.training.frozen_users import FrozenUsers
from genrec.training.post_alignment import PostAlignment
from genrec.training.user_training import UserSchedule, newest_items, train_users

N, HIDDEN = 10, 16


def network(seed=0):
    torch.manual_seed(seed)
    items = np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)
    body = body_from_scratch(hidden=HIDDEN, layers=1, heads=2, feed_forward=32, max_tokens=32)
    return UserModel(body, items, hidden=HIDDEN, max_history=5)


def rows(*items):
    return np.asarray(items, dtype=np.int32)


SEQUENCES = [rows(0, 1, 2, 3), rows(4, 5), rows(7, 6, 5)]


def trainer(model, loss="cross_entropy", candidates=None, frozen=None, alignment=None, weight=0.1):
    chosen = np.ones(N, dtype=bool) if candidates is None else candidates
    schedule = UserSchedule(loss=loss, alignment_weight=weight)
    users = rows(0, 1, 2)
    return user_training._Training(
        model, SEQUENCES, users, chosen, schedule, frozen=frozen, alignment=alignment
    )


def states_and_targets(model):
    """Every beginning alone: the slow way."""
    beginnings = [
        (sequence[:t], sequence[t]) for sequence in SEQUENCES for t in range(len(sequence))
    ]
    users = torch.cat([model.last_states([history]) for history, _ in beginnings])
    return users, [int(target) for _, target in beginnings]


def gradients(model):
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("at_once", [2**24, 30])
def test_the_loss_and_its_gradient_are_those_of_each_beginning(at_once, monkeypatch):
    monkeypatch.setattr(user_training, "LOGITS_AT_ONCE", at_once)
    model = network()
    candidates = np.ones(N, dtype=bool)
    candidates[[8, 9]] = False
    users, targets = states_and_targets(model)
    scores = users @ model.item_vectors()[:8].T
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(targets))
    torch.autograd.backward(expected)
    wanted = gradients(model)
    model.zero_grad()
    one = trainer(model, candidates=candidates)
    kept = []
    monkeypatch.setattr(one.optimizer, "step", lambda: kept.append(gradients(model)))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: None)
    losses = one._step(np.arange(3))
    assert list(losses) == ["loss"]
    assert losses["loss"] / len(targets) == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in wanted.items():
        torch.testing.assert_close(kept[0][name], gradient, atol=1e-5, rtol=1e-3)


def test_the_pointwise_loss_has_one_drawn_item_a_target(monkeypatch):
    model = network()
    users, targets = states_and_targets(model)
    draw = torch.tensor([9, 1, 3, 4, 4, 2, 7, 0, 8])
    monkeypatch.setattr(torch, "randint", lambda *_: draw)
    items = model.item_vectors()
    expected = 0.0
    for user, target, other in zip(users, targets, draw.tolist(), strict=True):
        expected -= torch.log(torch.sigmoid(user @ items[target])).item()
        if other != target:
            expected -= torch.log(1 - torch.sigmoid(user @ items[other])).item()
    losses = trainer(model, "bce")._step(np.arange(3))
    assert losses["loss"] == pytest.approx(expected, rel=1e-4)


def sasrec():
    torch.manual_seed(3)
    return SasRecRanker(SasRec(N, dimensions=8, layers=1, heads=2, max_history=5))


def graph():
    items = np.random.default_rng(1).normal(size=(2, N, 4)).astype(np.float32)
    return GraphRanker("lightgcn", items[0], items[1])


@pytest.mark.parametrize("at_once", [4, 100])
@pytest.mark.parametrize("make", [sasrec, graph])
def test_frozen_users_are_the_vectors_after_each_beginning(make, at_once, monkeypatch):
    model = make()
    monkeypatch.setattr(frozen_users, "AT_ONCE", at_once)
    frozen = FrozenUsers(model, SEQUENCES)
    expected = np.concatenate(
        [model.user_vectors([s[:t] for t in range(len(s))]) for s in SEQUENCES]
    )
    np.testing.assert_allclose(frozen.states([0, 1, 2]).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(frozen.states([2, 0])[:3].numpy(), expected[6:], atol=1e-5)
    assert frozen.dimensions == expected.shape[1]


def test_the_alignment_reads_states_and_frozen_users_of_the_same_beginnings(monkeypatch):
    model, frozen = network(), FrozenUsers(sasrec(), SEQUENCES)
    alignment = PostAlignment(HIDDEN, frozen.dimensions, temperature=0.2)
    users, _ = states_and_targets(model)
    owner = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    expected = alignment(users, frozen.states([0, 1, 2]), owner).item()
    one = trainer(model, frozen=frozen, alignment=alignment)
    assert one._step(np.arange(3))["alignment"] / 9 == pytest.approx(expected, rel=1e-5)
    assert any("alignment" in name for name in one._trained)


def circle(users=40, length=6):
    starts = np.random.default_rng(0).integers(0, N, users)
    return [((start + np.arange(length)) % N).astype(np.int32) for start in starts]


def held_out():
    return from_lists([(s + 0)[1:5] for s in circle()], target=np.asarray([s[5] for s in circle()]))


FAST = UserSchedule(epochs=25, patience=25, batch_items=60, learning_rate=1e-2)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_it_learns_a_circle(loss):
    model = network()
    schedule = UserSchedule(**{**FAST.__dict__, "loss": loss})
    log = train_users(model, from_lists(circle()), held_out(), np.ones(N, dtype=bool), schedule)
    measured = validate(UserRanker(model.eval()), held_out())
    assert measured[1] > 0.95
    assert measured[1] == pytest.approx(log[best_epoch(log) - 1].ndcg_at_10)
    assert log[-1].alignment is None


def test_the_weights_of_the_best_epoch_are_left(monkeypatch):
    figures, seen = iter([(0.1, 0.1), (0.9, 0.9), (0.2, 0.2)]), []

    def validated(ranker, _):
        seen.append(ranker.item_vectors())
        return next(figures)

    monkeypatch.setattr(epoch_training, "validate", validated)
    model, everything = network(), np.ones(N, dtype=bool)
    schedule = UserSchedule(**{**FAST.__dict__, "epochs": 3})
    log = train_users(model, from_lists(circle()), held_out(), everything, schedule)
    assert best_epoch(log) == 2
    left = UserRanker(model.eval()).item_vectors()
    assert [np.array_equal(each, left) for each in seen] == [False, True, False]


def test_aligned_users_agree_more_with_the_frozen_model():
    sequences = from_lists(circle())
    frozen = FrozenUsers(sasrec(), newest_items(sequences, 5))
    told = {}
    for weight in (0.0, 1.0):
        model = network()
        alignment = PostAlignment(HIDDEN, frozen.dimensions)
        schedule = UserSchedule(**{**FAST.__dict__, "alignment_weight": weight, "epochs": 10})
        log = train_users(
            model, sequences, held_out(), np.ones(N, dtype=bool), schedule,
            frozen=frozen, alignment=alignment,
        )  # fmt: skip
        told[weight] = log[-1].alignment
        assert log[-1].loss < log[0].loss
    assert told[1.0] < told[0.0]


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_items_nobody_chose_are_no_wrong_answers(loss):
    """Whatever is known of such an item, the same is learned; among the others it would matter."""
    sequences = from_lists([s[s != 9] for s in circle()])
    assert sequences.items.max() == 8
    schedule = UserSchedule(**{**FAST.__dict__, "loss": loss, "epochs": 2})
    candidates = np.ones(N, dtype=bool)
    for apart in (True, False):
        candidates[9] = not apart
        learned = []
        for other in (1.0, -1.0):
            model = network()
            model.items[9] *= other
            train_users(model, sequences, from_lists([]), candidates, schedule)
            learned.append(model.answer.weight.detach())
        assert torch.equal(*learned) == apart


def test_what_cannot_be_learned_is_refused():
    model = network()
    everything = np.ones(N, dtype=bool)
    with pytest.raises(DataError, match="no training event"):
        train_users(model, from_lists([]), from_lists([]), everything, FAST)


def test_weights_that_are_no_numbers_stop_even_where_every_loss_is_one():
    """One step an epoch, and a gradient that spoils what no later step reads."""
    model = network()
    model.answer.weight.register_hook(lambda gradient: gradient * float("nan"))
    schedule = UserSchedule(**{**FAST.__dict__, "batch_items": 10**6})
    with pytest.raises(
        ConfigError,
        match=r"epoch 1, and weights that are no numbers; lower molar.learning_rate \(now 0.01\)",
    ):
        train_users(model, from_lists(circle()), from_lists([]), np.ones(N, bool), schedule)


def test_a_loss_that_is_no_number_stops_at_its_step_and_spoils_no_checkpoint(tmp_path):
    everything, sequences = np.ones(N, dtype=bool), from_lists(circle())
    straight = network()
    train_users(straight, sequences, sequences, everything, FAST)
    model, calls = network(), []

    def spoil(module, given, answer):
        calls.append(module.training)
        # Four steps an epoch: the second epoch's third.
        return answer * float("nan") if calls.count(True) == 7 else None

    hook = model.answer.register_forward_hook(spoil)
    checkpoint = Checkpoint(tmp_path, {})
    with pytest.raises(
        ConfigError,
        match=r"loss nan in epoch 2, step 3 of 4 \(sequences \d+, .*\); lower "
        r"molar.learning_rate \(now 0.01\)",
    ):
        train_users(model, sequences, sequences, everything, FAST, checkpoint=checkpoint)
    hook.remove()
    assert len(checkpoint.load().log) == 1
    again = network()
    train_users(again, sequences, sequences, everything, FAST, checkpoint=checkpoint)
    torch.testing.assert_close(again.state_dict(), straight.state_dict(), rtol=0, atol=0)
