"""Any causal language model of transformers, read once a prompt, then beam by beam."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from genrec.errors import ArtifactError


def check_readable(model: PreTrainedModel, longest: int) -> None:
    """Refuse a model whose beams would not see the prompt and their own path.

    Models differ in what they make of a mask and a cache of ours, and some make nothing of them
    without a word. So two beams of a short prompt are read and compared with the model's own pass.

    Args:
        model: A causal language model.
        longest: Tokens of the longest prompt with an answer.

    Raises:
        ArtifactError: When it cannot be read in this way.
    """
    config: Any = model.config
    refused = (
        f"the language model is of type {config.model_type}, which the search cannot read: "
        "{}. Choose another one, such as those of Llama, Qwen, Mistral or GPT-2."
    )
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < longest:
        raise ArtifactError(
            refused.format(f"it sees {window} tokens at once and prompts have up to {longest}")
        )
    training = model.training
    model.eval()
    try:
        found, wanted = _two_beams(model)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise ArtifactError(refused.format(f"{type(error).__name__}: {error}")) from error
    finally:
        model.train(training)
    if found.shape != wanted.shape or not _alike(found, wanted, model.dtype):
        raise ArtifactError(refused.format("its beams do not see what they should"))


def _alike(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Tell whether states are equal but for the rounding of their number type."""
    least = 1e-3 if dtype == torch.float32 else 0.05
    return bool(((found - wanted).norm(dim=-1) < least * wanted.norm(dim=-1)).all())


@torch.no_grad()
def _two_beams(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Return the states of two beams after two levels, read as here and alone, float32[2, d]."""
    device = next(model.parameters()).device
    prompt = torch.tensor([[0, 1, 2, 3]], device=device)
    beams = torch.tensor([[4, 5], [6, 7]], device=device)
    reader = CachedReader(model, prompt, torch.ones_like(prompt, dtype=torch.bool))
    reader.prompt()
    own = torch.eye(2, dtype=torch.bool, device=device).unsqueeze(0)
    reader.beams(beams[:1], 0, own)
    found = reader.beams(beams[1:], 1, torch.cat([own, own], dim=2))[0]
    base: Any = model.base_model
    whole = torch.cat([prompt.expand(2, -1), beams.T], dim=1)
    return found.float(), base(input_ids=whole).last_hidden_state[:, -1].float()


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
