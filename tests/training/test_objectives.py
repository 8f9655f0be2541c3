"""The losses against the language model's own full forward pass."""

import numpy as np
import pytest
import torch

from genrec.model.code_head import CodeHead
from genrec.model.language_model import from_scratch, item_token_table
from genrec.model.prompts import Prompts
from genrec.training.batches import IGNORED
from genrec.training.objectives import Objective


def make(index, form, smoothing=0.0):
    torch.manual_seed(0)
    model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=64
    )
    model.eval()
    table = torch.from_numpy(item_token_table(vocabulary, index))
    prompts = Prompts.build(form, 10, tokenizer)
    return Objective(model, CodeHead(model, vocabulary), prompts, table, 0, smoothing)


ITEMS = torch.tensor([[3, 7, 1, 23], [5, 2, IGNORED, IGNORED], [9, IGNORED, IGNORED, IGNORED]])


def by_hand(objective, form, index):
    """Log-probability of every true code, one sequence and one position at a time."""
    levels = index.levels
    vocabulary = objective.head.vocabulary
    found = {}
    for row, items in enumerate(ITEMS.tolist()):
        items = [item for item in items if item != IGNORED]
        for place in range(len(items)):
            between = list(objective.prompts.between)
            history = []
            for item in items[:place]:
                history += [*objective.item_tokens[item].tolist(), *between]
            history = history[: len(history) - len(between)]
            prompt = [*objective.prompts.before, *history, *objective.prompts.after]
            for level in range(levels):
                answer = objective.item_tokens[items[place]].tolist()
                tokens = torch.tensor([[*prompt, *answer[:level]]])
                with torch.no_grad():
                    logits = objective.model(input_ids=tokens).logits[0, -1]
                if form == "stream":
                    codes = vocabulary.level_range(level)
                    scores = torch.log_softmax(logits[codes.start : codes.stop], 0)
                    found[row, place, level] = float(scores[answer[level] - codes.start])
                else:
                    found[row, place, level] = float(torch.log_softmax(logits, 0)[answer[level]])
    return found


def test_stream_loss_equals_position_by_position_arithmetic(small_index):
    objective = make(small_index, "stream")
    found = by_hand(objective, "stream", small_index)
    want = -sum(
        np.mean([value for (_, _, at), value in found.items() if at == level])
        for level in range(small_index.levels)
    )
    assert float(objective.loss(ITEMS).detach()) == pytest.approx(want, rel=1e-4)


def test_instruction_loss_equals_position_by_position_arithmetic(small_index):
    objective = make(small_index, "instruction")
    found = by_hand(objective, "instruction", small_index)
    last = {0: 3, 1: 1, 2: 0}
    want = -np.mean(
        [
            sum(found[row, place, level] for level in range(small_index.levels))
            for row, place in last.items()
        ]
    )
    assert float(objective.loss(ITEMS).detach()) == pytest.approx(want, rel=1e-4)


def test_last_item_scores(small_index):
    objective = make(small_index, "stream")
    found = by_hand(objective, "stream", small_index)
    losses, hits = objective.last_item_scores(ITEMS)
    for row, place in {0: 3, 1: 1, 2: 0}.items():
        for level in range(small_index.levels):
            assert float(losses[row, level]) == pytest.approx(-found[row, place, level], rel=1e-3)
    assert hits.shape == (3, 2)


def test_padding_does_not_change_the_loss(small_index):
    objective = make(small_index, "stream")
    wider = torch.cat([ITEMS, torch.full((3, 2), IGNORED)], dim=1)
    more = torch.cat([wider, torch.full((2, 6), IGNORED)])
    assert float(objective.loss(more).detach()) == pytest.approx(
        float(objective.loss(ITEMS).detach()), rel=1e-5
    )
