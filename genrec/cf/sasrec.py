"""SASRec: a small causal transformer over item ids that predicts the next item.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. Two changes are kept
from later practice: pre-norm blocks, and cross-entropy over the whole catalogue instead of one
sampled negative. Shapes: B histories, L positions, d dimensions, n items.

The same network has the multi-query attention of MQSA-TED (Zhu and others, WSDM 2024, arXiv
2311.01056): beside the query of the newest item, a long one that is the mean of the queries of
the last few items. The short one follows the newest item and all its chance, the long one is
steadier and slower; their outputs are mixed. SASRec is the case without a long query.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genrec.errors import ConfigError


class Block(nn.Module):
    """One pre-norm transformer block: causal self-attention, then a feed-forward layer.

    Args:
        dimensions: Width d.
        heads: Attention heads, which share the width.
        dropout: Probability.
        query_window: Positions whose mean query is the long query.
        long_share: Share of the long query's output in the attention; 0 leaves it out.
    """

    def __init__(
        self,
        dimensions: int,
        heads: int,
        dropout: float,
        *,
        query_window: int = 1,
        long_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query_window = query_window
        self.long_share = long_share
        self.attention_norm = nn.LayerNorm(dimensions)
        self.query_key_value = nn.Linear(dimensions, 3 * dimensions)
        self.output = nn.Linear(dimensions, dimensions)
        self.feed_forward_norm = nn.LayerNorm(dimensions)
        self.expand = nn.Linear(dimensions, 4 * dimensions)
        self.contract = nn.Linear(4 * dimensions, dimensions)

    def forward(self, states: Tensor) -> Tensor:
        """Return new states float32[B, L, d]; position i reads positions 0..i only."""
        batch, length, dimensions = states.shape
        drop = self.dropout if self.training else 0.0
        mixed = self.query_key_value(self.attention_norm(states))
        query, key, value = mixed.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=drop, is_causal=True
        )
        if self.long_share:
            long = functional.scaled_dot_product_attention(
                window_means(query, self.query_window), key, value, dropout_p=drop, is_causal=True
            )
            attended = torch.lerp(attended, long, self.long_share)
        attended = attended.transpose(1, 2).reshape(batch, length, dimensions)
        states = states + functional.dropout(self.output(attended), drop)
        hidden = functional.gelu(self.expand(self.feed_forward_norm(states)))
        return states + functional.dropout(self.contract(hidden), drop)


def window_means(queries: Tensor, window: int) -> Tensor:
    """Return the mean of each position and those before it within the window.

    Args:
        queries: float32[B, heads, L, d]; a position early on has a shorter window.
        window: Positions in a mean, at least 1; 1 changes nothing.
    """
    length = queries.shape[2]
    padded = functional.pad(queries, (0, 0, window - 1, 0))
    sums = padded.unfold(2, window, 1).sum(-1)
    counts = torch.arange(1, length + 1, device=queries.device).clamp(max=window)
    return sums / counts[:, None]


class SasRec(nn.Module):
    """The network: item ids in, one state a position out; a state times item vectors is a score.

    A learned start vector stands before every history, so an empty history has a state too.
    Only the newest ``max_history`` items are read.

    Args:
        items: Items n of the catalogue.
        dimensions: Width d of vectors and states.
        layers: Transformer blocks.
        heads: Attention heads of each.
        dropout: On embeddings, attention and feed-forward.
        max_history: Newest items of a history that are read.
        query_window: Newest positions in the long query of the attention, the start included.
        long_share: Share of the long query in the attention, 0 to 1; 0 is plain SASRec.

    Raises:
        ConfigError: When heads cannot share the width, the window holds nothing or the share is
            not one.
    """

    def __init__(
        self,
        items: int,
        *,
        dimensions: int = 64,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.5,
        max_history: int = 50,
        query_window: int = 1,
        long_share: float = 0.0,
    ) -> None:
        super().__init__()
        if dimensions % heads:
            raise ConfigError(
                f"cf.dimensions is {dimensions}, which {heads} heads cannot share equally; "
                "make it a multiple of cf.heads."
            )
        if query_window < 1 or not 0 <= long_share <= 1:
            raise ConfigError(
                f"a query over {query_window} items with a share of {long_share} in the attention "
                "means nothing; give a window of at least 1 and a share from 0 to 1."
            )
        self.settings = {
            "items": items,
            "dimensions": dimensions,
            "layers": layers,
            "heads": heads,
            "dropout": dropout,
            "max_history": max_history,
            "query_window": query_window,
            "long_share": long_share,
        }
        self.items = items
        self.max_history = max_history
        self.dropout = dropout
        self.item_vectors = nn.Embedding(items + 1, dimensions)
        self.positions = nn.Embedding(max_history + 1, dimensions)
        self.blocks = nn.ModuleList(
            Block(dimensions, heads, dropout, query_window=query_window, long_share=long_share)
            for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(dimensions)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Return one state a position, float32[B, L, d].

        Positions are counted from the newest item back, so what an item means to the next choice
        does not depend on how long ago the user began.

        Args:
            rows: Item rows int64[B, L], the start row first, padding at the end.
            lengths: Real positions of each, int64[B].
        """
        where = torch.arange(rows.shape[1], device=rows.device)
        age = (lengths[:, None] - 1 - where).clamp(min=0)
        states = self.item_vectors(rows) + self.positions(age)
        states = functional.dropout(states, self.dropout, self.training)
        for block in self.blocks:
            states = block(states)
        normed: Tensor = self.final_norm(states)
        return normed

    def scores(self, states: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        """Return the score of every item, [m, n] in this precision, for states float32[m, d]."""
        items = self.item_vectors.weight[: self.items]
        return states.to(precision) @ items.to(precision).T

    def pad(
        self, histories: Sequence[NDArray[np.int32]], most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Put the start row before each history, cut to the newest items, and pad at the end.

        Padding is never read: a position sees only those before it.

        Args:
            histories: Catalogue rows, oldest first; any may be empty.
            most: Items of a history that are kept; None takes those that are read.

        Returns:
            Rows int64[B, L] and the number of real positions in each, int64[B], at least 1.
        """
        cut = [history[-(most or self.max_history) :] for history in histories]
        lengths = np.asarray([len(history) + 1 for history in cut], dtype=np.int64)
        rows = np.zeros((len(cut), lengths.max()), dtype=np.int64)
        rows[:, 0] = self.items
        rows[:, 1:][np.arange(1, lengths.max()) < lengths[:, None]] = np.concatenate(cut)
        device = self.item_vectors.weight.device
        return torch.from_numpy(rows).to(device), torch.from_numpy(lengths).to(device)

    def last_states(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the state after each history, float32[B, d]: the vector of the user."""
        rows, lengths = self.pad(histories)
        states: Tensor = self(rows, lengths)
        return states[torch.arange(len(rows), device=rows.device), lengths - 1]
