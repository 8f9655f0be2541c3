"""An encoder-decoder model of transformers with every beam as a row of the batch."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from genrec.model.decoder_start import decoder_start_token

FAMILIES = ("bart",)


class BeamRowsReader:
    """Reads a batch of histories and the beams that follow; implements ``Reader``.

    It asks nothing of a model but the library's own cache. The encoder and the keys and values of
    the history are computed once a request, but every beam holds a copy of the latter, as in
    ``generate``; of the decoder's own cache, a beam takes over that of its parent.

    Args:
        model: An encoder-decoder model, in evaluation mode.
        tokens: int64[B, T], what the encoder reads, padded on the right.
        real: bool[B, T], true where there is a token.
    """

    def __init__(self, model: PreTrainedModel, tokens: Tensor, real: Tensor) -> None:
        self._model: Any = model
        self._tokens, self._real = tokens, real
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._encoded = tokens.new_zeros(0)
        self._history: list[tuple[Tensor, Tensor]] = []
        self._width = 1

    def prompt(self) -> Tensor:
        """Read the histories, then the start token; return float[B, hidden]."""
        self._encoded = self._model.get_encoder()(
            input_ids=self._tokens, attention_mask=self._real.long()
        ).last_hidden_state
        start = torch.full_like(self._tokens[:, :1], decoder_start_token(self._model))
        hidden = self._read(start)[:, 0]
        layers: Any = self._cache.cross_attention_cache.layers
        self._history = [(layer.keys, layer.values) for layer in layers]
        return hidden

    def beams(self, tokens: Tensor, level: int, seen: Tensor) -> Tensor:
        """Read the last token of every beam; see ``Reader.beams``."""
        batch, width = tokens.shape
        if level:
            # The beams of the level before stand just before those of this one.
            parents = seen[:, :, -width - self._width : -width].int().argmax(2)
        else:
            parents = torch.zeros_like(tokens)
        first = torch.arange(batch, device=tokens.device).unsqueeze(1) * self._width
        self._cache.self_attention_cache.batch_select_indices((first + parents).flatten())
        if width != self._width:
            layers: Any = self._cache.cross_attention_cache.layers
            for layer, (keys, values) in zip(layers, self._history, strict=True):
                layer.keys = keys.repeat_interleave(width, 0)
                layer.values = values.repeat_interleave(width, 0)
            self._width = width
        return self._read(tokens)

    def _read(self, tokens: Tensor) -> Tensor:
        """Return last hidden states float[B, W, hidden] of tokens int64[B, W]."""
        batch, width = tokens.shape
        hidden: Tensor = self._model.get_decoder()(
            input_ids=tokens.reshape(-1, 1),
            encoder_hidden_states=_for_beams(self._encoded, width),
            encoder_attention_mask=_for_beams(self._real.long(), width),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden.view(batch, width, -1)


def _for_beams(table: Tensor, width: int) -> Tensor:
    """Return a row for every beam: [B, ...] to [B * W, ...]."""
    return table.repeat_interleave(width, 0)
