"""From what an example of a task holds to token ids: the same for training and serving."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from genrec.errors import ConfigError
from genrec.model.plain_words import PlainWords
from genrec.model.prompts import start_token
from genrec.model.templates import STREAM, Fields, Template, Templates, Value, fill

_TEXTS_REMEMBERED = 2**16


@dataclass(frozen=True)
class Encoded:
    """One example as the model reads it.

    Attributes:
        tokens: int64[T], the start token, the prompt and the answer.
        answer: Where the answer begins, ``1 <= answer < T``.
        dropped: Oldest entries of its lists that were left out, so that it fits.
    """

    tokens: NDArray[np.int64]
    answer: int
    dropped: int


class TaskPrompts:
    """Writes examples of tasks as token ids.

    Args:
        templates: The words.
        tokenizer: Of the language model; it knows the codes.
        item_tokens: int64[n_items, L], the code tokens of every catalogue row.
        max_tokens: Most tokens the model reads, answer included; None where there is no limit.

    Raises:
        ConfigError: When the tokenizer has no token to start, or to end, a text with.
    """

    def __init__(
        self,
        templates: Templates,
        tokenizer: PreTrainedTokenizerBase,
        item_tokens: NDArray[np.int64],
        max_tokens: int | None = None,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no eos token to end texts with; choose another language model, "
                "or train without train.tasks."
            )
        self.templates = templates
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._item_tokens = item_tokens
        self._start, self._end = start_token(tokenizer), int(tokenizer.eos_token_id)
        self._of = {name: templates.of(name) for name in (*templates.tasks, STREAM)}
        self._plain_text = PlainWords.of(tokenizer)
        self._words = lru_cache(_TEXTS_REMEMBERED)(self._read)

    def usable(self, task: str, fields: Fields, *, answered: bool = True) -> list[Template]:
        """Return the templates of a task that these fields can fill, in the order of the file.

        Args:
            task: Its name.
            fields: Empty texts and lists count as absent.
            answered: Whether the answer has to be among the fields.
        """
        known = {name for name, value in fields.items() if isinstance(value, int) or len(value)}
        return [
            template
            for template in self._of[task]
            if template.asked <= known and (not answered or template.answered <= known)
        ]

    def example(
        self, task: str, fields: Fields, generator: np.random.Generator | None = None
    ) -> Encoded | None:
        """Write an example with its answer.

        Texts of an answer end with the end token; codes do not, for a search ends after them.

        Args:
            task: Its name.
            fields: What the placeholders stand for.
            generator: Draws the template; None takes the first that can be filled.

        Returns:
            None when no template can be filled, or the example is too long for the model even
            without its lists.
        """
        usable = self.usable(task, fields)
        if not usable:
            return None
        number = 0 if generator is None else int(generator.integers(len(usable)))
        template = usable[number]
        plain = self._plain(fields)
        answer = self._tokens(template.answer, plain)
        if isinstance(fill(template.answer, plain, {})[-1], str):
            answer.append(self._end)
        # The answer of a stream is a list, so it is shortened as well.
        return self._fitted(template, plain, answer)

    def _fitted(
        self, template: Template, fields: dict[str, Value], answer: list[int]
    ) -> Encoded | None:
        """Leave out the oldest entries of the lists of an example until it fits."""
        shrinking = [name for name, value in fields.items() if not isinstance(value, str | int)]
        dropped = 0
        while True:
            prompt = [self._start, *self._tokens(template.prompt, fields)]
            if self.max_tokens is None or len(prompt) + len(answer) <= self.max_tokens:
                tokens = np.asarray(prompt + answer, dtype=np.int64)
                return Encoded(tokens, len(prompt), dropped)
            if not any(fields[name] for name in shrinking):
                return None
            for name in shrinking:
                entries: Any = fields[name]
                fields[name] = entries[1:]
            dropped += 1
            if template.answered & set(shrinking):
                answer = self._tokens(template.answer, fields)
                if not answer:
                    return None

    def prompt(self, task: str, fields: Fields, *, room: int) -> NDArray[np.int64] | None:
        """Write a prompt to be answered, with the first template that the fields can fill.

        Args:
            task: Its name.
            fields: What the placeholders of the prompt stand for.
            room: Tokens kept free for the answer.

        Returns:
            int64[T], or None when no template can be filled or the prompt is too long.
        """
        usable = self.usable(task, fields, answered=False)
        if not usable:
            return None
        asked = Template(usable[0].prompt, "")
        found = self._fitted(asked, self._plain(fields), [0] * room)
        return None if found is None else found.tokens[: found.answer]

    def _plain(self, fields: Fields) -> dict[str, Value]:
        """Return the fields with texts that hold words only: no codes and no special tokens."""
        plain: dict[str, Value] = {}
        for name, value in fields.items():
            if isinstance(value, str):
                plain[name] = self._plain_text(value)
            elif isinstance(value, int):
                plain[name] = value
            else:
                entries: list[Any] = [
                    self._plain_text(entry) if isinstance(entry, str) else int(entry)
                    for entry in value
                ]
                plain[name] = entries
        return plain

    def _tokens(self, text: str, fields: Fields) -> list[int]:
        tokens: list[int] = []
        for piece in fill(text, fields, self.templates.separators):
            if isinstance(piece, int):
                tokens.extend(self._item_tokens[piece].tolist())
            else:
                tokens.extend(self._words(piece))
        return tokens

    def _read(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))
