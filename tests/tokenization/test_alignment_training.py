import numpy as np
import pytest
import torch
from torch.nn import functional

from genrec.cf import sasrec_training
from genrec.cf.epoch_training import Schedule
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_training import train
from genrec.cf.training_checkpoint import Checkpoint
from genrec.data.histories import from_lists
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ConfigError, DataError
from genrec.tokenization import alignment_training
from genrec.tokenization.alignment import contrastive_loss
from genrec.tokenization.alignment_training import AlignedSasRec, align
from tests.cf.conftest import one_thread  # noqa: F401 - a fixture
from tests.cf.worlds import random_sequences

ITEMS = 15
NONE = from_lists([])
TRAINING = from_lists(random_sequences(0))
TEXT = EmbeddingTable(np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32), {})


def trained(dropout=0.3):
    torch.manual_seed(0)
    return SasRec(ITEMS, dimensions=8, layers=1, heads=2, dropout=dropout, max_history=8)


def schedule(**changes):
    return Schedule(**({"epochs": 3, "patience": 99, "batch_items": 64, "seed": 3} | changes))


def run(text=TEXT, sequences=TRAINING, network=None, **changes):
    options = {"temperature": 0.3, "weight": 1.0, "checkpoint": None}
    given = {name: changes.pop(name, value) for name, value in options.items()}
    return align(network or trained(), text, sequences, schedule(**changes), **given)


def assert_same(one, other):
    np.testing.assert_array_equal(one.cf, other.cf)
    for name, array in one.adaption.arrays().items():
        np.testing.assert_array_equal(array, other.adaption.arrays()[name])


def agreement(alignment):
    """The contrastive loss of all items."""
    adapted = alignment.adaption.predict(TEXT.normalised())
    return contrastive_loss(torch.from_numpy(alignment.cf), torch.from_numpy(adapted), 0.3).item()


def test_text_and_cf_vectors_come_to_agree():
    apart, together = (run(weight=weight, epochs=20) for weight in (0.0, 1.0))
    assert agreement(together) < 0.7 * agreement(apart)
    # What is learned is the cf vectors too, not the layer alone.
    assert not np.allclose(together.cf, apart.cf, atol=1e-3)


def test_a_step_has_the_gradient_of_both_losses_together():
    network = AlignedSasRec(
        trained(dropout=0.0),
        torch.from_numpy(TEXT.normalised()),
        torch.arange(ITEMS),
        temperature=0.3,
        weight=0.7,
    )
    sequences = [TRAINING[i] for i in range(4)]
    seen = {}

    def look(optimizer):
        parameters = dict(network.named_parameters())
        seen.update({name: value.grad.clone() for name, value in parameters.items()})

    trainer = sasrec_training._Training(
        network, sequences, schedule(), AlignedSasRec.contrastive_loss, "SASRec", torch.float32
    )
    trainer.optimizer.step = lambda: look(trainer.optimizer)
    network.train()
    trainer._step(np.arange(4))

    network.zero_grad()
    rows, lengths = network.pad(sequences, network.max_history + 1)
    real = torch.arange(rows.shape[1] - 1) < (lengths - 1)[:, None]
    states = SasRec.forward(network, rows[:, :-1], lengths - 1)[real]
    loss = functional.cross_entropy(network.scores(states), rows[:, 1:][real])
    adapted = network.adaption(network.text)
    loss = loss + 0.7 * contrastive_loss(network.item_vectors.weight[:ITEMS], adapted, 0.3)
    loss.backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(seen[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_without_weight_it_is_the_training_of_the_cf_stage():
    # The contrastive loss is drawn all the same, so dropout is off: it would see other numbers.
    start = trained(dropout=0.0)
    aligned = run(network=start, weight=0.0, epochs=1)

    def build():
        network = trained(dropout=0.0)
        network.load_state_dict(start.state_dict())
        return network

    network, log = train(TRAINING, NONE, schedule(epochs=1), build)
    np.testing.assert_allclose(aligned.cf, network.item_vectors.weight[:ITEMS].detach(), atol=1e-6)
    assert [entry.loss for entry in aligned.log] == pytest.approx([entry.loss for entry in log])


def test_same_seed_same_vectors_other_seed_other_vectors():
    first = run()
    torch.rand(5)  # what was drawn elsewhere does not matter
    assert_same(first, run())
    assert not np.array_equal(first.cf, run(seed=4).cf)


def test_the_network_of_the_cf_stage_is_left_alone():
    start = trained()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    run(network=start, epochs=1)
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name])


