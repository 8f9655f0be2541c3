"""The model's word on groups against one whole pass for each item, with its gradients."""

import numpy as np
import pytest
import torch

from genrec.config_train import TrainConfig
from genrec.model.code_head import CodeHead
from genrec.model.decoder_start import decoder_start_token
from genrec.runtime import Runtime
from genrec.training.learner import prepare
from genrec.training.policy import Policy
from tests.training.world import SCRATCH, tiny_language_model

HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([3, 4, 5, 6], [9], [20, 2])]
ITEMS = np.asarray([[7, 1, 15, 23], [10, 11, 8, 0], [3, 22, 21, 2]])
RUNTIME = Runtime(device="cpu", threads=1, quiet=True, dtype="float32")


@pytest.fixture(params=["stream", "encoder-decoder", "lora", "instruction"])
def learner(request, cycle_dataset, small_index, tmp_path):
    """A model whose trained weights are all away from where they start."""
    settings = {"scratch": SCRATCH, "max_history": 8}
    if request.param == "encoder-decoder":
        settings["scratch"] = SCRATCH | {"architecture": "encoder_decoder"}
    if request.param in ("lora", "instruction"):
        settings["language_model"] = str(tiny_language_model(tmp_path / "lm", small_index))
    if request.param == "instruction":
        settings["form"] = "instruction"
    made = prepare(TrainConfig(**settings), cycle_dataset, small_index, RUNTIME, {})
    torch.manual_seed(1)
    for parameter in made.trained.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    made.trained.eval()
    return made


def one_by_one(model):
    """Return the same by a whole pass over prompt and item, float32[B, G, L]."""
    vocabulary, network = model.vocabulary, model.language_model
    tokens = torch.from_numpy(np.asarray(vocabulary.tokens(model.index.codes)))
    prompts = model.prompts.encode(HISTORIES, tokens.numpy())
    rows = []
    for prompt, items in zip(prompts, ITEMS, strict=True):
        for item in items:
            answer, read = tokens[item], torch.from_numpy(prompt)
            if model.is_encoder_decoder:
                start = torch.tensor([decoder_start_token(network)])
                whole = torch.cat([start, answer[:-1]]).unsqueeze(0)
                logits = network(input_ids=read[None], decoder_input_ids=whole).logits[0]
            else:
                whole = torch.cat([read, answer[:-1]]).unsqueeze(0)
                logits = network(input_ids=whole).logits[0, len(read) - 1 :]
            steps = []
            for level, token in enumerate(answer):
                among = vocabulary.level_range(level)
                if model.facts["score"] == "exact":
                    among = range(logits.shape[-1])
                own = torch.log_softmax(logits[level, among.start : among.stop], -1)
                steps.append(own[token - among.start])
            rows.append(torch.stack(steps))
    return torch.stack(rows).view(*ITEMS.shape, -1)


def test_groups_are_scored_as_one_by_one(learner):
    policy = Policy(learner.model, CodeHead(learner.model.language_model, learner.model.vocabulary))
    trained = [each for each in learner.trained.parameters() if each.requires_grad]
    weights = torch.randn(*ITEMS.shape, 2, generator=torch.Generator().manual_seed(2))
    found, want = policy.log_probabilities(HISTORIES, ITEMS), one_by_one(learner.model)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad((scores * weights).sum(), trained, allow_unused=True)
        for scores in (found, want)
    ]
    assert any(part is not None and part.abs().max() > 0 for part in gradients[0])
    for left, right in zip(*gradients, strict=True):
        zero = torch.zeros(1)
        torch.testing.assert_close(
            zero if left is None else left,
            zero if right is None else right,
            rtol=1e-3,
            atol=1e-4,
        ) if (left is None) == (right is None) else pytest.fail("one has no gradient")
