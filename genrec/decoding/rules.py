"""What each request of a batch may get: nodes are struck out of the trie before the search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding.item_mask import ItemMask
from genrec.decoding.node_keys import find, node_keys
from genrec.decoding.trie import PrefixTrie

Rows = NDArray[np.integer]

# Lists that name more than this share of the catalogue are cheaper as a mask.
_LONG = 1 / 64


@dataclass(frozen=True)
class Bound:
    """No more than so many items of one group.

    Attributes:
        groups: int64[n], the group of each catalogue row; -1 for items that are of none.
        most: Items of a group that a list may hold.
    """

    groups: NDArray[np.int64]
    most: int


@dataclass(frozen=True)
class RowRules:
    """What one request may get, and would rather get, by catalogue row.

    Attributes:
        excluded: Items it must not get; repeats are harmless.
        allowed: The only items it may get; None allows all.
        masks: Sets of items, all of which must allow an item. Requests that share masks share the
            work.
        boosts: What is added to the scores of some items.
        most_per_code: Items with the same first code that it may get; None bounds nothing.
        bounds: Bounds on groups that have nothing to do with the codes.
    """

    excluded: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    allowed: Rows | None = None
    masks: tuple[ItemMask, ...] = ()
    boosts: Mapping[int, float] = field(default_factory=dict)
    most_per_code: int | None = None
    bounds: tuple[Bound, ...] = ()

    def eligible(self, items: int) -> NDArray[np.bool_]:
        """Return which of the items it may get, bool[items]; bounds play no part."""
        flags = np.full(items, self.allowed is None)
        if self.allowed is not None:
            flags[np.asarray(self.allowed, dtype=np.int64)] = True
        for mask in self.masks:
            flags &= mask.allowed.cpu().numpy()
        flags[np.asarray(self.excluded, dtype=np.int64)] = False
        return flags

    def all_bounds(self, trie: PrefixTrie) -> tuple[Bound, ...]:
        """Return the bounds, that on first codes among them."""
        if self.most_per_code is None:
            return self.bounds
        first = trie.nodes_of_leaves(0, trie.leaf_of_item).cpu().numpy()
        return (*self.bounds, Bound(first, self.most_per_code))

    def without(self, rows: Rows) -> "RowRules":
        """Return the rules with more rows that must not be returned."""
        return replace(self, excluded=np.concatenate([self.excluded, rows])) if len(rows) else self

    def with_long_list_as_mask(self, trie: PrefixTrie) -> "RowRules":
        """Return the rules with a long list of excluded rows as a mask.

        A mask is counted once for all requests that share it; a list is looked up for each.

        Args:
            trie: The catalogue.
        """
        if len(self.excluded) <= _LONG * trie.items:
            return self
        flags = np.ones(trie.items, dtype=bool)
        flags[self.excluded] = False
        masks = (*self.masks, ItemMask.of(trie, flags))
        return replace(self, excluded=self.excluded[:0], masks=masks)


class BatchRules:
    """Which nodes of the trie still lead to an item that a request may get.

    Attributes:
        most_passed_over: No request forbids more items than this; None where nobody counts.

    Args:
        trie: The catalogue.
        rules: One a request.
    """

    def __init__(self, trie: PrefixTrie, rules: Sequence[RowRules]) -> None:
        self.trie = trie
        self._device = trie.item_of_leaf.device
        self._masks: dict[tuple[ItemMask, ...], ItemMask] = {}
        self._requests: dict[tuple[ItemMask, ...], list[int]] = {}
        excluded, allowed = [], []
        for number, each in enumerate(rules):
            masks, out, only = self._simplified(each)
            excluded.append(out)
            allowed.append(only)
            if masks:
                if masks not in self._masks:
                    self._masks[masks] = reduce(and_, masks)
                self._requests.setdefault(masks, []).append(number)
        self.most_passed_over: int | None = max((len(out) for out in excluded), default=0)
        if self._masks or any(only is not None for only in allowed):
            self.most_passed_over = None
        self._dead = self._dead_nodes(excluded)
        self._live = None if all(only is None for only in allowed) else self._live_nodes(allowed)

    def _simplified(self, rules: RowRules) -> tuple[tuple[ItemMask, ...], Tensor, Tensor | None]:
        """Return the masks, the rows to leave out and the only rows of one request.

        A long list becomes a mask. With a list of the only rows, masks and exclusions are taken
        out of it here and play no part in the search.
        """
        masks = rules.masks
        out = torch.unique(torch.as_tensor(np.asarray(rules.excluded, dtype=np.int64)))
        out = out.to(self._device)
        if rules.allowed is not None:
            only = torch.unique(torch.as_tensor(np.asarray(rules.allowed, dtype=np.int64)))
            only = only.to(self._device)
            only = only[~torch.isin(only, out)]
            for mask in masks:
                only = only[mask.allowed[only]]
            return (), out[:0], only
        if len(out) > _LONG * self.trie.items:
            flags = torch.ones(self.trie.items, dtype=torch.bool, device=self._device)
            flags[out] = False
            return (*masks, ItemMask.of(self.trie, flags)), out[:0], None
        for mask in masks:
            out = out[mask.allowed[out]]
        return masks, out, None

    def _dead_nodes(self, excluded: Sequence[Tensor]) -> list[Tensor]:
        """Return for each step the sorted keys ``request * nodes + node`` of nodes with none left.

        The excluded rows are allowed by the masks of their request.
        """
        lengths = torch.tensor([len(rows) for rows in excluded], device=self._device)
        request = torch.repeat_interleave(torch.arange(len(excluded), device=self._device), lengths)
        leaves = self.trie.leaf_of_item[torch.cat(list(excluded))] if len(excluded) else request
        dead = []
        for step, level in enumerate(self.trie.steps):
            node = self.trie.nodes_of_leaves(step, leaves)
            keys, count = torch.unique(node_keys(request, node, len(level)), return_counts=True)
            owner, node = keys // len(level), keys % len(level)
            below = self.trie.leaf_start[step].diff()[node] if len(keys) else node
            for key, numbers in self._requests.items():
                own = torch.isin(owner, torch.tensor(numbers, device=self._device))
                below = torch.where(own, self._masks[key].counts[step][node], below)
            dead.append(keys[count == below])
        return dead

    def _live_nodes(self, allowed: Sequence[Tensor | None]) -> "_Live":
        limited = torch.tensor([only is not None for only in allowed], device=self._device)
        rows = [only for only in allowed if only is not None]
        owner = torch.repeat_interleave(
            torch.nonzero(limited).flatten(),
            torch.tensor([len(only) for only in rows], device=self._device),
        )
        leaves = self.trie.leaf_of_item[torch.cat(rows)]
        keys = tuple(
            torch.unique(node_keys(owner, self.trie.nodes_of_leaves(step, leaves), len(level)))
            for step, level in enumerate(self.trie.steps)
        )
        return _Live(limited, keys)

    def allows(self, step: int, nodes: Tensor) -> Tensor:
        """Tell which nodes still lead to an item.

        Args:
            step: One of ``PrefixTrie.steps``.
            nodes: int64[requests, ...].

        Returns:
            bool of that shape.
        """
        allowed = torch.ones_like(nodes, dtype=torch.bool)
        for key, numbers in self._requests.items():
            counts = self._masks[key].counts[step]
            if len(numbers) == len(nodes):
                allowed = counts[nodes] > 0
            else:
                rows = torch.tensor(numbers, device=self._device)
                allowed[rows] = counts[nodes[rows]] > 0
        size = len(self.trie.steps[step])
        if len(self._dead[step]):
            allowed &= ~find(self._dead[step], nodes, size)[1]
        if self._live is not None:
            inside = find(self._live.keys[step], nodes, size)[1]
            limited = self._live.limited.view(-1, *[1] * (nodes.dim() - 1))
            allowed &= inside | ~limited
        return allowed


@dataclass(frozen=True)
class _Live:
    """Requests that may get some items only, and the keys of the nodes that lead to one."""

    limited: Tensor
    keys: tuple[Tensor, ...]
