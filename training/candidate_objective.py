"""A-LLMRec's question as a loss: the title of the next item, given it among random ones."""

import logging
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec.config_train import TrainConfig
from genrec.data.histories import Histories
from genrec.decoding.candidate_chooser import CandidateChooser
from genrec.errors import ConfigError
from genrec.evaluation.candidate_test import draw_candidates, hit_at_1
from genrec.model.candidate_question import CandidateQuestion, QuestionTexts
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import context_length
from genrec.model.output_layer import full_logits
from genrec.training.batches import IGNORED
from genrec.training.context import dropped_items
from genrec.training.objectives import Objective

HIT = "hit@1_of_candidates"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CandidateObjective:
    """Adds the loss of the question to that of another objective.

    Attributes:
        objective: What is learned besides.
        question: How the question is written.
        weight: Share of the question in the loss; 1 leaves out the other objective.
        candidates: Titles to choose from.
        known: int64[m], items with training events: the others would be told apart by never
            being right.
        batch_tokens: Questions of a batch are asked as long as they have no more tokens together;
            at least one is.
        seed: Seed of the candidates, which are a function of it and of the batch.
    """

    objective: Objective
    question: CandidateQuestion
    weight: float
    candidates: int
    known: NDArray[np.int64]
    batch_tokens: int
    seed: int

    @property
    def item_tokens(self) -> Tensor:
        """Code tokens of every catalogue row, int64[n_items, L]."""
        return self.objective.item_tokens

    @property
    def model(self) -> nn.Module:
        """The language model."""
        return self.objective.model

    @property
    def beside(self) -> dict[str, nn.Module]:
        """What is trained beside the language model, by name."""
        return self.objective.beside

    def batch_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of the loss of one batch of a plan by name, weighted."""
        return self.losses(batch["items"])

    def losses(self, items: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss of a batch by name, weighted; see ``Objective``.

        Args:
            items: int64[B, width], catalogue rows, right-padded with -100.
        """
        asked = {"question": self.weight * self.question_loss(items)}
        if self.weight == 1:
            return asked
        rest = 1 - self.weight
        others = self.objective.losses(items)
        return {name: rest * value for name, value in others.items()} | asked

    def question_loss(self, items: Tensor) -> Tensor:
        """Return the mean cross-entropy of the tokens of an answer, over the full vocabulary."""
        tokens, targets = self.examples(items.cpu().numpy())
        model: Any = self.objective.model
        hidden = model.base_model(
            input_ids=torch.from_numpy(tokens).to(items.device), use_cache=False
        ).last_hidden_state
        answers = torch.from_numpy(targets).to(items.device)
        wanted = answers != IGNORED
        return nn.functional.cross_entropy(full_logits(model, hidden[wanted]), answers[wanted])

    def examples(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what is read and what has to follow each place, int64[R, T] both.

        Padding stands on the right, where a causal model cannot see it; -100 where nothing has to
        follow.
        """
        generator = np.random.default_rng([self.seed, zlib.crc32(items.tobytes())])
        rows = [row[row != IGNORED].astype(np.int32) for row in items]
        rows = [row for row in rows if len(row)]
        choices = [self._choices(row, generator) for row in rows]
        prompts = self.question.prompts([row[:-1] for row in rows], choices)
        answers = [self.question.answer(int(row[-1])) for row in rows]
        lengths = [
            len(prompt) + len(answer) - 1 for prompt, answer in zip(prompts, answers, strict=True)
        ]
        widest = np.maximum.accumulate(lengths)
        fits = widest * np.arange(1, len(rows) + 1) <= self.batch_tokens
        count = max(1, int(fits.sum()))
        tokens = np.full((count, widest[count - 1]), self.objective.pad_token, dtype=np.int64)
        targets = np.full_like(tokens, IGNORED)
        for place in range(count):
            start, end = len(prompts[place]) - 1, lengths[place]
            tokens[place, : start + 1] = prompts[place]
            tokens[place, start + 1 : end] = answers[place][:-1]
            targets[place, start:end] = answers[place]
        return tokens, targets

    def _choices(self, row: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
        """Return the last item among random ones that the row does not hold, in random order."""
        others = np.setdiff1d(self.known, row)
        some = generator.choice(others, min(self.candidates - 1, len(others)), replace=False)
        return generator.permutation(np.append(some, row[-1])).astype(np.int32)


def with_question(
    objective: Objective,
    model: GenerativeModel,
    config: TrainConfig,
    lengths: NDArray[np.integer],
    seed: int,
) -> Objective | CandidateObjective:
    """Return the objective, with the question beside it where a recipe asks it.

    The words of the question are noted in the model's facts, so that its folder can be asked.

    Args:
        objective: What is learned besides.
        model: The model that is trained.
        config: The recipe of the stage.
        lengths: int64[n], training items of each user.
        seed: Seed of the candidates.

    Raises:
        ConfigError: When the model has no soft tokens that stand alone, or knows no words.
    """
    section = config.bridge
    if section.candidates == 0:
        return objective
    if model.bridge is None or config.form != "instruction" or config.language_model is None:
        raise ConfigError(
            f"train.bridge.candidates is {section.candidates}, but the question needs "
            "train.language_model, train.form: instruction and train.bridge.items or user; set "
            "these, or train.bridge.candidates: 0."
        )
    texts = QuestionTexts(**config.question.model_dump())
    wished = CandidateQuestion.build(model.tokenizer, model.catalog, model.bridge, texts)
    context = context_length(model.language_model)
    question = wished.within(context, section.candidate_items)
    users, items = dropped_items(lengths, question.max_history, wished.max_history)
    if question.max_history < wished.max_history:
        logger.warning(
            "the question about %d candidates shows the newest %d items of a history in place of "
            "%d, for the language model reads %d tokens: %d users are cut, and their %d oldest "
            "items are dropped.",
            section.candidate_items,
            question.max_history,
            wished.max_history,
            context,
            users,
            items,
        )
    unnamed = model.catalog.title_words.count("")
    if unnamed:
        logger.warning(
            "%d of %d items have no title: the question names them by their ids.",
            unnamed,
            len(model.catalog),
        )
    model.facts["question"] = {
        **question.to_dict(),
        "candidates": section.candidate_items,
        "users_cut": users,
        "items_dropped": items,
    }
    return CandidateObjective(
        objective,
        question,
        section.candidates,
        section.candidate_items,
        np.flatnonzero(model.item_counts),
        config.batch_tokens,
        seed,
    )


def question_figures(model: GenerativeModel, examples: Histories, seed: int) -> dict[str, float]:
    """Return ``hit@1_of_candidates``, the share of users whose next item is chosen.

    Nothing is returned for a model that is not trained on the question.
    """
    asked = model.facts.get("question")
    if asked is None:
        return {}
    candidates = draw_candidates(examples, len(model.catalog), seed, int(asked["candidates"]))
    return {HIT: hit_at_1(CandidateChooser(model).rank, examples, candidates)}
