"""Code log-probabilities from a language model that reads each history once.

The beams of a request are query positions of one sequence: all see the history's keys and values,
and each sees the codes on its own path, by an attention mask. So the cache is neither copied nor
reordered when the beams change, and only the rows of the head that belong to a level's codes are
computed.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from genrec.model.code_head import CodeHead


class LanguageModelScorer:
    """Scores codes for a batch of prompts; implements ``CodeScorer``.

    Args:
        model: Causal language model, in evaluation mode.
        head: Its code head.
        tokens: int64[B, T], prompts padded on the left.
        real: bool[B, T], true where there is a token.
    """

    def __init__(
        self, model: PreTrainedModel, head: CodeHead, tokens: Tensor, real: Tensor
    ) -> None:
        self._decoder: Any = model.base_model
        self._dtype = model.dtype
        self._head = head
        self._tokens, self._real = tokens, real
        self._lengths = real.sum(1)
        self._cache = DynamicCache()
        self._paths: Tensor | None = None

    def first(self) -> Tensor:
        """Read the prompts; return log-probabilities of the first code, float[B, codes]."""
        positions = (self._real.cumsum(1) - 1).clamp(min=0)
        hidden = self._decoder(
            input_ids=self._tokens,
            attention_mask=self._real.long(),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return self._head.log_probabilities(hidden, 0)

    def next(self, level: int, codes: Tensor, parents: Tensor) -> Tensor:
        """Extend the kept prefixes by their last code; return float[B, W, codes of the level]."""
        tokens = codes + self._head.vocabulary.level_range(level - 1).start
        batch, width = codes.shape
        positions = (self._lengths + level - 1).unsqueeze(1).expand(batch, width)
        hidden = self._decoder(
            input_ids=tokens,
            attention_mask=self._mask(parents),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return self._head.log_probabilities(hidden, level)

    def _mask(self, parents: Tensor) -> Tensor:
        """Return what each beam may look at, float[B, 1, W, T + beams of all steps so far].

        0 where it may, the lowest number where not: the form that every attention implementation
        of transformers adds to its scores.
        """
        batch, width = parents.shape
        own = torch.eye(width, dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
        if self._paths is None:
            self._paths = own
        else:
            above = torch.gather(
                self._paths, 1, parents.unsqueeze(-1).expand(-1, -1, self._paths.shape[2])
            )
            self._paths = torch.cat([above, own], dim=2)
        prompt = self._real.unsqueeze(1).expand(-1, width, -1)
        seen = torch.cat([prompt, self._paths], dim=2).unsqueeze(1)
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=seen.device)
        return mask.masked_fill(~seen, torch.finfo(self._dtype).min)
