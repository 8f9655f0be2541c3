"""The bridge of A-LLMRec: vectors of items and users that the language model reads with the codes.

Stage 2 of Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024. In an
instruction each item's codes are followed by its soft token, and the user's comes after the
history. In a stream the vectors lie on tokens that are there anyway, that of an item on its last
code and that of the user, as the collaborative model sees it by then, on the same one: a stream
gets no longer and every place knows the user of that moment. The paper puts the user first; here
the user comes last, for the vector changes with every event and all that follows it has to be read
anew.

A user's vector is that after the items which the prompt shows, in training as in serving.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import Linear
from transformers import PreTrainedTokenizerBase

from genrec.cf.blend import Neighbours
from genrec.cf.item_knn import ItemKnn
from genrec.cf.user_states import (
    UserModel,
    item_log_probabilities,
    load_named,
    states_on_the_way,
    width_of,
)
from genrec.errors import ConfigError
from genrec.model.projection import Projection
from genrec.model.prompts import Prompts
from genrec.model.soft_tokens import SoftRegistry, SoftTable, SoftTokens, Source
from genrec.semantic_ids.neighbours import with_neighbours

FILE_NAME = "bridge.safetensors"
BEFORE_USER = "\nThis customer: "


@dataclass(frozen=True)
class Bridge:
    """What is read beside the codes.

    Attributes:
        soft: The soft tokens: ``items`` for each catalogue row, ``users`` of requests, or one.
        user_model: The collaborative model that users' vectors come from, and that has a share in a
            dense side; None for neither.
        rows: int64[n], the row in the collaborative model of each catalogue row; -1 for items that
            it knows nothing of: those without training events, and those that came later.
        neighbours: Item neighbours that are asked together with the collaborative model, in its
            rows; None for none.
    """

    soft: SoftTokens
    user_model: UserModel | None
    rows: NDArray[np.int64]
    neighbours: Neighbours | None = None

    @property
    def has_users(self) -> bool:
        """Whether the model reads the user's vector."""
        return self.soft.has("users")

    @property
    def has_items(self) -> bool:
        """Whether items come with their vectors."""
        return self.soft.has("items")

    def user_states(
        self, histories: Sequence[NDArray[np.int32]], *, on_the_way: bool
    ) -> list[NDArray[np.float32]]:
        """Return the user's vector for each history.

        Items that the collaborative model knows nothing of are passed over.

        Args:
            histories: Catalogue rows, oldest first.
            on_the_way: float32[items + 1, d] a history, before the first item and after each one;
                else float32[1, d], after the last.
        """
        model = self.user_model
        if model is None:
            raise ValueError("this bridge has no users.")
        rows = [self.rows[history].astype(np.int32) for history in histories]
        known = [each[each >= 0] for each in rows]
        if not on_the_way:
            return list(model.user_vectors(known)[:, None])
        return [
            states[np.append(0, (each >= 0).cumsum())]
            for each, states in zip(rows, states_on_the_way(model, known), strict=True)
        ]

    def log_probabilities(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return what the collaborative model thinks of each item, float32[B, n].

        NaN stands for items that it knows nothing of.

        Args:
            histories: Catalogue rows, oldest first.
        """
        if self.user_model is None:
            raise ValueError("this bridge has no users.")
        own = [self.rows[history].astype(np.int32) for history in histories]
        own = [each[each >= 0] for each in own]
        known = item_log_probabilities(self.user_model, own)
        if self.neighbours is not None:
            known = self.neighbours.mixed(known, own)
        rows = torch.from_numpy(self.rows).to(known.device)
        found = known[:, rows.clamp(min=0)]
        return found.masked_fill(rows < 0, torch.nan)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write soft tokens and the collaborative model; return what ``load`` has to be told."""
        state = {name: value.contiguous() for name, value in self.soft.state_dict().items()}
        save_file({**state, "rows": torch.from_numpy(self.rows)}, folder / FILE_NAME)
        if self.user_model is not None:
            self.user_model.save(folder)
        if self.neighbours is not None:
            self.neighbours.knn.save(folder)
        return {
            "first": self.soft.first,
            "items": self.has_items,
            "learned": self.has_items and isinstance(self.soft.source("items").projection, Linear),
            "users": self.has_users,
            "user_model": None if self.user_model is None else self.user_model.name,
            "neighbours": None if self.neighbours is None else self.neighbours.share,
        }

    @classmethod
    def load(
        cls, folder: Path, body: Mapping[str, Any], hidden: int, device: torch.device
    ) -> "Bridge":
        """Read what ``save`` wrote.

        Args:
            folder: The model folder.
            body: What ``save`` returned.
            hidden: Width of the language model.
            device: Where to compute.
        """
        state = load_file(folder / FILE_NAME)
        rows = state.pop("rows").numpy()
        vectors = state["sources.0.vectors"].numpy() if body["items"] else None
        name = body["user_model"]
        users = None if name is None else load_named(folder, str(name), device)
        sources: dict[str, Source] = {}
        if vectors is not None and body.get("learned"):
            projection = learned_projection(vectors.shape[1], hidden)
            sources["items"] = SoftTable(vectors, projection)
        elif vectors is not None:
            sources["items"] = item_table(vectors, hidden, beside=None, size=0.0)
        if users is not None and body["users"]:
            sources["users"] = user_registry(users, hidden, size=0.0)
        soft = SoftTokens(int(body["first"]), sources)
        soft.load_state_dict(state)
        share = body.get("neighbours")
        near = None if share is None else Neighbours(ItemKnn.load(folder), float(share))
        return cls(soft.to(device), users, rows, near)

    def for_items(
        self,
        old_rows: NDArray[np.int64],
        old_codes: NDArray[np.int32],
        codes: NDArray[np.int32],
        item_tokens: NDArray[np.int64],
    ) -> "Bridge":
        """Return the bridge for a later catalogue; its soft tokens are not attached.

        An item that came later has no vector of its own: it gets the mean of those that share the
        longest beginning of its codes, which text and collaborative vectors of old were coded by.

        Args:
            old_rows: int64[n], the row in the old catalogue of each item; -1 for none.
            old_codes: int32[m, L], codes of the old catalogue.
            codes: int32[n, L].
            item_tokens: int64[n, L].
        """
        rows = np.where(old_rows >= 0, self.rows[old_rows], -1)
        sources: dict[str, Source] = {}
        if self.has_items:
            table: SoftTable = self.soft.source("items")
            vectors = with_neighbours(table.vectors.cpu().numpy(), old_rows, old_codes, codes)
            alone = bool((table.beside < 0).all())
            sources["items"] = SoftTable(
                vectors, table.projection, None if alone else item_tokens[:, -1]
            )
        if self.has_users:
            sources["users"] = self.soft.source("users")
        soft = SoftTokens(self.soft.first, sources)
        # A collaborative model that is only asked has no soft tokens.
        if sources:
            soft = soft.to(next(self.soft.parameters()).device)
        return replace(self, soft=soft, rows=rows)


def item_table(
    vectors: NDArray[np.float32], hidden: int, *, beside: NDArray[np.int64] | None, size: float
) -> SoftTable:
    """Make untrained soft tokens of items with given vectors.

    Args:
        vectors: float32[n, d].
        hidden: Width of the language model.
        beside: int64[n], the token that each lies on; None when they stand alone.
        size: Root mean square that the projection starts with.
    """
    return SoftTable(vectors, Projection(vectors.shape[1], hidden, "gelu", size), beside)


def learned_projection(width: int, hidden: int) -> Linear:
    """Make what projects vectors that are learned with the model: they need no second layer."""
    projection = Linear(width, hidden, bias=False)
    nn.init.normal_(projection.weight, std=width**-0.5)
    return projection


def user_registry(user_model: UserModel, hidden: int, *, size: float) -> SoftRegistry:
    """Make untrained soft tokens of a collaborative model's users; see ``item_table``."""
    width = width_of(user_model)
    return SoftRegistry(width, Projection(width, hidden, "leaky_relu", size))


@dataclass(frozen=True)
class BridgedPrompts(Prompts):
    """Prompts with the soft tokens of a bridge; used like ``Prompts``.

    Attributes:
        bridge: The soft tokens.
        before_user: Token ids before the user's soft token, in instructions.
    """

    bridge: Bridge = field(compare=False, kw_only=True)
    before_user: tuple[int, ...] = field(kw_only=True)

    @classmethod
    def of(
        cls, prompts: Prompts, bridge: Bridge, tokenizer: PreTrainedTokenizerBase
    ) -> "BridgedPrompts":
        """Join prompts and a bridge.

        Raises:
            ConfigError: When SASRec reads fewer items than a stream shows.
        """
        own = {each.name: getattr(prompts, each.name) for each in fields(Prompts)}
        network = getattr(bridge.user_model, "network", None) if bridge.has_users else None
        if prompts.form == "stream" and network and network.max_history < prompts.max_history:
            raise ConfigError(
                f"train.max_history is {prompts.max_history}, but SASRec reads "
                f"{network.max_history} items, so it has no vector of the user before them; set "
                "cf.max_history at least as high, or train.max_history lower."
            )
        words = tokenizer.encode(BEFORE_USER, add_special_tokens=False)
        spoken = prompts.form == "instruction" and bridge.has_users
        return cls(**own, bridge=bridge, before_user=tuple(words) if spoken else ())

    def encode(
        self, histories: Sequence[NDArray[np.int32]], item_tokens: NDArray[np.int64]
    ) -> list[NDArray[np.int64]]:
        """Return the prompt of each history as token ids; see ``Prompts.encode``."""
        read = [np.asarray(history)[-self.max_history :] for history in histories]
        if self.form == "stream":
            prompts = super().encode(read, item_tokens)
            step = item_tokens.shape[1]
            ends = self._ends(read, [prompt[::step] for prompt in prompts])
            for prompt, own in zip(prompts, ends, strict=True):
                prompt[::step] = own
            return prompts
        table = item_tokens
        if self.bridge.has_items:
            own = self.bridge.soft.ids("items", np.arange(len(item_tokens)))
            table = np.concatenate([item_tokens, own[:, None]], axis=1)
        prompts = super().encode(read, table)
        if not self.bridge.has_users:
            return prompts
        users = self._registered(self.bridge.user_states(read, on_the_way=False), None)
        return [
            np.insert(prompt, len(prompt) - len(self.after), [*self.before_user, *user])
            for prompt, user in zip(prompts, users, strict=True)
        ]

    def stream_tokens(self, items: Tensor, item_tokens: Tensor) -> Tensor:
        """Return what a causal model reads of streams; see ``Prompts.stream_tokens``."""
        tokens = super().stream_tokens(items, item_tokens)
        step = item_tokens.shape[1]
        lengths = (items >= 0).sum(1).cpu().numpy()
        rows = items.cpu().numpy().astype(np.int32)
        # The last item is an answer: its last code, and the user after it, are not read.
        read = [row[: max(0, length - 1)] for row, length in zip(rows, lengths, strict=True)]
        ends = tokens[:, ::step].cpu().numpy()
        for row, own in enumerate(
            self._ends(read, [ends[row, : len(each) + 1] for row, each in enumerate(read)])
        ):
            ends[row, : len(own)] = own
        tokens[:, ::step] = torch.from_numpy(ends).to(tokens.device)
        return tokens

    def _ends(
        self, histories: Sequence[NDArray[np.int32]], words: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Return what stands at the start and at the last code of each item, int64[items + 1].

        Args:
            histories: Catalogue rows, oldest first.
            words: The tokens that stand there without a bridge.
        """
        ends = [np.array(each) for each in words]
        if self.bridge.has_items:
            for own, history in zip(ends, histories, strict=True):
                own[1:] = self.bridge.soft.ids("items", history)
        if not self.bridge.has_users:
            return ends
        return self._registered(self.bridge.user_states(histories, on_the_way=True), ends)

    def _registered(
        self,
        states: Sequence[NDArray[np.float32]],
        beside: Sequence[NDArray[np.int64]] | None,
    ) -> list[NDArray[np.int64]]:
        """Return the soft tokens of users' vectors, one array a history."""
        if not states:
            return []
        ids = self.bridge.soft.register(
            "users", np.concatenate(states), None if beside is None else np.concatenate(beside)
        )
        return np.split(ids, np.cumsum([len(each) for each in states])[:-1])

    def block(self, levels: int) -> int:
        """Return the tokens of an item and what stands between two."""
        beside = self.form == "instruction" and self.bridge.has_items
        return super().block(levels) + int(beside)

    def width(self, items: int, levels: int) -> int:
        """Return the tokens of a prompt with so many items; see ``Prompts.width``."""
        user = self.form == "instruction" and self.bridge.has_users
        return super().width(items, levels) + (len(self.before_user) + 1) * int(user)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file: those of the prompts alone."""
        return Prompts(
            **{each.name: getattr(self, each.name) for each in fields(Prompts)}
        ).to_dict()
