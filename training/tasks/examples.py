"""Examples of the tasks, each a function of the seed, the task and its number.

What a model is trained on comes from the training part alone: users' training items, and texts of
items that occur in it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genrec.data.histories import Histories
from genrec.model.task_prompts import Encoded, TaskPrompts
from genrec.training.batches import Augmentation
from genrec.training.tasks.table import TASKS, Material

_ORDERS_REMEMBERED = 64


class TrainingExamples:
    """Makes the examples that are trained on.

    Args:
        sequences: Training items of each user.
        items: int64[m], catalogue rows of the items of the training part.
        material: Texts.
        prompts: Writes the examples.
        augmentation: How histories are varied; they are followed by the item to name, so there is
            room for one item more than the longest history that is read.
        seed: Seed of everything that is drawn.
    """

    def __init__(
        self,
        sequences: Histories,
        items: NDArray[np.int64],
        material: Material,
        prompts: TaskPrompts,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.users = len(sequences)
        self._sequences = sequences
        self._items = items
        self._material = material
        self._prompts = prompts
        self._augmentation = augmentation
        self._seed = seed
        self._order = lru_cache(_ORDERS_REMEMBERED)(self._draw_order)

    def subjects(self, task: str) -> int:
        """Return how many users, or items, a pass over a task has."""
        return len(self._items) if TASKS[task].reads == "item" else len(self._sequences)

    def example(self, task: str, number: int) -> Encoded | None:
        """Return an example of a task; numbers go round and round its users or items.

        Each pass has an order of its own, and template, stretch of the history and texts are drawn
        anew.

        Args:
            task: Its name.
            number: From 0 up.

        Returns:
            None when the texts it needs are not there, or it is too long for the model.
        """
        kind, passed = TASKS[task], number // self.subjects(task)
        key = zlib.crc32(task.encode())
        subject = int(self._order(task, passed)[number % self.subjects(task)])
        generator = np.random.default_rng([self._seed, 3, key, number])
        history, item = self._read(kind.reads, subject, generator)
        fields = kind.fields(self._material, history, item, generator)
        return self._prompts.example(task, fields, generator)

    def _read(
        self, reads: str, subject: int, generator: np.random.Generator
    ) -> tuple[list[int], int]:
        """Return a history and the item after it, or the item that is asked about."""
        if reads == "item":
            return [], int(self._items[subject])
        if reads == "whole":
            most = self._augmentation.max_history - 1
            return whole_history(self._sequences[subject], most), -1
        varied = self._augmentation.apply(self._sequences[subject], generator).tolist()
        return varied[:-1], varied[-1]

    def _draw_order(self, task: str, passed: int) -> NDArray[np.int64]:
        """Return the order of the subjects in one pass."""
        generator = np.random.default_rng([self._seed, 4, zlib.crc32(task.encode()), passed])
        return generator.permutation(self.subjects(task))


@dataclass(frozen=True)
class ValidationExamples:
    """Makes the examples that are measured on, with the first template that fits.

    Attributes:
        histories: Validation histories and their targets.
        material: Texts.
        prompts: Writes the examples.
        max_history: Newest items that are read.
        seed: Seed of drawn texts.
    """

    histories: Histories
    material: Material
    prompts: TaskPrompts
    max_history: int
    seed: int

    def examples(self, task: str) -> list[tuple[int, Encoded]]:
        """Return the examples of a task that can be made, each with its place in the histories."""
        kind = TASKS[task]
        made = []
        for place in range(len(self.histories)):
            generator = np.random.default_rng([self.seed, 5, zlib.crc32(task.encode()), place])
            history = whole_history(self.histories[place], self.max_history)
            item = int(self.histories.target[place])
            fields = kind.fields(self.material, history, item, generator)
            example = self.prompts.example(task, fields)
            if example is not None:
                made.append((place, example))
        return made


def whole_history(items: NDArray[np.int32] | Sequence[int], most: int) -> list[int]:
    """Return the newest items of a history."""
    return [int(item) for item in items[len(items) - min(most, len(items)) :]]
