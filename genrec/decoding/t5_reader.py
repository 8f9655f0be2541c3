"""T5 and its kin run for beam search: the encoder once a request, the beams as leaves of a tree.

The keys and values of the history are computed once, and the beams of a request are queries of one
sequence, so all look at the same ones: nothing is copied or repeated for a beam. Of the decoder's
own tokens, a beam sees the start token and the codes on its path, by a mask. T5 adds a bias for the
distance of two tokens to their attention score; as every token of a path lies one place after its
parent, the distance of a beam to a token on its path is that of their levels.

The library's own blocks take the distance of two tokens from their places in the tensor, which for
beams side by side is wrong. So the attention is written out here, from the weights of the model.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from genrec.model.decoder_start import decoder_start_token

FAMILIES = ("t5", "mt5", "umt5")


class T5Reader:
    """Reads a batch of histories and the beams that follow; implements ``Reader``.

    Args:
        model: A T5, mT5 or umT5, in evaluation mode.
        tokens: int64[B, T], what the encoder reads, padded on either side.
        real: bool[B, T], true where there is a token.
    """

    def __init__(self, model: PreTrainedModel, tokens: Tensor, real: Tensor) -> None:
        typed: Any = model
        self._model = typed
        self._decoder = typed.decoder
        self._tokens, self._real = tokens, real
        self._history_mask = _mask(real[:, None, None, :], model.dtype)
        self._history: list[tuple[Tensor, Tensor]] = []
        self._own: list[tuple[Tensor, Tensor]] = []
        # How many tokens of its path come before each token read so far.
        self._depths = tokens.new_zeros(0)
        self._depth = 0

    def prompt(self) -> Tensor:
        """Read the histories, then the start token; return float[B, hidden]."""
        encoded = self._model.get_encoder()(
            input_ids=self._tokens, attention_mask=self._real.long()
        ).last_hidden_state
        for block in self._decoder.block:
            attention = block.layer[1].EncDecAttention
            self._history.append(_keys_and_values(attention, encoded))
        start = decoder_start_token(self._model)
        tokens = torch.full_like(self._tokens[:, :1], start)
        return self._read(tokens, torch.ones_like(tokens, dtype=torch.bool).unsqueeze(1))[:, 0]

    def beams(self, tokens: Tensor, level: int, seen: Tensor) -> Tensor:
        """Read the last token of every beam; see ``Reader.beams``."""
        start = torch.ones_like(seen[:, :, :1])
        return self._read(tokens, torch.cat([start, seen], dim=2))

    def _read(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Read one more token of every path.

        Args:
            tokens: int64[B, W].
            visible: bool[B, W, tokens so far], these included.

        Returns:
            Last hidden states, float[B, W, hidden].
        """
        here = self._depths.new_full(tokens.shape[1:], self._depth)
        self._depths = torch.cat([self._depths, here])
        x = self._decoder.embed_tokens(tokens)
        mask = _mask(visible.unsqueeze(1), x.dtype)
        bias = None
        for number, block in enumerate(self._decoder.block):
            attention = block.layer[0].SelfAttention
            # umT5 has distances of its own in every block, T5 those of the first in all.
            if attention.has_relative_attention_bias:
                bias = mask + self._distances(attention)
            x = x + self._own_path(number, block.layer[0], x, bias)
            cross = block.layer[1]
            x = x + _attended(
                cross.EncDecAttention,
                cross.layer_norm(x),
                self._history[number],
                self._history_mask,
            )
            x = block.layer[2](x)
        self._depth += 1
        hidden: Tensor = self._decoder.final_layer_norm(x)
        return hidden

    def _distances(self, attention: Any) -> Tensor:  # noqa: ANN401
        """Return the bias of the newest tokens to all so far, float[1, heads, 1, tokens]."""
        table: Tensor = attention.compute_bias(self._depth + 1, self._depth + 1)
        return table[:, :, -1:, :].index_select(3, self._depths)

    def _own_path(self, number: int, layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        normal = layer.layer_norm(x)
        new = _keys_and_values(layer.SelfAttention, normal)
        if number < len(self._own):
            keys, values = self._own[number]
            new = torch.cat([keys, new[0]], dim=2), torch.cat([values, new[1]], dim=2)
            self._own[number] = new
        else:
            self._own.append(new)
        return _attended(layer.SelfAttention, normal, new, bias)


def _keys_and_values(attention: Any, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return float[B, heads, T, head size] twice."""
    return _heads(attention, attention.k(x)), _heads(attention, attention.v(x))


def _heads(attention: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    shape = (*x.shape[:2], int(attention.n_heads), int(attention.key_value_proj_dim))
    return x.view(shape).transpose(1, 2)


def _attended(
    attention: Any,  # noqa: ANN401
    x: Tensor,
    keys_and_values: tuple[Tensor, Tensor],
    bias: Tensor | None,
) -> Tensor:
    """Return what queries float[B, W, hidden] take from keys and values; T5 scales no scores."""
    query = _heads(attention, attention.q(x))
    taken = functional.scaled_dot_product_attention(
        query, *keys_and_values, attn_mask=bias, scale=1.0
    )
    output: Tensor = attention.o(taken.transpose(1, 2).flatten(2))
    return output


def _mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where a token may be looked at and the lowest number where not."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)
