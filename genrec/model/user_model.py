"""Molar's user-side model: a language model reads item vectors and says who the user is.

The Dynamic User Embedding Generator of Molar (Luo et al., arXiv 2412.18176): a language model
without its word embeddings is fed the vectors of a history's items and a user token; the state of
that token is the user vector. Shapes: B histories, L items, h width, d item dimensions, n items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# The layer between an item vector and the language model, in widths of the latter.
WIDER = 4


class UserModel(nn.Module):
    """The language model, the projection of item vectors into it, and the user token.

    An item is scored by the product of the user vector and the item's projected vector, so any
    item with a vector can be, whether anybody chose it or not.

    While it is trained, a history stands for all its beginnings at once: one user token for each,
    which reads the items of its beginning and itself and stands where the next item would. The
    states are those that each beginning alone would give.

    Args:
        body: Causal language model of width h that takes ``inputs_embeds``, a mask float[B, 1, T,
            T] and positions.
        items: float32[n, d], the item vectors; they are not trained.
        hidden: h.
        size: Usual size of an entry of what the body reads.
        dropout: Chance that a part of what it reads is dropped in training.
        max_history: Newest items that are read.
    """

    items: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        body: nn.Module,
        items: NDArray[np.float32],
        *,
        hidden: int,
        size: float = 1.0,
        dropout: float = 0.0,
        max_history: int = 50,
    ) -> None:
        super().__init__()
        self.settings = {
            "hidden": hidden,
            "size": size,
            "dropout": dropout,
            "max_history": max_history,
        }
        self.body = body
        self.dropout = dropout
        self.max_history = max_history
        self.size = size
        table = torch.from_numpy(np.ascontiguousarray(items))
        known = table[table.any(dim=1)]
        # Pictures are more alike than different: what they share tells no item from another. And
        # vectors of length 1 have entries so small that a layer would take long to wake up.
        centre = known.mean(0) if len(known) else table.new_zeros(table.shape[1])
        spread = (known - centre).square().mean().sqrt() if len(known) > 1 else table.new_ones(())
        self.register_buffer("items", table, persistent=False)
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread.clamp(min=1e-6))
        self.project = nn.Sequential(
            nn.Linear(items.shape[1], WIDER * hidden), nn.GELU(), nn.Linear(WIDER * hidden, hidden)
        )
        self.read = nn.LayerNorm(hidden)
        self.user = nn.Parameter(torch.randn(hidden) * size)
        self.answer = nn.Linear(hidden, hidden)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """Return projected item vectors float32[m, h], of all items when no rows int64[m] are
        given."""
        chosen = self.items if rows is None else self.items[rows]
        told = chosen.any(dim=-1, keepdim=True)
        projected: Tensor = self.project((chosen - self.centre) / self.spread * told)
        return projected

    def forward(self, rows: Tensor) -> Tensor:
        """Return the user vector before each item and after the last, float32[B, L + 1, h].

        Args:
            rows: Item rows int64[B, L]; padding at the end is never read by what comes before it.
        """
        length = rows.shape[1]
        device = rows.device
        place = torch.arange(length, device=device)
        token = torch.arange(length + 1, device=device)
        # Items read those before them and themselves; user token t reads the items before t.
        never = torch.zeros(length, length + 1, dtype=torch.bool, device=device)
        above = torch.cat([place[None, :] <= place[:, None], never], dim=1)
        itself = token[None, :] == token[:, None]
        below = torch.cat([place[None, :] < token[:, None], itself], dim=1)
        allowed = torch.cat([above, below])[None, None]
        states = self._run(rows, len(token), allowed, torch.cat([place, token])[None])
        answered: Tensor = self.answer(states[:, length:].float())
        return answered

    def last_states(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the user vector after each history, float32[B, h]; a history may be empty."""
        cut = [history[-self.max_history :] for history in histories]
        longest = max(len(history) for history in cut)
        table = np.zeros((len(cut), longest), dtype=np.int64)
        for number, history in enumerate(cut):
            table[number, : len(history)] = history
        device = self.user.device
        rows = torch.from_numpy(table).to(device)
        lengths = torch.tensor([len(history) for history in cut], device=device)
        place = torch.arange(longest + 1, device=device)
        causal = (place[None, :] <= place[:, None]).expand(len(cut), -1, -1).clone()
        # The user token stands last in the row, whatever is padding before it.
        causal[:, -1, :-1] = place[:-1] < lengths[:, None]
        where = place.expand(len(cut), -1).clone()
        where[:, -1] = lengths
        states = self._run(rows, 1, causal[:, None], where)
        answered: Tensor = self.answer(states[:, -1].float())
        return answered

    def _run(self, rows: Tensor, tokens: int, allowed: Tensor, positions: Tensor) -> Tensor:
        """Run the body over items and then user tokens.

        Args:
            rows: int64[B, L].
            tokens: User tokens after them.
            allowed: bool[B or 1, 1, T, T], what each place may read.
            positions: int64[B or 1, T].
        """
        batch = len(rows)
        told = (
            self.read(self.item_vectors(rows.flatten())).view(*rows.shape, len(self.user))
            * self.size
        )
        told = functional.dropout(told, self.dropout, self.training)
        users = self.user.expand(batch, tokens, -1)
        body: Any = self.body
        kind = next(body.parameters()).dtype
        mask = torch.zeros(allowed.shape, dtype=kind, device=rows.device)
        mask = mask.masked_fill(~allowed, torch.finfo(kind).min)
        states: Tensor = body(
            inputs_embeds=torch.cat([told, users], dim=1).to(kind),
            attention_mask=mask.expand(batch, -1, -1, -1),
            position_ids=positions.expand(batch, -1),
            use_cache=False,
        ).last_hidden_state
        return states

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Return float32[m, k] for user vectors float32[m, h] and item vectors float32[k, h]."""
        return users @ items.T
