"""Choosing among candidates by how likely a language model finds their titles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.data.ranking import Ranking
from genrec.errors import RequestError
from genrec.model.candidate_question import CandidateQuestion, QuestionTexts
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import context_length
from genrec.model.output_layer import full_logits


class CandidateChooser:
    """Ranks a few given items for each history, as A-LLMRec's paper tests it.

    A candidate's score is the log-probability of its whole title and the end after it. The paper
    lets the model write and looks for the title in what it wrote; here nothing but a candidate can
    be the answer, and a title that is part of another one is no accident.

    Args:
        model: A model that was trained on the question (``train.bridge.candidates``).

    Raises:
        RequestError: When it was not.
    """

    def __init__(self, model: GenerativeModel) -> None:
        asked, bridge = model.facts.get("question"), model.bridge
        if asked is None or bridge is None:
            raise RequestError(
                "the model was not trained to choose among titles; train it with "
                "train.bridge.candidates above 0."
            )
        self._model: Any = model.language_model
        self._context = context_length(model.language_model)
        self.question = CandidateQuestion.build(
            model.tokenizer,
            model.catalog,
            bridge,
            QuestionTexts(**asked["texts"]),
            max_history=int(asked["max_history"]),
            title_tokens=int(asked["title_tokens"]),
        )

    def rank(
        self, histories: Sequence[NDArray[np.int32]], candidates: Sequence[NDArray[np.int32]]
    ) -> list[Ranking]:
        """Rank the candidates of each history, best first; equals stay in the order given.

        Args:
            histories: Catalogue rows, oldest first.
            candidates: Catalogue rows, at least one a history.

        Raises:
            RequestError: When the language model cannot read so many candidates.
        """
        rankings = []
        for history, rows in zip(histories, candidates, strict=True):
            read = self.history_read(history, len(rows))
            [prompt] = self.question.prompts([history[len(history) - read :]], [rows])
            answers = [self.question.answer(row) for row in rows.tolist()]
            scores = title_scores(self._model, prompt, answers)
            order = np.argsort(-scores, kind="stable")
            rankings.append(Ranking(rows[order].astype(np.int32), scores[order]))
        return rankings

    def history_read(self, history: NDArray[np.int32], candidates: int) -> int:
        """Return how many of the newest items of a history are read beside so many candidates.

        Raises:
            RequestError: When there is no room for one.
        """
        fitting = self.question.fitting(self._context, candidates)
        if fitting < 1:
            raise RequestError(
                f"{candidates} candidates and a history are more than the {self._context} tokens "
                "that the language model reads; give fewer candidates."
            )
        return min(len(history), fitting)


@torch.inference_mode()
def title_scores(
    model: Any,  # noqa: ANN401 - a causal language model
    prompt: NDArray[np.int64],
    answers: Sequence[NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Return the log-probability of each answer after a prompt, float32[answers].

    All are read in one pass: each sees the prompt and itself, by a mask, at the places that it
    would have alone.

    Args:
        model: A causal language model, read in evaluation mode.
        prompt: int64[T].
        answers: Token ids, at least one each.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    # The last token of an answer is predicted and not read.
    read = [answer[:-1] for answer in answers]
    tokens = np.concatenate([prompt, *read])
    owner = np.repeat(np.arange(-1, len(read)), [len(prompt), *map(len, read)])
    place = np.concatenate(
        [np.arange(len(prompt)), *(len(prompt) + np.arange(len(r)) for r in read)]
    )
    mask = _mask(owner, model.dtype).to(device)
    hidden = model.base_model(
        input_ids=torch.from_numpy(tokens[None]).to(device),
        attention_mask=mask,
        position_ids=torch.from_numpy(place[None]).to(device),
        use_cache=False,
    ).last_hidden_state[0]
    model.train(training)
    starts = len(prompt) + np.cumsum([0, *map(len, read)])
    before = [
        np.append(len(prompt) - 1, np.arange(start, start + len(own)))
        for start, own in zip(starts, read, strict=False)
    ]
    logits = full_logits(model, hidden[torch.from_numpy(np.concatenate(before)).to(device)])
    wanted = torch.from_numpy(np.concatenate(answers)).to(device)
    own = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0].cpu().numpy()
    ends = np.cumsum([0, *map(len, answers)])[:-1]
    scores: NDArray[np.float32] = np.add.reduceat(own, ends)
    return scores


def _mask(owner: NDArray[np.int64], dtype: torch.dtype) -> Tensor:
    """Return what each place may look at, float[1, 1, T, T], to be added to attention scores.

    Args:
        owner: int64[T], -1 for the prompt and the number of the answer else.
    """
    seen = (owner[None] == -1) | (owner[None] == owner[:, None])
    visible = torch.from_numpy(np.tril(seen))
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[None, None]