def test_only_items_with_text_and_events_are_aligned(monkeypatch):
    vectors = TEXT.vectors.copy()
    vectors[3] = 0
    sequences = from_lists([[i for i in each if i != 7] for each in random_sequences(0)])
    drawn = []
    loss = AlignedSasRec.contrastive_loss
    monkeypatch.setattr(
        AlignedSasRec, "contrastive_loss", lambda self: (drawn.append(self.rows), loss(self))[1]
    )
    run(text=EmbeddingTable(vectors, {}), sequences=sequences, epochs=1)
    expected = sorted(set(sequences.items.tolist()) - {3, 7})
    assert drawn and all(rows.tolist() == expected for rows in drawn)


def test_a_step_draws_a_bounded_number_of_distinct_items(monkeypatch):
    monkeypatch.setattr(alignment_training, "ITEMS_PER_STEP", 4)
    sizes = []

    def look(cf, text, temperature):
        assert len(cf) == len(torch.unique(cf, dim=0))
        sizes.append(len(text))
        return contrastive_loss(cf, text, temperature)

    monkeypatch.setattr(alignment_training, "contrastive_loss", look)
    run(epochs=1)
    assert sizes and set(sizes) == {4}


def test_the_last_epoch_is_kept_and_patience_stops_nothing():
    alignment = run(epochs=3, patience=1)
    assert [entry.epoch for entry in alignment.log] == [1, 2, 3]
    assert not np.array_equal(alignment.cf, run(epochs=2).cf)


class Killed(Exception):
    pass


class KilledAfterTwo(Checkpoint):
    def save(self, state):
        super().save(state)
        if len(state.log) == 2:
            raise Killed


def test_an_interrupted_training_ends_with_the_same_vectors(tmp_path):
    with pytest.raises(Killed):
        run(checkpoint=KilledAfterTwo(tmp_path, {}))
    resumed = run(checkpoint=Checkpoint(tmp_path, {}))
    assert_same(resumed, run())
    assert len(resumed.log) == 3


def test_one_item_is_no_error():
    network = SasRec(1, dimensions=8, layers=1, heads=2, max_history=8)
    alignment = align(
        network,
        EmbeddingTable(TEXT.vectors[:1], {}),
        from_lists([[0, 0, 0]]),
        schedule(epochs=1),
        temperature=0.3,
        weight=1.0,
    )
    assert alignment.cf.shape == (1, 8)
    assert np.isfinite(alignment.adaption.predict(TEXT.vectors[:1])).all()


def test_texts_of_another_catalogue_are_refused():
    with pytest.raises(DataError, match="14 text vectors for the 15 items"):
        run(text=EmbeddingTable(TEXT.vectors[1:], {}))


def test_nothing_to_align_is_refused():
    with pytest.raises(DataError, match="no item has both.*index.vectors: cf"):
        run(text=EmbeddingTable(np.zeros((ITEMS, 6), dtype=np.float32), {}))
    only = np.zeros((ITEMS, 6), dtype=np.float32)
    only[7] = 1
    with pytest.raises(DataError, match="no item has both"):
        run(text=EmbeddingTable(only, {}), sequences=from_lists([[1, 2, 3]]))
    with pytest.raises(DataError, match="no item has both"):
        run(sequences=NONE)


def test_a_step_size_that_explodes_is_named():
    with pytest.raises(ConfigError, match="lower index.alignment.learning_rate"):
        run(learning_rate=1e30)


def test_a_loss_that_breaks_in_the_very_last_step_is_named(monkeypatch):
    def broken(cf, text, temperature):
        return contrastive_loss(cf, text, temperature) * float("nan")

    monkeypatch.setattr(alignment_training, "contrastive_loss", broken)
    with pytest.raises(ConfigError, match="lower index.alignment.learning_rate"):
        run(epochs=1, batch_items=10_000)


def test_the_number_of_threads_plays_no_part():
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            alignment = run()
            found.append((alignment.cf, alignment.adaption.predict(TEXT.normalised())))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
