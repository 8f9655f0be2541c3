"""The question of A-LLMRec's paper: which of some titles does this customer choose next?

Each watched and each candidate title is followed by the item's soft token, and the user's soft
token comes first (Kim et al., KDD 2024, figure 3). The answer is the title of the item, in words.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from genrec.data.catalog import Catalog
from genrec.errors import ConfigError
from genrec.model.bridge import Bridge
from genrec.model.plain_words import PlainWords
from genrec.model.prompts import start_token


@dataclass(frozen=True)
class QuestionTexts:
    """The words of the question, kept in the model folder.

    Attributes:
        before_user: Before the user's soft token; left out with it.
        before_history: Before the titles of the history.
        before_candidates: Before the titles to choose from.
        after: Before the answer.
        between: Between two titles.
    """

    before_user: str
    before_history: str
    before_candidates: str
    after: str
    between: str


@dataclass(frozen=True)
class CandidateQuestion:
    """Turns a history and candidates into token ids.

    Attributes:
        bridge: The soft tokens.
        texts: The words.
        parts: Token ids of each of the words.
        titles: Token ids of the title of every catalogue row.
        start: Token id that a sequence starts with.
        end: Token id that ends an answer.
        max_history: Newest items that are read.
    """

    bridge: Bridge
    texts: QuestionTexts
    parts: dict[str, NDArray[np.int64]]
    titles: list[NDArray[np.int64]]
    start: int
    end: int
    max_history: int

    @classmethod
    def build(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        catalog: Catalog,
        bridge: Bridge,
        texts: QuestionTexts,
        *,
        max_history: int = 10,
        title_tokens: int = 24,
    ) -> "CandidateQuestion":
        """Write the question for a tokenizer.

        Args:
            tokenizer: Of the language model.
            catalog: The items.
            bridge: The soft tokens.
            texts: The words.
            max_history: Newest items that are read.
            title_tokens: Longer titles are cut.

        Raises:
            ConfigError: When the tokenizer knows no words, or no token that ends a text.
        """
        end = tokenizer.eos_token_id
        if end is None:
            raise ConfigError(
                "the question about titles needs a language model that knows words and a token "
                "that ends a text; set train.language_model, or train.bridge.candidates: 0."
            )
        plain = PlainWords.of(tokenizer)
        titles = [plain(title) for title in catalog.titles]
        encoded = tokenizer(titles, add_special_tokens=False)["input_ids"]
        return cls(
            bridge,
            texts,
            {
                name: np.asarray(tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)
                for name, text in asdict(texts).items()
            },
            [np.asarray(title[:title_tokens], dtype=np.int64) for title in encoded],
            start_token(tokenizer),
            int(end),
            max_history,
        )

    def within(self, context: int | None, candidates: int) -> "CandidateQuestion":
        """Return the question with as many items of a history as a language model can read.

        Args:
            context: Tokens that the model reads; None for no end.
            candidates: Most candidates of a question.

        Raises:
            ConfigError: When not even one item fits beside the candidates.
        """
        fitting = self.fitting(context, candidates)
        if fitting < 1:
            raise ConfigError(
                f"the question about {candidates} candidates can take "
                f"{self._fixed(candidates) + self._item} tokens, and the language model reads "
                f"{context}; lower train.bridge.candidate_items, or choose another model."
            )
        return self if fitting == self.max_history else replace(self, max_history=fitting)

    def fitting(self, context: int | None, candidates: int) -> int:
        """Return how many items of a history fit beside the candidates, were all titles long.

        Args:
            context: Tokens that the model reads; None for no end.
            candidates: Most candidates of a question.
        """
        if context is None:
            return self.max_history
        return min(self.max_history, (context - self._fixed(candidates)) // self._item)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.titles), default=0)

    @property
    def _item(self) -> int:
        """Tokens of the longest title, with its soft token and what stands between two."""
        return self._longest + int(self.bridge.has_items) + len(self.parts["between"])

    def _fixed(self, candidates: int) -> int:
        """Tokens of everything but the history."""
        words = sum(len(part) for name, part in self.parts.items() if name != "between")
        asked = 2 + int(self.bridge.has_users) + words + candidates * self._item
        return asked + self._longest + 1

    def prompts(
        self, histories: Sequence[NDArray[np.int32]], candidates: Sequence[NDArray[np.int32]]
    ) -> list[NDArray[np.int64]]:
        """Return the question of each history as token ids.

        Args:
            histories: Catalogue rows, oldest first.
            candidates: Catalogue rows to choose from, in the order they are shown.
        """
        read = [np.asarray(history)[-self.max_history :] for history in histories]
        users: list[NDArray[np.int64] | None] = [None] * len(read)
        if self.bridge.has_users:
            states = np.concatenate(self.bridge.user_states(read, on_the_way=False))
            users = list(self.bridge.soft.register("users", states)[:, None])
        return [self._prompt(*each) for each in zip(users, read, candidates, strict=True)]

    def _prompt(
        self,
        user: NDArray[np.int64] | None,
        history: NDArray[np.int32],
        candidates: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        parts = [np.asarray([self.start], dtype=np.int64)]
        if user is not None:
            parts += [self.parts["before_user"], user]
        parts += [self.parts["before_history"], *self._listed(history)]
        parts += [self.parts["before_candidates"], *self._listed(candidates), self.parts["after"]]
        return np.concatenate(parts)

    def _listed(self, rows: NDArray[np.int32]) -> list[NDArray[np.int64]]:
        """Return titles with their soft tokens, and what stands between two."""
        listed: list[NDArray[np.int64]] = []
        for place, row in enumerate(rows.tolist()):
            listed += [self.parts["between"]] if place else []
            listed.append(self.titles[row])
            if self.bridge.has_items:
                listed.append(self.bridge.soft.ids("items", np.asarray([row])))
        return listed

    def answer(self, row: int) -> NDArray[np.int64]:
        """Return the title of an item and the end, token ids."""
        return np.append(self.titles[row], self.end)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {
            "texts": asdict(self.texts),
            "max_history": self.max_history,
            "title_tokens": self._longest,
        }
