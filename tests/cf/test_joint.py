"""Joint vectors: each loss against arithmetic written out, and items that nobody chose."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from genrec.cf.joint import (
    JointBatch,
    JointNetwork,
    JointWeights,
    joint_losses,
    joint_vectors,
    total,
)
from genrec.cf.joint_training import JointData, JointSchedule, not_seen, train_joint
from genrec.errors import ConfigError, DataError

NAMES = list(asdict(JointWeights()))


def network():
    """One dimension everywhere, so that every number can be written down."""
    made = JointNetwork(1, 1, 1, item_scale=2.0, text_scale=4.0)
    values = {
        "item_encoder": (1.5, 0.5),
        "item_decoder": (2.0, -1.0),
        "text_encoder": (-0.5, 0.25),
        "text_decoder": (3.0, 0.5),
    }
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            layer = getattr(made, name)
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    return made


def logistic(x):
    return 1 / (1 + math.exp(-x))


def test_each_loss_is_that_of_the_paper():
    # One user of state 0.7 who chose an item of vector 3 and text 2; drawn: vector -1, no text.
    batch = JointBatch(
        torch.tensor([[0.7]]),
        torch.tensor([[3.0], [-1.0]]),
        torch.tensor([[2.0], [0.0]]),
        torch.tensor([True, False]),
    )
    item_code = [logistic(1.5 * 3 / 2 + 0.5), logistic(1.5 * -1 / 2 + 0.5)]
    text_code = logistic(-0.5 * 2 / 4 + 0.25)
    decoded = [2 * code - 1 for code in item_code]
    expected = {
        "match": (item_code[0] - text_code) ** 2,
        "item_reconstruction": ((decoded[0] - 3 / 2) ** 2 + (decoded[1] + 1 / 2) ** 2) / 2,
        "text_reconstruction": (3 * text_code + 0.5 - 2 / 4) ** 2,
        "recommendation": -math.log(logistic(0.7 * decoded[0] * 2))
        - math.log(1 - logistic(0.7 * decoded[1] * 2)),
    }
    found = joint_losses(network(), batch)
    assert {
        name: pytest.approx(value.item(), rel=1e-5) for name, value in found.items()
    } == expected
    weights = JointWeights(2, 3, 5, 7)
    assert total(found, weights).item() == pytest.approx(
        sum(weight * expected[name] for name, weight in zip(NAMES, (2, 3, 5, 7), strict=True)),
        rel=1e-5,
    )
    assert total(found, replace(weights, match=0.0)).item() == pytest.approx(
        total(found, weights).item() - 2 * expected["match"], rel=1e-5
    )


def world(items=30, users=40):
    """Cf and text vectors are two views of the same hidden vectors; the last three are cold."""
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(items, 4))
    cf = (hidden @ generator.normal(size=(4, 6))).astype(np.float32)
    texts = (hidden @ generator.normal(size=(4, 8))).astype(np.float32)
    known = np.arange(items) < items - 3
    has_text = np.arange(items) != items - 1
    chosen = generator.integers(0, items - 3, users)
    return JointData(
        items=cf,
        texts=texts,
        known=known,
        has_text=has_text,
        states=cf[chosen],
        chosen=chosen,
        seen=np.sort(np.arange(users) * items + chosen),
    )


def test_items_that_nobody_chose_enter_by_their_text():
    data = world()
    trained, log = train_joint(
        data, JointWeights(), JointSchedule(epochs=60, batch=8, learning_rate=3e-2), dimensions=5
    )
    assert log[-1]["match"] < log[0]["match"] / 2
    vectors = joint_vectors(
        trained, data.items, data.texts, known=data.known, has_text=data.has_text, rows_at_once=7
    )
    with torch.no_grad():
        item = trained.item_codes(torch.from_numpy(data.items)).numpy()
        text = trained.text_codes(torch.from_numpy(data.texts)).numpy()
    np.testing.assert_allclose(vectors[:27], item[:27], atol=1e-6)
    np.testing.assert_allclose(vectors[27:29], text[27:29], atol=1e-6)
    np.testing.assert_allclose(vectors[29], item[:27].mean(0), atol=1e-6)
    # The text code of a cold item is nearest to the item code it would have had.
    for row in (27, 28):
        distances = np.linalg.norm(item - vectors[row], axis=1)
        assert np.argsort(distances)[0] == row


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_can_be_off(name):
    data = world()
    schedule = JointSchedule(epochs=20, batch=8, learning_rate=1e-2)
    whole, log = train_joint(data, JointWeights(), schedule, dimensions=5)
    without, other = train_joint(
        data, replace(JointWeights(), **{name: 0.0}), schedule, dimensions=5
    )
    # Same seed, same start; what is not asked for gets worse.
    assert other[-1][name] > log[-1][name]
    same = torch.equal(whole.text_decoder.weight, without.text_decoder.weight)
    assert not same


def test_a_decoder_whose_losses_are_off_stays_as_it_was():
    data, schedule = world(), JointSchedule(epochs=2)
    started = [
        train_joint(data, JointWeights(1, 0, weight, 0), schedule, dimensions=5)[0]
        for weight in (0.0, 0.2)
    ]
    torch.manual_seed(schedule.seed)
    fresh = JointNetwork(6, 8, 5, 1.0, 1.0)
    for trained in started:
        assert torch.equal(trained.item_decoder.weight, fresh.item_decoder.weight)
    assert torch.equal(started[0].text_decoder.weight, fresh.text_decoder.weight)
    assert not torch.equal(started[1].text_decoder.weight, fresh.text_decoder.weight)


def test_drawn_items_are_known_and_not_chosen():
    data = world(items=6, users=300)
    for seed in range(3):
        drawn = not_seen(data, np.random.default_rng(seed))
        assert set(drawn) == {0, 1, 2}
        assert not (drawn == data.chosen).any()


def test_clear_errors():
    data = world()
    with pytest.raises(ConfigError, match="all weights"):
        train_joint(data, JointWeights(0, 0, 0, 0), JointSchedule(), dimensions=5)
    nobody = replace(data, chosen=data.chosen[:0], states=data.states[:0])
    with pytest.raises(DataError, match="two training events"):
        train_joint(nobody, JointWeights(), JointSchedule(), dimensions=5)
    broken = replace(data, states=np.full_like(data.states, np.nan))
    with pytest.raises(ConfigError, match="not finite in epoch 1"):
        train_joint(broken, JointWeights(), JointSchedule(), dimensions=5)
