"""What the language model reads: the same for training and serving, kept in the model folder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from genrec.errors import ConfigError
from genrec.model.templates import Templates, fill

Form = Literal["stream", "instruction"]


@dataclass(frozen=True)
class PromptTexts:
    """The words around the item codes; empty for streams, which hold codes only.

    Attributes:
        before: Text before the history.
        between: Text between two items.
        after: Text after the history; the codes of the next item follow.
    """

    before: str = ""
    between: str = ""
    after: str = ""


INSTRUCTION = PromptTexts(
    before="A customer chose these items, oldest first: ",
    between=", ",
    after="\nThe item this customer chooses next: ",
)


@dataclass(frozen=True)
class Prompts:
    """Turns histories into token ids.

    Attributes:
        form: ``stream`` (start token, then the codes of every item) or ``instruction``.
        max_history: Newest items that are read.
        texts: The words, for the instruction form.
        before: Token ids before the first item.
        between: Token ids between two items.
        after: Token ids after the last item.
        templates: The words of all tasks the model was tuned on, where it was tuned on several.
    """

    form: Form
    max_history: int
    texts: PromptTexts
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    templates: Templates | None = None

    @classmethod
    def build(
        cls,
        form: Form,
        max_history: int,
        tokenizer: PreTrainedTokenizerBase,
        *,
        encoder: bool = False,
        templates: Templates | None = None,
    ) -> "Prompts":
        """Make the prompts of a form for a tokenizer.

        A prompt of a causal model starts with a token of its own and the codes of the next item
        follow it. An encoder reads a whole text: it starts and ends with the tokens for that,
        where the tokenizer has them.

        Args:
            form: ``stream`` or ``instruction``.
            max_history: Newest items that are read.
            tokenizer: Of the language model.
            encoder: Whether an encoder reads the prompts.
            templates: The words of the instruction form come from the first template of
                ``next_item``; None takes ``INSTRUCTION``.

        Raises:
            ConfigError: When the tokenizer has no token to start, or end, a sequence with.
        """
        texts = PromptTexts()
        if form == "instruction":
            texts = INSTRUCTION if templates is None else _texts_of(templates)
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        first = start_token(tokenizer)
        if encoder:
            start = () if bos is None else (int(bos),)
            end = () if eos is None else (int(eos),)
        else:
            start, end = (first,), ()

        def tokens(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()

        return cls(
            form,
            max_history,
            texts,
            (*start, *tokens(texts.before)),
            tokens(texts.between),
            (*tokens(texts.after), *end),
            templates,
        )

    def encode(
        self, histories: Sequence[NDArray[np.int32]], item_tokens: NDArray[np.int64]
    ) -> list[NDArray[np.int64]]:
        """Return the prompt of each history as token ids.

        Args:
            histories: Catalogue rows per user, oldest first; only the newest are read.
            item_tokens: int64[n_items, L], the code tokens of every catalogue row.
        """
        before, between, after = (
            np.asarray(part, dtype=np.int64) for part in (self.before, self.between, self.after)
        )
        block = np.concatenate(
            [item_tokens, np.broadcast_to(between, (len(item_tokens), len(between)))], axis=1
        )
        prompts = []
        for history in histories:
            newest = np.asarray(history)[-self.max_history :]
            body = block[newest].reshape(-1)
            if len(between) and len(newest):
                body = body[: -len(between)]
            prompts.append(np.concatenate([before, body, after]))
        return prompts

    def stream_tokens(self, items: Tensor, item_tokens: Tensor) -> Tensor:
        """Return what a causal model reads of streams: the start token and all codes but the last.

        Args:
            items: int64[B, width], catalogue rows, right-padded with negative numbers.
            item_tokens: int64[n_items, L], the code tokens of every catalogue row.

        Returns:
            int64[B, width * L]; what stands behind the last item of a row means nothing.
        """
        start = torch.full((len(items), 1), self.before[0], device=items.device)
        return torch.cat([start, item_tokens[items.clamp(min=0)].flatten(1)[:, :-1]], dim=1)

    def block(self, levels: int) -> int:
        """Return the tokens of an item of so many codes and what stands between two."""
        return levels + len(self.between)

    def width(self, items: int, levels: int) -> int:
        """Return the tokens of a prompt with so many items, and those between two once more."""
        return len(self.before) + items * self.block(levels) + len(self.after)

    def within(self, levels: int, most: int | None) -> "Prompts":
        """Return prompts that read fewer items, where the longest would be above ``most`` tokens.

        Args:
            levels: Codes of an item.
            most: What the language model can read; None for any number.

        Raises:
            ConfigError: When not even one item fits.
        """
        if most is None or self.longest(levels) <= most:
            return self
        items = (most - self.longest(levels)) // self.block(levels) + self.max_history
        if items < 1:
            raise ConfigError(
                f"the language model reads {most} tokens at most, and a prompt with one item and "
                f"its answer has {replace(self, max_history=1).longest(levels)}; choose another "
                "language model, or train.form: stream."
            )
        return replace(self, max_history=items)

    def longest(self, levels: int) -> int:
        """Return the tokens of the longest prompt and an answer of so many codes."""
        return self.width(self.max_history, levels) + levels

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        body = asdict(self)
        if self.templates is None:
            del body["templates"]
        return body

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "Prompts":
        """Read what ``to_dict`` gave."""
        return cls(
            body["form"],
            int(body["max_history"]),
            PromptTexts(**body["texts"]),
            tuple(body["before"]),
            tuple(body["between"]),
            tuple(body["after"]),
            Templates.from_dict(body["templates"]) if "templates" in body else None,
        )


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that sequences of a causal model start with.

    Raises:
        ConfigError: When the tokenizer has none that could be it.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is None and eos is None:
        raise ConfigError(
            "the tokenizer has neither a bos nor an eos token to start "
            "sequences with; choose another language model."
        )
    return int(eos if bos is None else bos)


def _texts_of(templates: Templates) -> PromptTexts:
    """Return the words around the history in the first template of ``next_item``."""
    pieces = fill(templates.of("next_item")[0].prompt, {"history": [0]}, {})
    place = pieces.index(0)
    before, after = ("".join(map(str, part)) for part in (pieces[:place], pieces[place + 1 :]))
    return PromptTexts(before, templates.separators["history"], after)


def pad_left(
    prompts: Sequence[NDArray[np.int64]], pad: int, multiple: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Put prompts of different lengths into one table that ends together, for causal models.

    Args:
        prompts: Token ids, one array a prompt.
        pad: Token id to fill with.
        multiple: The width is rounded up to a multiple of this, so that few shapes occur.

    Returns:
        Token ids int64[B, T] and bool[B, T], true where there is a real token.
    """
    width = max(len(prompt) for prompt in prompts)
    width = -(-width // multiple) * multiple
    tokens = np.full((len(prompts), width), pad, dtype=np.int64)
    real = np.zeros((len(prompts), width), dtype=bool)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
        real[row, width - len(prompt) :] = True
    return tokens, real


def pad_right(
    prompts: Sequence[NDArray[np.int64]], pad: int, multiple: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Put prompts of different lengths into one table that starts together, for encoders.

    Encoders with absolute positions count from the left. See ``pad_left``, its mirror image.
    """
    tokens, real = pad_left([prompt[::-1] for prompt in prompts], pad, multiple)
    return tokens[:, ::-1].copy(), real[:, ::-1].copy()
