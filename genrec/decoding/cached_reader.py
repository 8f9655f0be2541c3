"""Any causal language model of transformers, read once a prompt, then beam by beam."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class CachedReader:
    """Reads a batch of prompts and their beams; implements ``Reader``.

    The beams of a request are query positions of one sequence: all see the prompt's keys and
    values, and each sees the codes on its own path, by an attention mask. So the cache is neither
    copied nor reordered when the beams change.

    Args:
        model: Causal language model, in evaluation mode.
        tokens: int64[B, T], prompts padded on the left.
        real: bool[B, T], true where there is a token.
    """

    def __init__(self, model: PreTrainedModel, tokens: Tensor, real: Tensor) -> None:
        self._decoder: Any = model.base_model
        self._dtype = model.dtype
        self._tokens, self._real = tokens, real
        self._lengths = real.sum(1)
        self._cache = DynamicCache()

    def prompt(self) -> Tensor:
        """Read the prompts; return the last hidden state of each, float[B, hidden]."""
        positions = (self._real.cumsum(1) - 1).clamp(min=0)
        hidden: Tensor = self._decoder(
            input_ids=self._tokens,
            attention_mask=self._real.long(),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return hidden

    def beams(self, tokens: Tensor, level: int, seen: Tensor) -> Tensor:
        """Read the last token of every beam; see ``Reader.beams``."""
        positions = (self._lengths + level).unsqueeze(1).expand(tokens.shape)
        hidden: Tensor = self._decoder(
            input_ids=tokens,
            attention_mask=self._mask(seen),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def _mask(self, seen: Tensor) -> Tensor:
        """Return what each beam may look at, float[B, 1, W, T + beams of all steps so far].

        0 where it may, the lowest number where not: the form that every attention implementation
        of transformers adds to its scores.
        """
        prompt = self._real.unsqueeze(1).expand(-1, seen.shape[1], -1)
        visible = torch.cat([prompt, seen], dim=2).unsqueeze(1)
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=visible.device)
        return mask.masked_fill(~visible, torch.finfo(self._dtype).min)
