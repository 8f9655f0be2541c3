"""A mixture of tasks as a fixed plan of batches, so that resuming is exact."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from genrec.errors import ConfigError
from genrec.model.task_prompts import Encoded

# Widths are rounded up to a multiple of this.
_MULTIPLE = 8


class ExampleSource(Protocol):
    """Makes the examples of tasks by number, the same each time."""

    def example(self, task: str, number: int) -> Encoded | None:
        """Return an example, or None when there is none with this number."""
        ...


@dataclass(frozen=True)
class Phase:
    """A stretch of the training.

    Attributes:
        tasks: The tasks in it.
        share: Share of all sequences.
    """

    tasks: Sequence[str]
    share: float


@dataclass(frozen=True)
class Mixture:
    """How much of each task is trained, and when.

    Attributes:
        weights: Sequences of each task for every training user and pass.
        users: Training users.
        epochs: Passes; a fraction is a share of a pass.
        curriculum: Phases before the whole mixture, each with some of the tasks, their weights
            kept; together they are less than the whole.
    """

    weights: Mapping[str, float]
    users: int
    epochs: float
    curriculum: Sequence[Phase] = ()

    def parts(self) -> list[dict[str, float]]:
        """Return the phases in order, each as sequences of every task; the mixture comes last."""
        total = self.users * self.epochs * sum(self.weights.values())
        last = Phase(list(self.weights), 1 - sum(phase.share for phase in self.curriculum))
        parts = []
        for phase in (*self.curriculum, last):
            together = sum(self.weights[task] for task in phase.tasks)
            parts.append(
                {task: total * phase.share * self.weights[task] / together for task in phase.tasks}
            )
        return parts


@dataclass(frozen=True)
class _Chunk:
    """Examples that are shuffled together: about a pass, all of one phase.

    Attributes:
        task: int64[n], place of each one's task in the mixture.
        number: int64[n], its number among the examples of the task.
        length: int64[n], its tokens.
    """

    task: NDArray[np.int64]
    number: NDArray[np.int64]
    length: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.task)


_Batch = tuple[int, _Chunk]


class MixturePlan(TorchDataset[dict[str, Tensor]]):
    """A dataset whose entries are whole batches of several tasks, in the order of training.

    A batch is a function of the seed and its position: which example of which task is in each row,
    and how it was drawn. Examples of like length share a batch whatever their task, and all
    batches of a length bucket have one shape. All examples are written once beforehand to know
    their lengths.

    Args:
        source: Makes the examples.
        mixture: How much of each task.
        batch_tokens: Tokens in a batch, padding included.
        pad_token: Fills short rows.
        seed: Seed of the order.
        most_batches: Most batches; every phase is shortened alike. None keeps all.
        buckets: Number of different batch widths.
        quiet: No progress bar while the examples are written.

    Attributes:
        tasks: Names of the tasks; ``batch["task"]`` counts in this order.
        sequences: Sequences of each task, before ``most_batches`` shortens the plan.
        left_out: Sequences of each task that could not be made, for a text is missing or too long.
        shortened: Sequences whose oldest items were left out, so that they fit into the model.
        items_dropped: Items that were left out of these.
        widths: Tokens in a row, for each bucket.

    Raises:
        ConfigError: When a task has no example at all.
    """

    def __init__(
        self,
        source: ExampleSource,
        mixture: Mixture,
        *,
        batch_tokens: int,
        pad_token: int,
        seed: int,
        most_batches: int | None = None,
        buckets: int = 8,
        quiet: bool = True,
    ) -> None:
        self.tasks = tuple(mixture.weights)
        self._source = source
        self._pad = pad_token
        self._seed = seed
        self.shortened = self.items_dropped = 0
        self.left_out: Counter[str] = Counter()
        self.sequences: Counter[str] = Counter()
        draws = _draws(mixture)
        with Progress(console=Console(stderr=True), disable=quiet) as bar:
            total = sum(len(task) for chunks in draws for task, _ in chunks)
            writing = bar.add_task("writing examples", total=total)
            written = partial(bar.advance, writing)
            phases = [[self._measured(*chunk, written) for chunk in chunks] for chunks in draws]
        self._check()
        lengths = np.concatenate([chunk.length for chunks in phases for chunk in chunks])
        edges = np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:], method="higher")
        edges = np.unique(-(-edges.astype(np.int64) // _MULTIPLE) * _MULTIPLE)
        self.widths: list[int] = edges.tolist()
        # A bucket with few members gets batches as small as it is, not mostly padding.
        most = np.max(
            [np.bincount(np.searchsorted(edges, chunk.length), minlength=len(edges))
             for chunks in phases for chunk in chunks],
            axis=0,
        )  # fmt: skip
        self._rows_of_width = {
            width: max(1, min(batch_tokens // width, int(members)))
            for width, members in zip(self.widths, most, strict=True)
        }
        batches = [
            [
                batch
                for place, chunk in enumerate(chunks)
                for batch in self._batches(chunk, phase, place)
            ]
            for phase, chunks in enumerate(phases)
        ]
        self._plan = _shortened(batches, most_batches)

    def _measured(
        self, task: NDArray[np.int64], number: NDArray[np.int64], written: Callable[[], None]
    ) -> _Chunk:
        """Write each example once; keep those that there are, with their lengths."""
        length = np.zeros(len(task), dtype=np.int64)
        for row, (which, each) in enumerate(zip(task.tolist(), number.tolist(), strict=True)):
            written()
            name = self.tasks[which]
            example = self._source.example(name, each)
            if example is None:
                self.left_out[name] += 1
                continue
            self.sequences[name] += 1
            self.shortened += example.dropped > 0
            self.items_dropped += example.dropped
            length[row] = len(example.tokens)
        there = length > 0
        return _Chunk(task[there], number[there], length[there])

    def _check(self) -> None:
        empty = [task for task in self.tasks if not self.sequences[task]]
        unasked = [task for task in empty if not self.left_out[task]]
        if unasked:
            raise ConfigError(
                f"train.tasks gives {', '.join(unasked)} so small a weight that not one example is "
                "drawn; raise it, raise train.epochs, or leave it out."
            )
        if empty:
            raise ConfigError(
                f"train.tasks names {', '.join(empty)}, of which no example can be made: the items "
                "have no such texts, or these are longer than the model reads. Leave it out, or "
                "give the items titles and descriptions."
            )

    def _batches(self, chunk: _Chunk, phase: int, place: int) -> list[_Batch]:
        """Return the batches of a chunk, shuffled."""
        generator = np.random.default_rng([self._seed, 6, phase, place])
        order = generator.permutation(len(chunk))
        bucket = np.searchsorted(np.asarray(self.widths), chunk.length[order])
        batches: list[_Batch] = []
        for number, width in enumerate(self.widths):
            members = order[bucket == number]
            rows = self._rows_of_width[width]
            for start in range(0, len(members), rows):
                own = members[start : start + rows]
                part = _Chunk(chunk.task[own], chunk.number[own], chunk.length[own])
                batches.append((width, part))
        return [batches[each] for each in generator.permutation(len(batches))]

    def __len__(self) -> int:
        return len(self._plan)

    def rows_of(self, index: int) -> int:
        """Return the number of sequences in the batch, padding rows included."""
        rows: int = self._rows_of_width[self._plan[index][0]]
        return rows

    def width_of(self, index: int) -> int:
        """Return the tokens in each sequence of the batch, padding included."""
        return self._plan[index][0]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one batch.

        Returns:
            ``tokens`` int64[B, T], right-padded; ``answers`` bool[B, T], true where a token is to
            be predicted; ``task`` int64[B], -1 for padding rows.
        """
        width, chunk = self._plan[index]
        examples = []
        for which, number in zip(chunk.task.tolist(), chunk.number.tolist(), strict=True):
            example = self._source.example(self.tasks[which], number)
            assert example is not None, "an example that was there is gone"
            examples.append(example)
        batch = padded(examples, self._pad, rows=self.rows_of(index), width=width)
        task = torch.full((self.rows_of(index),), -1)
        task[: len(examples)] = torch.from_numpy(chunk.task)
        return {**batch, "task": task}

    def contents(self, index: int) -> str:
        """Count the sequences of each task in the batch."""
        counts = Counter(self.tasks[which] for which in self._plan[index][1].task.tolist())
        return " and ".join(f"{count} sequences of {task}" for task, count in counts.items())

    @property
    def padding_share(self) -> float:
        """Share of token places that hold padding, over the whole plan."""
        places = sum(self._rows_of_width[width] * width for width, _ in self._plan)
        real = sum(int(chunk.length.sum()) for _, chunk in self._plan)
        return 1 - real / places if places else 0.0


