"""The losses against the language model's own full forward pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec.model.code_head import CodeHead
from genrec.model.language_model import (
    encoder_decoder_from_scratch,
    from_scratch,
    item_token_table,
)
from genrec.model.prompts import Prompts
from genrec.training.batches import IGNORED
from genrec.training.distillation import Distillation, InModalityDistillation
from genrec.training.encoder_decoder_objective import EncoderDecoderObjective
from genrec.training.objectives import Objective
from tests.training.world import total_loss


def make(index, form, smoothing=0.0):
    torch.manual_seed(0)
    model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=64
    )
    model.eval()
    table = torch.from_numpy(item_token_table(vocabulary, index))
    prompts = Prompts.build(form, 10, tokenizer)
    return Objective(model, CodeHead(model, vocabulary), prompts, table, 0, smoothing)


def make_encoder_decoder(index, **settings):
    torch.manual_seed(0)
    model, tokenizer, vocabulary = encoder_decoder_from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, dropout=0.1
    )
    return EncoderDecoderObjective(
        model.eval(),
        CodeHead(model, vocabulary),
        Prompts.build("stream", 10, tokenizer, encoder=True),
        torch.from_numpy(item_token_table(vocabulary, index)),
        0,
        **settings,
    )


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
    assert float(total_loss(objective, ITEMS).detach()) == pytest.approx(want, rel=1e-4)


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
    assert float(total_loss(objective, ITEMS).detach()) == pytest.approx(want, rel=1e-4)


def log_chances(objective):
    """For each sequence and level, log-probabilities of all its codes and the true one.

    One sequence at a time, with the library's own shift of the labels by the start token.
    """
    vocabulary, found = objective.head.vocabulary, []
    for row in ITEMS.tolist():
        *history, answer = [objective.item_tokens[item].tolist() for item in row if item >= 0]
        prompt = torch.tensor([[*sum(history, []), 1]])
        with torch.no_grad():
            logits = objective.model(input_ids=prompt, labels=torch.tensor([answer])).logits[0]
        for level, token in enumerate(answer):
            codes = vocabulary.level_range(level)
            chances = logits[level, codes.start : codes.stop].log_softmax(0)
            found.append((level, chances, token - codes.start))
    return found


def distilling(objective, index):
    torch.manual_seed(1)
    projection = InModalityDistillation(16, 3)
    distillation = Distillation(projection, torch.randn(len(index), 3), 0.25)
    return replace(objective, distillation=distillation), distillation


def test_distillation_reads_the_state_after_the_last_code_of_every_item(small_index):
    plain = make(small_index, "stream")
    objective, distillation = distilling(plain, small_index)
    states, rows = [], []
    for items in ITEMS.tolist():
        for place, item in enumerate(items):
            if item == IGNORED:
                continue
            read = [
                token for row in items[: place + 1] for token in plain.item_tokens[row].tolist()
            ]
            tokens = torch.tensor([[plain.prompts.before[0], *read]])
            states.append(plain.model.base_model(input_ids=tokens).last_hidden_state[0, -1])
            rows.append(item)
    want = 0.25 * distillation.projection(
        torch.stack(states), torch.tensor(rows), distillation.vectors
    )
    losses = objective.losses(ITEMS)
    torch.testing.assert_close(losses["distillation"], want)
    torch.testing.assert_close(losses["codes"], total_loss(plain, ITEMS))
    torch.testing.assert_close(total_loss(objective, ITEMS), losses["codes"] + want)


def test_an_encoder_decoder_distils_the_answer(small_index):
    plain = make_encoder_decoder(small_index)
    objective, distillation = distilling(plain, small_index)
    states, rows = [], []
    for row in ITEMS.tolist():
        *history, answer = [item for item in row if item != IGNORED]
        read = [token for item in history for token in plain.item_tokens[item].tolist()]
        output = plain.model(
            input_ids=torch.tensor([[*read, 1]]),
            decoder_input_ids=torch.tensor([[0, *plain.item_tokens[answer].tolist()]]),
            output_hidden_states=True,
        )
        states.append(output.decoder_hidden_states[-1][0, -1])
        rows.append(answer)
    want = 0.25 * distillation.projection(
        torch.stack(states), torch.tensor(rows), distillation.vectors
    )
    losses = objective.losses(ITEMS)
    torch.testing.assert_close(losses["distillation"], want)
    torch.testing.assert_close(losses["codes"], total_loss(plain, ITEMS))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_encoder_decoder_loss_equals_one_pass_a_sequence(small_index, smoothing):
    objective = make_encoder_decoder(small_index, label_smoothing=smoothing)
    want = -sum(
        float((1 - smoothing) * chances[code] + smoothing * chances.mean())
        for _, chances, code in log_chances(objective)
    ) / len(ITEMS)
    more = torch.cat([ITEMS, torch.full((2, 4), IGNORED)])
    wider = torch.cat([more, torch.full((5, 3), IGNORED)], dim=1)
    for items in (ITEMS, more, wider):
        assert float(total_loss(objective, items).detach()) == pytest.approx(want, rel=1e-5)


def test_an_encoder_decoder_takes_the_targets_of_the_last_items(small_index):
    """A teacher speaks about every item; the loss reads what it says of the last ones."""
    soft = [torch.rand(7, size).softmax(1) for size in small_index.level_sizes]

    class Teacher:
        def targets(self, items):
            assert items.tolist() == ITEMS.tolist()
            return soft

    objective = make_encoder_decoder(small_index, teacher=Teacher(), teacher_weight=1.0)
    own = iter([3, 3, 5, 5, 6, 6])
    want = -sum(
        float((soft[level][next(own)] * chances).sum())
        for level, chances, _ in log_chances(objective)
    ) / len(ITEMS)
    more = torch.cat([ITEMS, torch.full((2, 4), IGNORED)])
    assert float(total_loss(objective, more).detach()) == pytest.approx(want, rel=1e-5)


def test_encoder_decoder_last_item_scores(small_index):
    objective = make_encoder_decoder(small_index)
    losses, hits = objective.last_item_scores(ITEMS)
    found = log_chances(objective)
    want = torch.tensor([-float(chances[code]) for _, chances, code in found])
    torch.testing.assert_close(losses.flatten(), want)
    assert hits.flatten().tolist() == [int(chances.argmax()) == code for _, chances, code in found]


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
    assert float(total_loss(objective, more).detach()) == pytest.approx(
        float(total_loss(objective, ITEMS).detach()), rel=1e-5
    )
