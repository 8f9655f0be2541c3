"""The loss of tasks against the model's own full forward pass, one sequence at a time."""

import numpy as np
import pytest
import torch

from genrec.model.code_head import CodeHead
from genrec.model.language_model import from_scratch, item_token_table
from genrec.model.prompts import Prompts
from genrec.model.task_prompts import Encoded
from genrec.training.batches import IGNORED
from genrec.training.objectives import Objective
from genrec.training.tasks import objective as module
from genrec.training.tasks.objective import Tally, TaskObjective
from genrec.training.tasks.plan import padded
from tests.training.world import total_loss

EXAMPLES = [
    Encoded(np.asarray([1, 5, 9, 4, 2]), 3, 0),
    Encoded(np.asarray([1, 7, 3, 3, 8, 10, 12, 6]), 1, 0),
    Encoded(np.asarray([1, 4, 6]), 2, 0),
]
TASKS = torch.tensor([0, 1, 0])


def make(index, **settings):
    torch.manual_seed(0)
    model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=64
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return TaskObjective(
        model.eval(),
        CodeHead(model, vocabulary),
        Prompts.build("instruction", 10, tokenizer),
        torch.from_numpy(item_token_table(vocabulary, index)),
        0,
        tally=Tally(("one", "two")),
        **settings,
    )


def by_hand(objective):
    """Mean loss of an answer's tokens, from logits of the prefix before each."""
    found = []
    for example in EXAMPLES:
        tokens = torch.from_numpy(example.tokens)
        losses = []
        for place in range(example.answer, len(tokens)):
            with torch.no_grad():
                logits = objective.model(input_ids=tokens[None, :place]).logits[0, -1]
            losses.append(-float(torch.log_softmax(logits, 0)[tokens[place]]))
        found.append(np.mean(losses))
    return found


def test_only_tokens_of_the_answer_count_and_every_sequence_alike(small_index):
    objective = make(small_index)
    want = by_hand(objective)
    batch = padded(EXAMPLES, 0)
    losses = objective.sequence_losses(batch["tokens"], batch["answers"])
    assert losses.tolist() == pytest.approx(want, rel=1e-4)
    wider = padded(EXAMPLES, 0, rows=6, width=16)
    wider["task"] = torch.cat([TASKS, torch.full((3,), -1)])
    assert float(objective.batch_losses(wider)["tasks"].detach()) == pytest.approx(
        np.mean(want), rel=1e-4
    )


def test_the_prompt_gets_no_gradient_of_its_own(small_index):
    """What is predicted inside a prompt is no part of the loss."""
    objective = make(small_index)
    tokens = torch.from_numpy(EXAMPLES[0].tokens)[None]
    answers = torch.tensor([[False, False, False, True, True]])
    logits = {}

    def keep(_module, _inputs, output):
        output.retain_grad()
        logits["hidden"] = output

    handle = objective.model.model.norm.register_forward_hook(keep)
    objective.sequence_losses(tokens, answers).sum().backward()
    handle.remove()
    moved = logits["hidden"].grad[0].abs().sum(1) > 0
    assert moved.tolist() == [False, False, True, True, False]


def test_losses_of_tasks_are_told_apart(small_index):
    objective = make(small_index)
    want = by_hand(objective)
    batch = {**padded(EXAMPLES, 0), "task": TASKS}
    objective.batch_losses(batch)
    objective.batch_losses(batch)
    assert objective.tally.drain() == {
        "one": pytest.approx((want[0] + want[2]) / 2, rel=1e-4),
        "two": pytest.approx(want[1], rel=1e-4),
    }
    assert objective.tally.drain() == {}


def test_logits_in_parts_give_the_same_loss_and_gradient(small_index, monkeypatch):
    batch = {**padded(EXAMPLES, 0), "task": TASKS}
    gradients = []
    for limit in (2**26, 40):
        objective = make(small_index)
        monkeypatch.setattr(module, "LOGITS_AT_ONCE", limit)
        objective.batch_losses(batch)["tasks"].backward()
        gradients.append([parameter.grad for parameter in objective.model.parameters()])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts)


def test_next_item_is_the_loss_of_instructions(small_index):
    """The same histories, prompts and answers; a token's mean in place of an item's sum."""
    tasks = make(small_index)
    shared = {name: getattr(tasks, name) for name in Objective.__dataclass_fields__}
    old = Objective(**shared)
    items = torch.tensor([[3, 7, 1, 23], [5, 2, IGNORED, IGNORED]])
    table = tasks.item_tokens.numpy()
    examples = []
    for row in ([3, 7, 1, 23], [5, 2]):
        [prompt] = tasks.prompts.encode([np.asarray(row[:-1])], table)
        examples.append(Encoded(np.concatenate([prompt, table[row[-1]]]), len(prompt), 0))
    batch = {**padded(examples, 0), "task": torch.zeros(2, dtype=torch.int64)}
    new = float(tasks.batch_losses(batch)["tasks"].detach()) * small_index.levels
    assert new == pytest.approx(float(total_loss(old, items).detach()), rel=1e-5)
