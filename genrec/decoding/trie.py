"""The catalogue as a state machine: which codes may follow a prefix, in flat arrays.

Nodes of a level are the distinct prefixes of that length in lexicographic order, so the children
of a node are neighbours in the next level, and so are the items below it. One start a node says
where its children begin; nothing else is stored, so a million items take about 8 MB.

Where items share their codes the tree has one step below the codes: the items of a tuple, from
the most to the least popular. Nothing tells the model's opinion of them apart, so all have the
score of their tuple and popularity decides.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from genrec.decoding.side_by_side import side_by_side
from genrec.decoding.sorted_tuples import sorted_tuples
from genrec.embeddings import mapped_file
from genrec.errors import ArtifactError, DataError
from genrec.semantic_ids.item_index import ItemIndex

FILE_NAME = "trie.safetensors"


@dataclass(frozen=True)
class TrieLevel:
    """The N nodes at one depth.

    Attributes:
        code: uint8, int16 or int32[N], last code of each node's prefix; below the codes, an item's
            place among those of its tuple.
        child_start: int32[P + 1] over the P nodes one level up (the root for the first level);
            children of node p are ``child_start[p]:child_start[p + 1]``.
        widest: Most children any parent has.
    """

    code: Tensor
    child_start: Tensor
    widest: int

    def __len__(self) -> int:
        return len(self.code)

    def to(self, device: torch.device) -> "TrieLevel":
        """Return a copy on another device."""
        return TrieLevel(self.code.to(device), self.child_start.to(device), self.widest)


@dataclass(frozen=True)
class PrefixTrie:
    """All real items as paths; a prefix that is not in it leads to no item.

    Attributes:
        levels: One entry a code position.
        item_of_leaf: int32[n], catalogue row of each leaf: each node of the last level, or of
            ``sharing``.
        sharing: The step below the codes; None when every item has codes of its own.
    """

    levels: tuple[TrieLevel, ...]
    item_of_leaf: Tensor
    sharing: TrieLevel | None = None

    @cached_property
    def steps(self) -> tuple[TrieLevel, ...]:
        """All levels down to the items: one a code position, and ``sharing``."""
        return self.levels if self.sharing is None else (*self.levels, self.sharing)

    @cached_property
    def items(self) -> int:
        """Number of items."""
        return len(self.item_of_leaf)

    @cached_property
    def leaf_start(self) -> tuple[Tensor, ...]:
        """Where the leaves below each node begin, int32[N + 1] for each of ``steps``.

        The leaves below node p are ``leaf_start[level][p]:leaf_start[level][p + 1]``.
        """
        start = torch.arange(self.items + 1, dtype=torch.int32, device=self.item_of_leaf.device)
        starts = [start]
        for level in reversed(self.steps[1:]):
            start = start[level.child_start]
            starts.append(start)
        return tuple(reversed(starts))

    @cached_property
    def leaf_of_item(self) -> Tensor:
        """The leaf of each catalogue row, int32[n]."""
        leaf = torch.empty_like(self.item_of_leaf)
        places = torch.arange(self.items, dtype=leaf.dtype, device=leaf.device)
        leaf[self.item_of_leaf] = places
        return leaf

    def nodes_of_leaves(self, level: int, leaves: Tensor) -> Tensor:
        """Return the node of a level above each leaf, int64 of the shape of ``leaves``."""
        if level == len(self.steps) - 1:
            return leaves.long()
        wanted = leaves.to(self.leaf_start[level].dtype)
        return torch.searchsorted(self.leaf_start[level], wanted, right=True) - 1

    @classmethod
    def from_index(
        cls, index: ItemIndex, item_counts: NDArray[np.int64] | None = None
    ) -> "PrefixTrie":
        """Build the trie of an index; no loop over items.

        Args:
            index: The codes.
            item_counts: int64[n], how popular each item is; orders items with the same codes, the
                smaller row first among equals. None takes all for equal.

        Raises:
            DataError: When the index has no item, or another number than there are counts.
        """
        if len(index) == 0:
            raise DataError("the item index is empty; a trie needs at least one item.")
        counts = np.zeros(len(index), dtype=np.int64) if item_counts is None else item_counts
        if counts.shape != (len(index),):
            raise DataError(f"there are {len(counts)} item counts for {len(index)} items.")
        order, first = sorted_tuples(index.codes, index.level_sizes, counts)
        levels, parents = [], np.zeros(1, dtype=np.int64)
        for column, new, size in zip(index.codes.T, first, index.level_sizes, strict=True):
            begin = np.flatnonzero(new)
            levels.append(_level(column[order[begin]], new, parents, size))
            parents = begin
        leaves = torch.from_numpy(order.astype(np.int32))
        if len(parents) == len(order):
            return cls(tuple(levels), leaves)
        place = np.arange(len(order)) - parents[np.cumsum(first[-1]) - 1]
        every = np.ones(len(order), dtype=bool)
        sharing = _level(place, every, parents, int(place.max()) + 1)
        return cls(tuple(levels), leaves, sharing)

    def to(self, device: torch.device) -> "PrefixTrie":
        """Return a copy on another device."""
        return PrefixTrie(
            tuple(level.to(device) for level in self.levels),
            self.item_of_leaf.to(device),
            None if self.sharing is None else self.sharing.to(device),
        )

    def children(
        self, level: int, parent: Tensor, most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the nodes of a level below each parent node.

        Args:
            level: Level of the children, one of ``steps``; 0 asks for the children of the root
                (parent 0).
            parent: int64[...], nodes one level up.
            most: Return only so many first children of each; None returns all.

        Returns:
            Nodes int64[..., widest] and bool[..., widest], true where there is such a child.
        """
        table = self.steps[level]
        start = table.child_start[parent].long().unsqueeze(-1)
        end = table.child_start[parent + 1].unsqueeze(-1)
        widest = table.widest if most is None else min(most, table.widest)
        nodes = start + torch.arange(widest, device=start.device)
        real = nodes < end
        return nodes.clamp(max=len(table) - 1), real

    def below(
        self, level: int, parents: Tensor, alive: Tensor, most: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the nodes of a level below the kept nodes of each request, side by side.

        On a CPU there are as many columns as the request with the most children needs; elsewhere
        as many as any request could need, so that shapes do not depend on values.

        Args:
            level: Level of the children.
            parents: int64[B, W], nodes one level up.
            alive: bool[B, W], which of them are there.
            most: Take only so many first children of each; None takes all.

        Returns:
            Nodes int64[B, C], the places int64[B, C] of their parents among the W, and bool[B, C],
            true where there is such a child. Children come in the order of their parents.
        """
        if parents.device.type != "cpu":
            return self.padded(level, parents, alive, most)
        return side_by_side(self.steps[level].child_start, parents, alive, most)

    def first(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what ``below`` does for the root of every request of a batch."""
        nodes = torch.arange(len(self.steps[0]), device=self.item_of_leaf.device)
        nodes = nodes.expand(batch, -1)
        return nodes, torch.zeros_like(nodes), torch.ones_like(nodes, dtype=torch.bool)

    def padded(
        self, level: int, parents: Tensor, alive: Tensor, most: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what ``below`` does, in as many columns as any request could need."""
        nodes, real = self.children(level, parents, most)
        place = torch.arange(parents.shape[1], device=parents.device).view(1, -1, 1)
        real = real & alive.unsqueeze(-1)
        return nodes.flatten(1), place.expand(nodes.shape).flatten(1), real.flatten(1)

    def save(self, folder: Path) -> None:
        """Write ``trie.safetensors`` into the folder."""
        arrays = {"item_of_leaf": self.item_of_leaf}
        for number, step in enumerate(self.steps):
            arrays |= {f"code.{number}": step.code, f"child_start.{number}": step.child_start}
        facts = {"shared": str(self.sharing is not None).lower()}
        tables = {name: array.cpu().contiguous().numpy() for name, array in arrays.items()}
        save_file(tables, folder / FILE_NAME, metadata=facts)

    @classmethod
    def load(cls, folder: Path) -> "PrefixTrie":
        """Open what ``save`` wrote; its arrays are read from disk as they are used.

        Raises:
            ArtifactError: When the file is damaged or holds something else.
        """
        path = folder / FILE_NAME
        try:
            names = mapped_file.names(path)
            steps = [
                _opened(path, number)
                for number in range(sum(name.startswith("code.") for name in names))
            ]
            leaves = torch.from_numpy(mapped_file.mapped(path, "item_of_leaf"))
            shared = mapped_file.metadata(path)["shared"] == "true"
        except (DataError, OSError, KeyError) as error:
            raise ArtifactError(f"{path} is no trie that can be read ({error}).") from error
        if shared:
            return cls(tuple(steps[:-1]), leaves, steps[-1])
        return cls(tuple(steps), leaves)


def _opened(path: Path, number: int) -> TrieLevel:
    start = mapped_file.mapped(path, f"child_start.{number}")
    return TrieLevel(
        torch.from_numpy(mapped_file.mapped(path, f"code.{number}")),
        torch.from_numpy(start),
        int(np.diff(start).max()),
    )


def _level(
    codes: NDArray[Any], new: NDArray[np.bool_], parents: NDArray[np.int64], size: int
) -> TrieLevel:
    """Return a level.

    Args:
        codes: int[N], last code of each node.
        new: bool[n], true for the first item of each node, of all items in order.
        parents: int64[P], place of the first item of each node one level up.
        size: Codes are below it.
    """
    kind = np.uint8 if size <= 256 else np.int16 if size <= 2**15 else np.int32
    # The first item of a parent is the first item of its first child.
    node = np.cumsum(new, dtype=np.int32) - 1
    start = np.append(node[parents], np.int32(len(codes)))
    return TrieLevel(
        code=torch.from_numpy(codes.astype(kind)),
        child_start=torch.from_numpy(start),
        widest=int(np.diff(start).max()),
    )
