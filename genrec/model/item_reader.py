"""Molar's item-side model: a language model reads an item and says it in one vector.

The Multimodal Item Representation Model of Molar (Luo et al., arXiv 2412.18176): text and picture
of an item, a request to compress them, and last a special token whose state is the item's vector.
Shapes: B examples, T tokens, h width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from genrec.embeddings.table import unit_rows
from genrec.errors import ConfigError
from genrec.model.picture_tokens import PictureTokens

IGNORED = -100


@dataclass(frozen=True)
class Picture:
    """The picture of a catalogue row, among words."""

    row: int


Piece = str | Picture


@dataclass(frozen=True)
class Encoded:
    """An example as token ids.

    Attributes:
        tokens: What is read, then the mark, then the answer.
        mark: Place of the mark.
        pictures: Catalogue rows of the pictures, in the order in which they stand.
        cut: Whether something was left out because it was too long.
    """

    tokens: list[int]
    mark: int
    pictures: list[int]
    cut: bool


class ItemReader:
    """A language model with a mark whose state is the vector of what stands before it.

    Args:
        model: Causal or vision-language model; soft tokens are attached where it reads some.
        tokenizer: Its tokenizer.
        pictures: How pictures stand among its tokens.
        mark: Token id of the mark.
        max_tokens: Most tokens of an example.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - causal or vision-language
        tokenizer: Any,  # noqa: ANN401
        pictures: PictureTokens,
        *,
        mark: int,
        max_tokens: int,
    ) -> None:
        self.model, self.tokenizer, self.pictures = model, tokenizer, pictures
        self.mark, self.max_tokens = mark, max_tokens
        self._start: list[int] = list(tokenizer("")["input_ids"])
        end = tokenizer.eos_token_id
        self._end: list[int] = [] if end is None else [int(end)]

    def encode(self, given: Sequence[Piece], answer: str | None = None) -> Encoded:
        """Turn an example into token ids.

        When it is too long, the longest text is cut at its end where it takes half of the room;
        else the first piece goes, which of a history is the oldest. A picture stays whole or goes.

        Args:
            given: Words and pictures to read.
            answer: What comes after the mark; None when only the vector is wanted.

        Raises:
            ConfigError: When a picture alone takes more tokens than there is room for.
        """
        parts = [(piece, self._tokens(piece)) for piece in given]
        told = [] if answer is None else self._words(answer)[: self.max_tokens // 2] + self._end
        room = self.max_tokens - len(self._start) - 1 - len(told)
        cut = False
        while (over := sum(len(tokens) for _, tokens in parts) - room) > 0:
            cut = True
            texts = [len(tokens) if isinstance(piece, str) else 0 for piece, tokens in parts]
            longest = int(np.argmax(texts))
            if texts[longest] > room // 2:
                piece, tokens = parts[longest]
                parts[longest] = (piece, tokens[: max(0, len(tokens) - over)])
            else:
                _, tokens = parts.pop(0)
                self._require_room(len(tokens), room)
        flat = [token for _, tokens in parts for token in tokens]
        before = [*self._start, *flat]
        rows = [piece.row for piece, _ in parts if isinstance(piece, Picture)]
        return Encoded([*before, self.mark, *told], len(before), rows, cut)

    def _tokens(self, piece: Piece) -> list[int]:
        return self._words(piece) if isinstance(piece, str) else self.pictures.tokens(piece.row)

    def _words(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _require_room(self, tokens: int, room: int) -> None:
        if tokens > room:
            raise ConfigError(
                f"a picture takes {tokens} tokens and item_model.max_tokens leaves room for "
                f"{room}; raise it, or use smaller pictures."
            )

    def loss(self, examples: Sequence[Encoded]) -> Tensor:
        """Return the mean loss float[B] of each example's answer, given all before it."""
        tokens, mask, inputs = self._batch(examples)
        answers = tokens.masked_fill(~mask, IGNORED)
        for row, example in enumerate(examples):
            answers[row, : example.mark + 1] = IGNORED
        logits = self.model(
            input_ids=tokens, attention_mask=mask.long(), use_cache=False, **inputs
        ).logits
        losses = functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2),
            answers[:, 1:],
            ignore_index=IGNORED,
            reduction="none",
        )
        counted = (answers[:, 1:] != IGNORED).sum(1).clamp(min=1)
        result: Tensor = losses.sum(1) / counted
        return result

    @torch.inference_mode()
    def vectors(self, examples: Sequence[Encoded]) -> NDArray[np.float32]:
        """Return the states of the marks, float32[B, h], at length 1."""
        tokens, mask, inputs = self._batch(examples)
        states = self.model(
            input_ids=tokens,
            attention_mask=mask.long(),
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=1,
            **inputs,
        ).hidden_states[-1]
        marks = torch.tensor([example.mark for example in examples], device=states.device)
        chosen = states[torch.arange(len(examples), device=states.device), marks]
        return unit_rows(chosen.float().cpu().numpy())

    def _batch(self, examples: Sequence[Encoded]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return tokens int64[B, T], which of them are real, bool[B, T], and other inputs."""
        longest = max(len(example.tokens) for example in examples)
        # Any word fills the end: it is never attended to.
        table = np.zeros((len(examples), longest), dtype=np.int64)
        real = np.zeros((len(examples), longest), dtype=bool)
        for row, example in enumerate(examples):
            table[row, : len(example.tokens)] = example.tokens
            real[row, : len(example.tokens)] = True
        device = self.model.device
        tokens = torch.from_numpy(table).to(device)
        rows = [row for example in examples for row in example.pictures]
        inputs = self.pictures.inputs(rows, tokens)
        return tokens, torch.from_numpy(real).to(device), inputs
