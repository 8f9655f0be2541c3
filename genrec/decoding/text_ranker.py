"""Items for a request in words: a wish, or titles of items that the catalogue need not have."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import RowRules
from genrec.errors import RequestError
from genrec.model.language_model import context_length, item_token_table
from genrec.model.task_prompts import TaskPrompts
from genrec.model.templates import Fields


class TextRanker:
    """Ranks items for requests in words, by the tasks ``search`` and ``titles_to_item``.

    Only items of the catalogue are returned, as with histories: the search is the same.

    Args:
        ranker: Of a model that was tuned on these tasks.

    Raises:
        RequestError: When the model was not tuned on tasks.

    Example:
        >>> TextRanker(ranker).search(["a light tent"], k=5)  # doctest: +SKIP
    """

    def __init__(self, ranker: GenerativeRanker) -> None:
        model = ranker.model
        templates = model.prompts.templates
        if templates is None:
            raise RequestError(
                "the model was tuned on histories of codes only, so it answers no words; train it "
                "with train.tasks that name search or titles_to_item."
            )
        self._ranker = ranker
        self._max_history = model.prompts.max_history
        self._levels = model.index.levels
        self._tasks = tuple(templates.tasks)
        self._prompts = TaskPrompts(
            templates,
            model.tokenizer,
            item_token_table(model.vocabulary, model.index),
            context_length(model.language_model),
        )

    def search(
        self,
        texts: Sequence[str],
        k: int = 10,
        *,
        histories: Sequence[NDArray[np.int32]] | None = None,
        rules: Sequence[RowRules] | None = None,
    ) -> list[Ranking]:
        """Rank items that fit a wish in words.

        Args:
            texts: What each customer looks for.
            k: Number of items wanted.
            histories: Catalogue rows of what each chose before, oldest first; may be empty.
            rules: What the lists may hold, one a request.

        Raises:
            RequestError: When a text is empty or too long, k is below 1, or the model was not
                tuned on ``search``.
        """
        if histories is not None and len(histories) != len(texts):
            raise RequestError(
                f"{len(texts)} texts and {len(histories)} histories were given; give one history "
                "a text, empty where there is none, or no histories at all."
            )
        read = [[]] * len(texts) if histories is None else [self._newest(h) for h in histories]
        fields: list[Fields] = [
            {"intention": text.strip(), "history": history}
            for text, history in zip(texts, read, strict=True)
        ]
        return self._rank("search", fields, k, rules)

    def after_titles(
        self,
        titles: Sequence[Sequence[str]],
        k: int = 10,
        *,
        rules: Sequence[RowRules] | None = None,
    ) -> list[Ranking]:
        """Rank items that may come after others of which only the titles are known.

        Args:
            titles: What each customer chose, oldest first.
            k: Number of items wanted.
            rules: What the lists may hold, one a request.

        Raises:
            RequestError: When there are no titles or k is below 1, or the model was not tuned on
                ``titles_to_item``.
        """
        fields: list[Fields] = [
            {"titles": [title.strip() for title in each[-self._max_history :] if title.strip()]}
            for each in titles
        ]
        return self._rank("titles_to_item", fields, k, rules)

    def _newest(self, history: NDArray[np.int32]) -> list[int]:
        return [int(row) for row in history[-self._max_history :]]

    def _rank(
        self, task: str, requests: Sequence[Fields], k: int, rules: Sequence[RowRules] | None
    ) -> list[Ranking]:
        if task not in self._tasks:
            raise RequestError(
                f"the model was not tuned on {task}, only on {', '.join(self._tasks)}; train it "
                f"with train.tasks that name {task}."
            )
        prompts = []
        for number, fields in enumerate(requests):
            prompt = self._prompts.prompt(task, fields, room=self._levels)
            if prompt is None:
                raise RequestError(
                    f"request {number} cannot be put to the model: its text is empty or longer "
                    f"than the {self._prompts.max_tokens} tokens that the model reads."
                )
            prompts.append(prompt)
        return self._ranker.rank_prompts(prompts, k, rules=rules)
