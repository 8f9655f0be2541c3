"""LightGCN and BPR: the convolution against dense matrices, and a world of two tastes."""

import numpy as np
import pytest
import torch

from genrec.cf.epoch_training import best_epoch
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.lightgcn import Graph, LightGcn
from genrec.cf.lightgcn_training import GraphSchedule, not_chosen, train
from genrec.cf.training_checkpoint import Checkpoint
from genrec.data.histories import from_lists
from genrec.errors import ConfigError, DataError, RequestError
from tests.cf.worlds import arrays, random_sequences

ITEMS = 15


def small_graph(seed=0):
    sequences = random_sequences(seed, users=12)
    return sequences, Graph.of(from_lists(sequences), ITEMS)


def dense(sequences):
    chosen = np.zeros((len(sequences), ITEMS))
    for user, sequence in enumerate(sequences):
        chosen[user, sequence] = 1
    return chosen


def normalised(sequences):
    """Return the normalised graph as a dense matrix."""
    chosen = dense(sequences)
    users, items = np.maximum(chosen.sum(1), 1), np.maximum(chosen.sum(0), 1)
    weights = chosen / np.sqrt(np.outer(users, items))
    top = np.hstack([np.zeros((12, 12)), weights])
    return np.vstack([top, np.hstack([weights.T, np.zeros((ITEMS, ITEMS))])])


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_vectors_are_means_of_powers_of_the_normalised_graph(layers):
    sequences, graph = small_graph()
    network = LightGcn(graph, dimensions=4, layers=layers)
    matrix = normalised(sequences)
    step = network.vectors.detach().double().numpy()
    total = step.copy()
    for _ in range(layers):
        step = matrix @ step
        total += step
    total /= layers + 1
    np.testing.assert_allclose(network.user_vectors(), total[:12], atol=1e-5)
    np.testing.assert_allclose(network.item_vectors(), total[12:], atol=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_gradients_are_those_of_dense_matrices(layers):
    sequences, graph = small_graph()
    network = LightGcn(graph, dimensions=4, layers=layers)
    triples = torch.tensor([0, 3, 3]), torch.tensor([1, 2, 7]), torch.tensor([4, 4, 5])
    network.loss(*triples, 0.0).backward()
    base = network.vectors.detach().double().requires_grad_()
    matrix = torch.from_numpy(normalised(sequences))
    powers = [torch.linalg.matrix_power(matrix, power) @ base for power in range(layers + 1)]
    vectors = torch.stack(powers).mean(0)
    user, item, other = vectors[triples[0]], vectors[12 + triples[1]], vectors[12 + triples[2]]
    margin = (user * item).sum(1) - (user * other).sum(1)
    (-torch.nn.functional.logsigmoid(margin).mean()).backward()
    torch.testing.assert_close(network.vectors.grad.double(), base.grad, atol=1e-6, rtol=1e-4)


def test_a_user_folded_in_is_that_user_but_for_its_own_start():
    """With no vector of its own, a training user's fold-in is its convolution."""
    sequences, graph = small_graph(1)
    network = LightGcn(graph, dimensions=4, layers=2)
    with torch.no_grad():
        network.vectors[: graph.users] = 0
    ranker = GraphRanker.of(network)
    np.testing.assert_allclose(
        ranker.user_vectors(arrays(*sequences)), network.user_vectors(), atol=1e-5
    )


def test_the_loss_is_that_of_the_paper_written_out():
    _, graph = small_graph(2)
    network = LightGcn(graph, dimensions=4, layers=1)
    users, items = (vectors.detach().numpy() for vectors in network())
    base = network.vectors.detach().numpy()
    wanted = 0.0
    for user, item, other in ((0, 3, 5), (4, 1, 0)):
        difference = users[user] @ items[item] - users[user] @ items[other]
        squares = sum(
            (base[row] ** 2).sum() for row in (user, graph.users + item, graph.users + other)
        )
        wanted += (-np.log(1 / (1 + np.exp(-difference))) + 0.1 * squares / 2) / 2
    rows = torch.tensor([[0, 4], [3, 1], [5, 0]])
    assert network.loss(*rows, 0.1).item() == pytest.approx(wanted, rel=1e-5)


def test_what_is_drawn_was_not_chosen():
    sequences, graph = small_graph(3)
    chosen = dense(sequences)
    for seed in range(20):
        drawn = not_chosen(graph, np.random.default_rng(seed))
        assert not chosen[graph.user.numpy(), drawn].any()
    full = Graph.of(from_lists([list(range(ITEMS))]), ITEMS)
    assert len(not_chosen(full, np.random.default_rng(0))) == ITEMS


@pytest.mark.parametrize("layers", [0, 2])
def test_two_tastes_are_told_apart(layers):
    """Users choose even items or odd ones; each is shown items of its own kind."""
    random = np.random.default_rng(0)
    kinds = [random.permutation(np.arange(start, 40, 2))[:8] for start in (0, 1) * 40]
    sequences = from_lists([kind[:-1] for kind in kinds])
    validation = from_lists(
        [kind[:-1] for kind in kinds], target=np.array([kind[-1] for kind in kinds])
    )
    schedule = GraphSchedule(epochs=30, every=10, batch=64, learning_rate=0.05)
    network, log = train(sequences, validation, 40, schedule, dimensions=8, layers=layers)
    ranker = GraphRanker.of(network)
    assert ranker.name == ("lightgcn" if layers else "bpr")
    histories = arrays([0, 2, 4], [1, 3, 5])
    even, odd = ranker.rank(histories, 10, exclude=histories)
    assert (even.items % 2 == 0).all() and (odd.items % 2 == 1).all()
    assert [entry.epoch for entry in log] == [10, 20, 30]
    assert log[-1].loss < log[0].loss


def test_same_seed_same_vectors_and_they_come_back_from_disk(tmp_path):
    sequences = from_lists(random_sequences(5))
    empty = from_lists([])
    schedule = GraphSchedule(epochs=3, every=2, batch=32)
    one, other = (train(sequences, empty, ITEMS, schedule, dimensions=4)[0] for _ in range(2))
    assert torch.equal(one.vectors, other.vectors)
    ranker = GraphRanker.of(one)
    ranker.save(tmp_path)
    again = GraphRanker.load(tmp_path, "lightgcn")
    histories = arrays([1, 2], [], [14])
    for found, want in zip(again.rank(histories, 6), ranker.rank(histories, 6), strict=True):
        assert found.items.tolist() == want.items.tolist()
    with pytest.raises(RequestError, match="holds catalogue rows from 15 to 15"):
        again.rank(arrays([15]), 3)


class Killed(Exception):
    pass


class KilledAfter(Checkpoint):
    """Stops the training once this many validations are saved."""

    validations = 2

    def save(self, state):
        super().save(state)
        if len(state.log) == self.validations:
            raise Killed


@pytest.mark.parametrize("layers", [2, 0])
@pytest.mark.parametrize("validations", [1, 3])
def test_an_interrupted_training_ends_with_the_same_vectors(tmp_path, layers, validations):
    sequences, schedule = (
        from_lists(random_sequences(5)),
        GraphSchedule(epochs=7, every=2, batch=32),
    )
    targets = np.arange(len(sequences), dtype=np.int32) % ITEMS
    validation = from_lists(random_sequences(6, users=len(sequences)), target=targets)
    settings = {"dimensions": 4, "layers": layers}
    whole, log = train(sequences, validation, ITEMS, schedule, **settings)
    killed = KilledAfter(tmp_path, {"a": 1})
    killed.validations = validations
    with pytest.raises(Killed):
        train(sequences, validation, ITEMS, schedule, **settings, checkpoint=killed)
    again = Checkpoint(tmp_path, {"a": 1})
    resumed, resumed_log = train(
        sequences, validation, ITEMS, schedule, **settings, checkpoint=again
    )
    assert torch.equal(whole.vectors, resumed.vectors)
    assert [(e.epoch, e.loss, e.ndcg_at_10) for e in log] == [
        (e.epoch, e.loss, e.ndcg_at_10) for e in resumed_log
    ]
    # A finished training is not trained further.
    finished, _ = train(sequences, validation, ITEMS, schedule, **settings, checkpoint=again)
    assert torch.equal(whole.vectors, finished.vectors)


def test_no_event_and_steps_too_large_are_told():
    with pytest.raises(DataError, match="no training event"):
        train(from_lists([]), from_lists([]), ITEMS, GraphSchedule())
    wild = GraphSchedule(epochs=60, learning_rate=1e30)
    with pytest.raises(ConfigError, match="lower its learning_rate"):
        train(from_lists(random_sequences(6)), from_lists([]), ITEMS, wild, dimensions=4)


@pytest.mark.parametrize("layers", [0, 2])
def test_without_validation_the_last_vectors_are_kept(layers):
    """After four epochs, of which the second and the fourth are looked at."""
    sequences, empty = from_lists(random_sequences(5)), from_lists([])
    found = [
        train(
            sequences, empty, ITEMS, GraphSchedule(epochs=epochs, every=2, batch=32),
            dimensions=4, layers=layers,
        )
        for epochs in (2, 4)
    ]  # fmt: skip
    assert [best_epoch(log) for _, log in found] == [2, 4]
    torch.manual_seed(GraphSchedule().seed)
    start = LightGcn(Graph.of(sequences, ITEMS), dimensions=4, layers=layers).vectors
    (early, _), (late, _) = found
    assert not torch.equal(early.vectors, start)
    assert not torch.equal(late.vectors, early.vectors)
