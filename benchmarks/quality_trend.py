"""What people chose in the days before the request: a baseline that knows the hour and no one.

Popularity as a request finds it (Ji et al., "A Re-visit of the Popularity Baseline in Recommender
Systems", SIGIR 2020). No other row is told when the item was chosen that is to be guessed.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flow_runs import StepError
from numpy.typing import NDArray
from quality_lists import Wanted, top, write_predictions

from genrec.config import Recipe
from genrec.data.dataset import PARTS, Dataset, Part
from genrec.data.histories import Histories
from genrec.data.ranking import Ranking

NAME = "trend"
DAY = 86_400
# Days that validation users choose from; an event counts 1/e of a new one after so many.
DAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Older events than so many times the days count for nothing.
REACH = 8
CUTOFF = 10


@dataclass(frozen=True)
class Events:
    """The training events in the order of time.

    Attributes:
        time: int64[m], seconds.
        item: int32[m].
        items: Size of the catalogue.
    """

    time: NDArray[np.int64]
    item: NDArray[np.int32]
    items: int

    @classmethod
    def of(cls, dataset: Dataset) -> "Events":
        """Read them.

        Raises:
            StepError: When the dataset has an order of events and no times.
        """
        train = dataset.train
        if not len(train.time) or int(np.ptp(train.time)) < DAY:
            raise StepError("the events have no times, only an order: there is no trend in them.")
        order = np.argsort(train.time, kind="stable")
        return cls(train.time[order], train.item[order], len(dataset.catalog))

    def weights(self, moment: int, days: float) -> NDArray[np.float32]:
        """Return what each item counts at a moment, float32[items]; events of it are too late."""
        first, end = np.searchsorted(self.time, [moment - REACH * days * DAY, moment])
        age = (moment - self.time[first:end]) / (days * DAY)
        counts = np.bincount(self.item[first:end], np.exp(-age), minlength=self.items)
        return counts.astype(np.float32)


def moments(dataset: Dataset, part: Part) -> NDArray[np.int64]:
    """Return when each example of ``Dataset.histories`` was chosen, int64[n] seconds."""
    return dataset.interactions.time[dataset.part == PARTS.index(part)]


def lists(
    events: Events,
    histories: Histories,
    at: NDArray[np.int64],
    examples: Iterable[int],
    *,
    k: int,
    days: float,
    exclude_seen: bool,
) -> Iterator[Ranking]:
    """Yield the k items that count most at the moment of each example.

    Args:
        events: What is counted.
        histories: Of all examples.
        at: int64[n], their moments.
        examples: Which of them.
        k: Items wanted.
        days: How fast an event loses weight.
        exclude_seen: Leave out items of the history.
    """
    for place in examples:
        seen = histories[place][: None if exclude_seen else 0]
        yield top(events.weights(int(at[place]), days), k, seen)


def best_days(dataset: Dataset, events: Events, exclude_seen: bool) -> float:
    """Return the days with the best NDCG@10 on all validation users."""
    held_out, at = dataset.histories("validation"), moments(dataset, "validation")

    def ndcg(days: float) -> float:
        every = range(len(held_out))
        ranked = lists(events, held_out, at, every, k=CUTOFF, days=days, exclude_seen=exclude_seen)
        hits = [
            np.flatnonzero(each.items == target)
            for each, target in zip(ranked, held_out.target, strict=True)
        ]
        return float(np.mean([1 / np.log2(hit[0] + 2) if len(hit) else 0.0 for hit in hits]))

    return max(DAYS, key=ndcg)


def recommend(run_folder: Path, recipe: Recipe) -> Path:
    """Write ``predictions`` of this model, as ``genrec recommend`` does of its own."""
    section, wanted = recipe.recommend, Wanted.of(run_folder, recipe)
    events, started = Events.of(wanted.dataset), time.perf_counter()
    days = best_days(wanted.dataset, events, section.exclude_seen)
    print(f"trend: {days:g} days are best for validation users", flush=True)
    ranked = lists(
        events,
        wanted.histories,
        moments(wanted.dataset, section.part),
        wanted.examples.tolist(),
        k=section.k,
        days=days,
        exclude_seen=section.exclude_seen,
    )
    return write_predictions(
        run_folder,
        recipe,
        wanted,
        NAME,
        {"dataset": run_folder / "dataset"},
        list(ranked),
        seconds=time.perf_counter() - started,
    )
