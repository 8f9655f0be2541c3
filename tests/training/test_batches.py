"""The batch plan: every user once a pass, few shapes, the same for the same seed."""

import numpy as np
import torch

from genrec.data.histories import from_lists
from genrec.training.batches import IGNORED, Augmentation, BatchPlan


def sequences():
    generator = np.random.default_rng(0)
    return from_lists(
        [generator.integers(0, 100, length) for length in generator.integers(3, 30, 200)]
    )


def plan(epochs=2.0, **augmentation):
    return BatchPlan(
        sequences(),
        epochs=epochs,
        batch_items=128,
        augmentation=Augmentation(20, **augmentation),
        seed=3,
    )


def rows(batch):
    return [
        tuple(item for item in row if item != IGNORED)
        for row in batch["items"].tolist()
        if row[0] != IGNORED
    ]


def test_every_user_is_read_once_a_pass_and_cut_to_the_newest():
    users = sequences()
    read = sorted(row for step in range(len(plan())) for row in rows(plan()[step]))
    want = sorted(tuple(users[user][-20:].tolist()) for user in range(200)) * 2
    assert read == sorted(want)


def test_few_shapes():
    batches = plan()
    shapes = {tuple(batches[step]["items"].shape) for step in range(len(batches))}
    assert len(shapes) <= 8
    assert all(height * width <= 128 for height, width in shapes)


def test_same_seed_same_batches_and_passes_differ():
    left, right = (
        plan(crop_probability=0.5, item_dropout=0.2),
        plan(crop_probability=0.5, item_dropout=0.2),
    )
    for step in range(len(left)):
        assert torch.equal(left[step]["items"], right[step]["items"])
    half = len(left) // 2
    first = sorted(row for step in range(half) for row in rows(left[step]))
    second = sorted(row for step in range(half, len(left)) for row in rows(left[step]))
    assert first != second


def test_variation_keeps_order_and_never_empties_a_history():
    generator = np.random.default_rng(1)
    augmentation = Augmentation(10, crop_probability=0.7, item_dropout=0.5)
    items = np.arange(25, dtype=np.int32)
    for _ in range(300):
        varied = augmentation.apply(items, generator)
        assert 1 <= len(varied) <= 10
        assert (np.diff(varied) > 0).all()


def test_padding_share_is_counted():
    batches = plan()
    places = sum(batches[step]["items"].numel() for step in range(len(batches)))
    real = sum(int((batches[step]["items"] != IGNORED).sum()) for step in range(len(batches)))
    assert batches.padding_share == 1 - real / places


def test_a_share_of_a_pass_too_small_for_a_user_is_one_user():
    plan = BatchPlan(
        from_lists([[1, 2, 3], [4, 5]]),
        epochs=1e-3,
        batch_items=100,
        augmentation=Augmentation(8),
        seed=1,
    )
    assert len(plan) == 1
    assert sum(map(len, plan.histories(0)[1])) in (2, 3)