def padded(
    examples: Sequence[Encoded], pad: int, *, rows: int | None = None, width: int | None = None
) -> dict[str, Tensor]:
    """Put examples into one table that starts together.

    Args:
        examples: At least one.
        pad: Token id to fill with.
        rows: Rows of the table; None makes as many as there are examples.
        width: Its columns; None takes those of the longest example.

    Returns:
        ``tokens`` int64[B, T] and ``answers`` bool[B, T], true where a token is of an answer.
    """
    width = width or max(len(example.tokens) for example in examples)
    tokens = np.full((rows or len(examples), width), pad, dtype=np.int64)
    answers = np.zeros(tokens.shape, dtype=bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = example.tokens
        answers[row, example.answer : len(example.tokens)] = True
    return {"tokens": torch.from_numpy(tokens), "answers": torch.from_numpy(answers)}


def _draws(mixture: Mixture) -> list[list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """Return task and number of every example: phase by phase, in chunks of about a pass."""
    names = list(mixture.weights)
    next_number = dict.fromkeys(names, 0)
    phases = []
    for counts in mixture.parts():
        share = sum(counts.values()) / (mixture.users * sum(mixture.weights.values()))
        pieces = max(1, round(share))
        chunks = []
        for piece in range(pieces):
            tasks, numbers = [], []
            for name, count in counts.items():
                first, last = (round(count * place / pieces) for place in (piece, piece + 1))
                start = next_number[name]
                numbers.append(np.arange(start, start + last - first, dtype=np.int64))
                tasks.append(np.full(last - first, names.index(name), dtype=np.int64))
                next_number[name] += last - first
            chunks.append((np.concatenate(tasks), np.concatenate(numbers)))
        phases.append(chunks)
    return phases


def _shortened(phases: list[list[_Batch]], most: int | None) -> list[_Batch]:
    """Return the batches in order, at most so many, every phase shortened by the same share."""
    total = sum(map(len, phases))
    if most is None or most >= total:
        return [batch for phase in phases for batch in phase]
    ends = np.cumsum([0, *map(len, phases)])
    cuts = np.round(ends * most / total).astype(int)
    return [
        batch
        for phase, start, end in zip(phases, cuts[:-1], cuts[1:], strict=True)
        for batch in phase[: end - start]
    ]
