"""Code log-probabilities from a language model that reads each history once."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from genrec.model.code_head import CodeHead


class Reader(Protocol):
    """A batch of prompts and the beams that follow them, run through a language model."""

    def prompt(self) -> Tensor:
        """Read the prompts; return the last hidden state of each, float[B, hidden]."""
        ...

    def beams(self, tokens: Tensor, level: int, seen: Tensor) -> Tensor:
        """Read the last token of every beam.

        Args:
            tokens: int64[B, W].
            level: How many tokens of its path come before, from 0.
            seen: bool[B, W, beams so far], which beams of all levels, these included, are on the
                path of each.

        Returns:
            Last hidden states, float[B, W, hidden].
        """
        ...


class LanguageModelScorer:
    """Scores codes for a batch of prompts; implements ``CodeScorer``.

    Args:
        reader: The prompts.
        head: From hidden states to codes.
        normaliser: What is taken off the logits; None makes the codes of a level add up to one.
    """

    def __init__(
        self, reader: Reader, head: CodeHead, normaliser: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._reader = reader
        self._head = head
        self._normaliser = normaliser
        self._paths: Tensor | None = None
        self._states: Tensor | None = None

    def states(self) -> Tensor:
        """Read the prompts, once; return the last hidden state of each, float[B, hidden]."""
        if self._states is None:
            self._states = self._reader.prompt()
        return self._states

    def first(self) -> Tensor:
        """Read the prompts; return log-probabilities of the first code, float[B, codes]."""
        return self._head.log_probabilities(self.states(), 0, self._normaliser)

    def next(self, level: int, codes: Tensor, parents: Tensor) -> Tensor:
        """Extend the kept prefixes by their last code; return float[B, W, codes of the level]."""
        tokens = codes + self._head.vocabulary.level_range(level - 1).start
        hidden = self._reader.beams(tokens, level - 1, self._seen(parents))
        return self._head.log_probabilities(hidden, level, self._normaliser)

    def _seen(self, parents: Tensor) -> Tensor:
        """Return which beams are on the path of each, bool[B, W, beams of all steps so far]."""
        batch, width = parents.shape
        own = torch.eye(width, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        if self._paths is None:
            self._paths = own
        else:
            above = torch.gather(
                self._paths, 1, parents.unsqueeze(-1).expand(-1, -1, self._paths.shape[2])
            )
            self._paths = torch.cat([above, own], dim=2)
        return self._paths
