"""The plan of a mixture: the right shares, few shapes, the same for the same seed, and no leak."""

import dataclasses

import numpy as np
import pytest
import torch

from genrec.data.interactions import Interactions
from genrec.errors import ConfigError
from genrec.model.task_prompts import Encoded
from genrec.training.batches import Augmentation
from genrec.training.tasks.examples import TrainingExamples, ValidationExamples
from genrec.training.tasks.plan import Mixture, MixturePlan, Phase
from genrec.training.tasks.table import TASKS
from tests.training.tasks.world import ITEMS, USERS, codes, dataset, material, task_prompts

WEIGHTS = {"next_item": 1.0, "text_to_item": 0.5, "search": 0.3, "stream": 0.2}


def source(data=None, *, max_tokens=None, seed=1, **augmentation):
    data = data or dataset()
    return TrainingExamples(
        data.sequences(),
        np.flatnonzero(data.item_counts),
        material(),
        task_prompts(max_tokens=max_tokens),
        Augmentation(10, **augmentation),
        seed,
    )


def plan(examples=None, weights=None, *, curriculum=(), epochs=4.0, seed=1, **settings):
    mixture = Mixture(weights or WEIGHTS, USERS, epochs, curriculum)
    return MixturePlan(
        examples or source(), mixture, batch_tokens=600, pad_token=0, seed=seed, **settings
    )


def rows(made, steps=None):
    """Return task and tokens of every row of the plan, batch by batch."""
    found = []
    for step in steps or range(len(made)):
        batch = made[step]
        for task, tokens, answers in zip(*map(torch.Tensor.tolist, batch_of(batch)), strict=True):
            if task >= 0:
                last = max(place for place, answer in enumerate(answers) if answer)
                found.append((made.tasks[task], tuple(tokens[: last + 1])))
            else:
                assert not any(answers)
    return found


def last_items():
    """The last training item of every user."""
    sequences = dataset().sequences()
    return [int(sequences[user][-1]) for user in range(len(sequences))]


def batch_of(batch):
    return batch["task"], batch["tokens"], batch["answers"]


def test_each_task_has_its_share_of_the_sequences():
    found = [task for task, _ in rows(plan())]
    counts = {task: found.count(task) for task in WEIGHTS}
    assert counts == {
        "next_item": 4 * USERS, "text_to_item": 2 * USERS, "search": round(1.2 * USERS),
        "stream": round(0.8 * USERS),
    }  # fmt: skip
    assert counts == dict(plan().sequences)


def test_every_user_and_item_has_its_turn_before_any_has_a_second():
    made = plan(weights={"next_item": 1.0, "text_to_item": ITEMS / USERS}, epochs=2.0)
    found = rows(made)
    users = sorted(tokens[-2:] for task, tokens in found if task == "next_item")
    # Without cuts the answer is a user's last training item.
    last = sorted(tuple(codes(item)) for item in last_items())
    assert users == sorted(last * 2)
    items = sorted(tokens[-2:] for task, tokens in found if task == "text_to_item")
    assert items == sorted([tuple(codes(row)) for row in range(ITEMS)] * 2)


def test_a_batch_is_a_function_of_seed_and_position():
    left, right = (plan(source(crop_probability=0.9, item_dropout=0.1)) for _ in range(2))
    assert len(left) == len(right)
    for step in reversed(range(len(left))):
        one, other = left[step], right[step]
        assert all(torch.equal(one[name], other[name]) for name in one)
    other = plan(source(crop_probability=0.9, item_dropout=0.1, seed=2), seed=2)
    assert rows(other) != rows(left)
    # Passes differ: prompts are drawn anew.
    searches = [tokens for task, tokens in rows(left) if task == "search"]
    assert len(set(searches)) > 0.9 * len(searches)


def test_few_shapes_and_padding_is_counted():
    made = plan()
    shapes = {tuple(made[step]["tokens"].shape) for step in range(len(made))}
    assert len(shapes) <= 8
    assert all(width % 8 == 0 and height * width <= 600 for height, width in shapes)
    places = sum(made[step]["tokens"].numel() for step in range(len(made)))
    assert places == sum(made.rows_of(step) * made.width_of(step) for step in range(len(made)))
    real = sum(len(tokens) for _, tokens in rows(made))
    assert made.padding_share == pytest.approx(1 - real / places)


def test_batches_hold_several_tasks():
    made = plan()
    mixed = [len(set(made[step]["task"].tolist()) - {-1}) for step in range(len(made))]
    assert np.mean(mixed) > 1.5


