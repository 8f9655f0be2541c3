"""Which histories are learned from by rewards, and in what order."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from genrec.data.histories import Histories
from genrec.errors import ConfigError
from genrec.training.batches import IGNORED, users_in_words


class TargetPlan(TorchDataset[dict[str, Tensor]]):
    """Batches of training histories, each with the item that came next, one batch an entry.

    All users come once before any comes again, each time with another place of the history, drawn
    by seed, so that a batch is a function of seed and number and a stopped run goes on as it would
    have.

    Args:
        sequences: Training items of each user.
        batches: Number of batches.
        histories: Histories in a batch.
        repeats: How often a batch stands in the plan, side by side.
        exclude_seen: Take no item as the next one that the history holds already, for it cannot be
            named.
        seed: Seed of the order and the places.

    Raises:
        ConfigError: When no history has an item that can be named.
    """

    def __init__(
        self,
        sequences: Histories,
        *,
        batches: int,
        histories: int,
        repeats: int,
        exclude_seen: bool,
        seed: int,
    ) -> None:
        self._sequences = sequences
        self._histories = histories
        self._repeats = repeats
        self._seed = seed
        self._batches = batches
        places = [_places(sequences[user], exclude_seen) for user in range(len(sequences))]
        self._users = np.flatnonzero([len(each) > 0 for each in places])
        self._places = [places[user] for user in self._users]
        if not len(self._users):
            raise ConfigError(
                f"none of the {len(sequences)} training histories has an item that comes after "
                "others and is not among them, so there is nothing to give rewards for. Set "
                "train.reinforcement.steps: 0."
            )

    def __len__(self) -> int:
        return self._batches * self._repeats

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return catalogue rows int64[B, width], right-padded with -100; the last is the target."""
        rows = [self._sequence(number, draw) for number, draw in self._drawn(index)]
        items = np.full((len(rows), max(map(len, rows))), IGNORED, dtype=np.int64)
        for row, sequence in enumerate(rows):
            items[row, : len(sequence)] = sequence
        return {"items": torch.from_numpy(items)}

    def contents(self, index: int) -> str:
        """Name the users in the batch."""
        return users_in_words(
            [int(self._sequences.user[self._users[number]]) for number, _ in self._drawn(index)]
        )

    @property
    def padding_share(self) -> float:
        """Share of item places that hold padding, over the whole plan."""
        batches = [self[index]["items"] for index in range(0, len(self), self._repeats)]
        places = sum(items.numel() for items in batches)
        return sum(int((items == IGNORED).sum()) for items in batches) / places

    def _drawn(self, index: int) -> list[tuple[int, int]]:
        """Return the place among the users and the number of each draw of a batch."""
        first = index // self._repeats * self._histories
        draws = range(first, first + self._histories)
        orders = {turn: self._order(turn) for turn in {draw // len(self._users) for draw in draws}}
        return [
            (int(orders[draw // len(self._users)][draw % len(self._users)]), draw) for draw in draws
        ]

    def _order(self, turn: int) -> NDArray[np.int64]:
        """Return the order of the users in one pass over them."""
        return np.random.default_rng([self._seed, turn]).permutation(len(self._users))

    def _sequence(self, number: int, draw: int) -> NDArray[np.int32]:
        """Return a history of a user and its next item."""
        ends = self._places[number]
        end = ends[np.random.default_rng([self._seed, 1, draw]).integers(len(ends))]
        return self._sequences[int(self._users[number])][: end + 1]


def _places(items: NDArray[np.int32], exclude_seen: bool) -> NDArray[np.int64]:
    """Return the places of a history whose item can be the next one."""
    later = np.arange(1, len(items))
    if not exclude_seen:
        return later
    return later[np.isin(later, np.unique(items, return_index=True)[1])]
