"""A causal language model run for beam search: the prompt read once, the beams as its leaves.

The keys and values of a request lie in one table: first those of the prompt, then those of the
beams of each level. A beam sees the prompt and its own path, by a mask, so nothing is ever copied,
repeated or put in another order when beams change. Of the last layer only what is asked for is
computed: one position a prompt.

This is the tree attention of speculative decoding (Miao et al., "SpecInfer", 2023) used for the
beams of a generative retriever. It runs models with the blocks of Llama and Qwen (``supports``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from genrec.decoding.packed_linear import PackedLinear
from genrec.decoding.row_norm import Norm, norm_and_scale, norm_of, norm_of_heads

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")


@dataclass(frozen=True)
class _Layer:
    """The weights of one block; layers with the same input are joined."""

    before_attention: Norm
    query_key_value: PackedLinear
    norm_of_heads: Norm | None
    output: PackedLinear
    before_feed_forward: Norm
    gate: PackedLinear
    up: PackedLinear
    down: PackedLinear


def supports(model: PreTrainedModel) -> bool:
    """Tell whether the blocks of a model are those that are known here.

    A model with adapters is not: its layers are more than their weights.
    """
    config: Any = model.config
    windows = getattr(config, "use_sliding_window", False) or (
        config.model_type == "mistral" and config.sliding_window is not None
    )
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "silu"
        and not windows
        and not getattr(config, "mlp_bias", False)
        and all(type(layer) is nn.Linear for layer in _linear_layers(model))
    )


def _linear_layers(model: PreTrainedModel) -> Iterator[nn.Module]:
    base: Any = model.base_model
    for block in base.layers:
        attention, feed_forward = block.self_attn, block.mlp
        yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        yield from (feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj)


class TreeDecoder:
    """Runs a model over prompts, then over the beams that follow them.

    Weights are read once, here: a model that is trained further needs a new decoder.

    Args:
        model: A model that ``supports`` says yes to, in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config: Any = model.config
        base: Any = model.base_model
        self.dtype = model.dtype
        self.embedding: nn.Module = base.embed_tokens
        self.rotary: Any = base.rotary_emb
        self.norm: Norm = norm_of(base.norm)
        self.query_heads = int(config.num_attention_heads)
        self.key_heads = int(config.num_key_value_heads)
        self.head_size = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.layers = [_layer(block, self.query_heads, self.key_heads) for block in base.layers]

    @property
    def reusable(self) -> bool:
        """Whether keys of a token stay the same however many tokens follow it."""
        kind: str = self.rotary.rope_type
        return "dynamic" not in kind and kind != "longrope"

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        device: torch.device = self.layers[0].query_key_value.weight.device
        return device

    def start(
        self, tokens: Tensor, real: Tensor, beams: int, known: Tensor | None = None
    ) -> "TreeState":
        """Make room for a batch of prompts and what follows them.

        Args:
            tokens: int64[B, T], prompts padded on the left; where their beginnings are known, what
                follows these.
            real: bool[B, T], true where there is a token.
            beams: Beams of all levels together that each prompt may get.
            known: bool[B, C], true where the keys and values of a token before ``tokens`` are
                known. The caller puts them into ``TreeState.beginnings``; what stands in the other
                places of these is not looked at, but has to be finite.
        """
        return TreeState(self, tokens, real, beams, known)


