"""The whole training as a fixed plan of batches, so that resuming is exact.

Every batch is a function of the seed and its position in the plan: which users are in it, how
their histories are cut, which items are left out. A run that was stopped continues with the next
batch of the same plan. Sequences of like length share a batch, and all batches of a length bucket
have one shape, because on CPUs every new shape costs set-up time and memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from genrec.data.histories import Histories

IGNORED = -100


@dataclass(frozen=True)
class Augmentation:
    """How a training history is varied each time it is read.

    Attributes:
        max_history: Longest stretch of items.
        crop_probability: Chance of a random stretch instead of the newest one.
        item_dropout: Chance that an item is left out.
    """

    max_history: int
    crop_probability: float = 0.0
    item_dropout: float = 0.0

    def apply(self, items: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
        """Return a varied copy of one history, at least one item long."""
        if len(items) > 2 and generator.random() < self.crop_probability:
            length = int(generator.integers(2, len(items) + 1))
            start = int(generator.integers(0, len(items) - length + 1))
            items = items[start : start + length]
        if len(items) > self.max_history:
            items = items[-self.max_history :]
        if self.item_dropout and len(items) > 2:
            keep = generator.random(len(items)) >= self.item_dropout
            keep[-1] = True
            items = items[keep]
        return items


class Plan(Protocol):
    """The batches of a training, in order, as the trainer sees them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    def contents(self, index: int) -> str:
        """Say what is in a batch, for an error."""
        ...

    @property
    def padding_share(self) -> float:
        """Share of places that hold padding, over the whole plan."""
        ...


# Users that an error names.
_NAMED = 10


def users_in_words(users: Sequence[int]) -> str:
    """Return the rows of users as text, the first of them by number."""
    named = ", ".join(map(str, users[:_NAMED]))
    more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
    return f"users {named}{more} (rows of the dataset, from 0)"


class BatchPlan(TorchDataset[dict[str, Tensor]]):
    """A dataset whose entries are whole batches, in the order they are trained on.

    Args:
        sequences: Training items of each user.
        epochs: Passes over the users; a fraction takes that share of the last pass.
        batch_items: Items in a batch, padding included.
        augmentation: How histories are varied.
        seed: Seed of order and variation.
        buckets: Number of different batch widths.
    """

    def __init__(
        self,
        sequences: Histories,
        *,
        epochs: float,
        batch_items: int,
        augmentation: Augmentation,
        seed: int,
        buckets: int = 8,
    ) -> None:
        self._sequences = sequences
        self._augmentation = augmentation
        self._seed = seed
        lengths = np.minimum(sequences.lengths, augmentation.max_history)
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:], method="higher"))
        self.widths = [int(edge) for edge in edges]
        # A bucket with few users gets batches as small as it is, not mostly padding.
        bucket = np.searchsorted(edges, lengths)
        self._rows_of_width = {
            width: max(1, min(batch_items // width, int((bucket == place).sum())))
            for place, width in enumerate(self.widths)
        }
        self._plan: list[tuple[int, NDArray[np.int64]]] = []
        draws = max(1, round(len(sequences) * epochs))
        for epoch in range(int(np.ceil(epochs))):
            first = epoch * len(sequences)
            size = min(len(sequences), draws - first)
            self._plan.extend(self._epoch_batches(lengths, epoch, first, size))

    def _epoch_batches(
        self, lengths: NDArray[np.int64], epoch: int, first: int, size: int
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Return (width, draws) for one pass; draw d is user ``d % users`` at its d-th reading."""
        generator = np.random.default_rng([self._seed, epoch])
        users = generator.permutation(len(lengths))[:size]
        bucket = np.searchsorted(np.asarray(self.widths), lengths[users])
        batches: list[tuple[int, NDArray[np.int64]]] = []
        for place, width in enumerate(self.widths):
            members = users[bucket == place]
            rows = self._rows_of_width[width]
            batches.extend(
                (width, first + members[start : start + rows])
                for start in range(0, len(members), rows)
            )
        return [batches[place] for place in generator.permutation(len(batches))]

    def __len__(self) -> int:
        return len(self._plan)

    def rows_of(self, index: int) -> int:
        """Return the number of sequences in the batch, padding rows included."""
        return self._rows_of_width[self._plan[index][0]]

    def contents(self, index: int) -> str:
        """Name the users in the batch."""
        rows = self._plan[index][1] % len(self._sequences)
        return users_in_words(sorted(set(self._sequences.user[rows].tolist())))

    def histories(self, index: int) -> tuple[int, list[NDArray[np.int32]]]:
        """Return the width in items and the varied histories of one batch."""
        width, draws = self._plan[index]
        histories = []
        for draw in draws:
            generator = np.random.default_rng([self._seed, 1, int(draw)])
            items = self._sequences[int(draw) % len(self._sequences)]
            histories.append(self._augmentation.apply(items, generator))
        return width, histories

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return catalogue rows int64[B, width], right-padded with -100."""
        width, histories = self.histories(index)
        items = np.full((self.rows_of(index), width), IGNORED, dtype=np.int64)
        for row, history in enumerate(histories):
            items[row, : len(history)] = history
        return {"items": torch.from_numpy(items)}

    @property
    def padding_share(self) -> float:
        """Share of item places that hold padding before variation, over the whole plan."""
        places = sum(self._rows_of_width[width] * width for width, _ in self._plan)
        lengths = np.minimum(self._sequences.lengths, self._augmentation.max_history)
        real = sum(int(lengths[draws % len(lengths)].sum()) for _, draws in self._plan)
        return 1 - real / places if places else 0.0