def test_a_curriculum_comes_first_and_keeps_the_whole():
    first = Phase(["text_to_item"], 0.25)
    made = plan(curriculum=[first])
    total = 4 * USERS * 2
    tasks = [task for task, _ in rows(made)]
    head = round(0.25 * total)
    assert set(tasks[:head]) == {"text_to_item"}
    rest = tasks[head:]
    assert len(rest) == pytest.approx(0.75 * total, abs=2)
    assert rest.count("next_item") == pytest.approx(0.75 * 4 * USERS, abs=1)
    # Numbers go on where the phase stopped, so no example comes twice.
    numbers = [
        number
        for _, chunk in made._plan
        for task, number in zip(chunk.task.tolist(), chunk.number.tolist(), strict=True)
        if made.tasks[task] == "text_to_item"
    ]
    assert sorted(numbers) == list(range(len(numbers)))


def test_fewer_steps_shorten_every_phase_alike():
    made = plan(curriculum=[Phase(["text_to_item"], 0.25)])
    half = plan(curriculum=[Phase(["text_to_item"], 0.25)], most_batches=len(made) // 2)
    assert len(half) == len(made) // 2
    leading = []
    for each in (made, half):
        alone = [set(each[step]["task"].tolist()) <= {1, -1} for step in range(len(each))]
        leading.append(alone.index(False))
    assert leading[1] == pytest.approx(leading[0] / 2, abs=1.5)
    assert len(plan(most_batches=10**6)) == len(plan())


def test_what_has_no_text_is_left_out_and_counted():
    # The last of the items has no description; nothing else is without one.
    made = plan(weights={"history_to_description": 1.0}, epochs=1.0)
    last = last_items().count(ITEMS - 1)
    assert 0 < last < USERS
    assert made.left_out["history_to_description"] == last
    assert made.sequences["history_to_description"] == USERS - last


def test_a_task_without_any_example_is_refused():
    class Nothing:
        def example(self, task, number):
            return None if task == "search" else Encoded(np.arange(5), 2, 0)

    with pytest.raises(ConfigError, match="names search, of which no example"):
        plan(Nothing())


def test_sequences_that_are_too_long_lose_their_oldest_items_and_are_counted():
    weights = {"next_item": 1.0}
    full = plan(weights=weights, epochs=1.0)
    longest = max(full.widths)
    made = plan(source(max_tokens=longest - 8), weights, epochs=1.0)
    assert made.shortened > 0
    assert made.items_dropped >= made.shortened
    assert max(len(tokens) for _, tokens in rows(made)) <= longest - 8
    assert full.shortened == 0


def with_other_held_out(data):
    """The same training events; held-out events name other items."""
    other = data.interactions.item.copy()
    other[data.part > 0] = (other[data.part > 0] + 5) % ITEMS
    events = data.interactions
    return dataclasses.replace(
        data, interactions=Interactions(events.user, other, events.time, events.weight)
    )


class Leaky:
    """A dataset whose training sequences end with a held-out event: the planted leak."""

    def __init__(self, data):
        self._data = data
        self.item_counts = data.item_counts

    def sequences(self):
        return self._data.histories("test")


@pytest.mark.parametrize("task", TASKS)
def test_held_out_events_change_nothing_that_is_trained_on(task):
    """A leak that is planted is caught by the same comparison."""
    data = dataset()
    weights = {task: 1.0}
    honest = [
        rows(plan(source(each, crop_probability=0.5), weights))
        for each in (data, with_other_held_out(data))
    ]
    assert honest[0] == honest[1]
    leaking = [
        rows(plan(source(Leaky(each), crop_probability=0.5), weights))
        for each in (data, with_other_held_out(data))
    ]
    if TASKS[task].reads != "item":
        assert leaking[0] != leaking[1]


def test_texts_of_items_that_no_training_event_names_are_not_trained_on():
    data = dataset()
    part = data.part.copy()
    part[data.interactions.item == 4] = 2
    held_out = dataclasses.replace(data, part=part)
    items = {tokens[-2:] for _, tokens in rows(plan(source(held_out), {"text_to_item": 1.0}))}
    assert items == {tuple(codes(row)) for row in range(ITEMS) if row != 4}


def test_validation_examples_use_the_first_template_and_the_held_out_item():
    data = dataset()
    histories = data.histories("validation")
    examples = ValidationExamples(histories, material(), task_prompts(), 3, 1)
    made = examples.examples("next_item")
    assert [place for place, _ in made] == list(range(USERS))
    prompts = task_prompts()
    for place, example in made:
        history = histories[place][-3:].tolist()
        fields = {"history": history, "item": int(histories.target[place])}
        want = prompts.example("next_item", fields)
        assert example.tokens.tolist() == want.tokens.tolist()
    [(_, stream), *_] = examples.examples("stream")
    assert stream.tokens.tolist()[-2:] == codes(int(histories.target[0]))
    assert len(stream.tokens) == 1 + 4 * 2


def test_a_task_of_which_nothing_is_drawn_is_named_as_such():
    with pytest.raises(ConfigError, match="gives search so small a weight that not one"):
        plan(weights={"next_item": 1.0, "search": 1e-4})