class TreeState:
    """The keys and values of a batch of prompts and their beams; implements ``Reader``."""

    def __init__(
        self, decoder: TreeDecoder, tokens: Tensor, real: Tensor, beams: int, known: Tensor | None
    ) -> None:
        self.decoder = decoder
        self._start = 0 if known is None else known.shape[1]
        self._tokens = tokens
        self._real = real if known is None else torch.cat([known, real], dim=1)
        batch, width = self._real.shape
        shape = (len(decoder.layers), batch, decoder.key_heads, width + beams, decoder.head_size)
        self._keys = torch.empty(shape, dtype=decoder.dtype, device=tokens.device)
        self._values = torch.empty_like(self._keys)
        self.lengths = self._real.sum(1)
        self._filled = 0

    @property
    def beginnings(self) -> tuple[Tensor, Tensor]:
        """Keys and values of what is known beforehand, float[layers, B, heads, C, head size]."""
        return self._keys[:, :, :, : self._start], self._values[:, :, :, : self._start]

    @property
    def read(self) -> tuple[Tensor, Tensor]:
        """Keys and values of what ``prompt`` read, float[layers, B, heads, T, head size]."""
        places = slice(self._start, self._real.shape[1])
        return self._keys[:, :, :, places], self._values[:, :, :, places]

    def prompt(self) -> Tensor:
        """Read the prompts; return the last hidden state of each, float[B, hidden]."""
        start, width = self._start, self._real.shape[1]
        positions = (self._real.cumsum(1) - 1).clamp(min=0)[:, start:]
        mask = self._mask()
        x = self.decoder.embedding(self._tokens)
        last = len(self.decoder.layers) - 1
        turns = self._turns(x, positions)
        for number, layer in enumerate(self.decoder.layers):
            query, keys, values = self._heads(layer, x, turns)
            self._keys[number, :, :, start:width] = keys
            self._values[number, :, :, start:width] = values
            if start:
                keys, values = self._keys[number, :, :, :width], self._values[number, :, :, :width]
            if number == last:
                query, x = query[:, :, -1:], x[:, -1:]
                mask = None if mask is None else mask[:, :, -1:]
            attended = functional.scaled_dot_product_attention(
                query,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None and number != last,
                enable_gqa=True,
            )
            x = _rest(layer, x, attended.transpose(1, 2).flatten(2))
        self._filled = width
        hidden: Tensor = self.decoder.norm(x[:, -1])
        return hidden

    def beams(self, tokens: Tensor, level: int, seen: Tensor) -> Tensor:
        """Read the last token of every beam; see ``Reader.beams``."""
        batch, width = tokens.shape
        start, end = self._filled, self._filled + width
        self._filled = end
        positions = (self.lengths + level).unsqueeze(1).expand(batch, width)
        x = self.decoder.embedding(tokens)
        turns = self._turns(x, positions)
        groups = self.decoder.query_heads // self.decoder.key_heads
        prompt = self._real.unsqueeze(1).expand(-1, width, -1)
        visible = torch.cat([prompt, seen], dim=2).unsqueeze(1)
        mask = torch.zeros(visible.shape, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(~visible, -torch.inf)
        # The heads that share keys become more queries of the same head.
        mask = mask.repeat(1, 1, groups, 1)
        for number, layer in enumerate(self.decoder.layers):
            query, keys, values = self._heads(layer, x, turns)
            self._keys[number, :, :, start:end] = keys
            self._values[number, :, :, start:end] = values
            grouped = query.reshape(
                batch, self.decoder.key_heads, groups * width, self.decoder.head_size
            )
            attended = functional.scaled_dot_product_attention(
                grouped,
                self._keys[number, :, :, :end],
                self._values[number, :, :, :end],
                attn_mask=mask,
            ).reshape(batch, self.decoder.query_heads, width, self.decoder.head_size)
            x = _rest(layer, x, attended.transpose(1, 2).flatten(2))
        hidden: Tensor = self.decoder.norm(x)
        return hidden

    def _mask(self) -> Tensor | None:
        """Return which places each one that is read may see, bool[B, 1, T, C + T].

        None stands for all that come before it, where nothing is padded and all is read.
        """
        if self._start == 0 and bool(self._real.all()):
            return None
        width, device = self._real.shape[1], self._real.device
        earlier = torch.ones(width, width, dtype=torch.bool, device=device).tril()[self._start :]
        # A padded place sees itself, for it has to see something; nobody looks at it.
        own = torch.eye(width, dtype=torch.bool, device=device)[self._start :]
        return ((earlier & self._real.unsqueeze(1)) | own).unsqueeze(1)

    def _turns(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine = self.decoder.rotary(x, positions)
        return cosine.unsqueeze(1), sine.unsqueeze(1)

    def _heads(
        self, layer: _Layer, x: Tensor, turns: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, float[B, heads, T, head size]."""
        decoder = self.decoder
        joined = layer.query_key_value(layer.before_attention(x))
        heads = joined.view(*joined.shape[:-1], -1, decoder.head_size).transpose(1, 2)
        # Queries and keys are normed and turned as one: small models spend their time on calls.
        turning = decoder.query_heads + decoder.key_heads
        both, values = heads[:, :turning], heads[:, turning:]
        if layer.norm_of_heads is not None:
            both = layer.norm_of_heads(both)
        both = _turned(both, *turns)
        return both[:, : decoder.query_heads], both[:, decoder.query_heads :], values


def _layer(
    block: Any,  # noqa: ANN401 - blocks of several model classes
    query_heads: int,
    key_heads: int,
) -> _Layer:
    attention, feed_forward = block.self_attn, block.mlp
    first, scale = norm_and_scale(block.input_layernorm)
    second, other_scale = norm_and_scale(block.post_attention_layernorm)
    return _Layer(
        before_attention=first,
        query_key_value=PackedLinear.joined(
            attention.q_proj, attention.k_proj, attention.v_proj, scale=scale
        ),
        norm_of_heads=norm_of_heads(
            getattr(attention, "q_norm", None),
            getattr(attention, "k_norm", None),
            query_heads,
            key_heads,
        ),
        output=PackedLinear.joined(attention.o_proj),
        before_feed_forward=second,
        gate=PackedLinear.joined(feed_forward.gate_proj, scale=other_scale),
        up=PackedLinear.joined(feed_forward.up_proj, scale=other_scale),
        down=PackedLinear.joined(feed_forward.down_proj),
    )


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Apply rotary positions to float[B, heads, T, head size]; both halves turn alike."""
    half = x.shape[-1] // 2
    turned = x * cosine
    turned[..., :half].addcmul_(x[..., half:], sine[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sine[..., half:])
    return turned


def _rest(layer: _Layer, x: Tensor, attended: Tensor) -> Tensor:
    """Return what a block gives, after its attention."""
    x = layer.output.plus(attended, x)
    normal = layer.before_feed_forward(x)
    return layer.down.plus(layer.up.times(normal, layer.gate.silu(normal)), x)
