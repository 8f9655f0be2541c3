"""A hand-made dataset and hand-made lists to measure."""

from pathlib import Path

import numpy as np
import polars as pl

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions
from genrec.data.ranking import Ranking
from genrec.evaluation.predictions import Predictions, from_rankings


def make_dataset(sequences, items, facts=None):
    """Leave-one-out: the last event of each sequence is test, the one before it validation."""
    user = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    part = np.concatenate([[0] * (len(s) - 2) + [1, 2] for s in sequences])
    names = [f"i{row}" for row in range(items)]
    table = pl.DataFrame(
        {"item_id": names, "title": [f"Thing {row}" for row in range(items)], "text": names}
    )
    return Dataset(
        catalog=Catalog(table),
        user_ids=[f"u{row}" for row in range(len(sequences))],
        interactions=Interactions(
            user=user.astype(np.int32),
            item=np.concatenate(sequences).astype(np.int32),
            time=np.concatenate([np.arange(len(s)) for s in sequences]).astype(np.int64),
            weight=np.ones(len(user), dtype=np.float32),
        ),
        part=part.astype(np.int8),
        facts={"source": "hand made", "split": "leave_one_out", **(facts or {})},
    )


def random_dataset(users=60, items=40, seed=0, facts=None):
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 30, size=users)
    return make_dataset([random.integers(0, items, size=n) for n in lengths], items, facts)


def lists(model, rows, examples=None, k=10, **facts):
    """Predictions from one list of items an example."""
    examples = np.arange(len(rows)) if examples is None else np.asarray(examples)
    rankings = [
        Ranking(np.asarray(row, np.int32), -np.arange(len(row), dtype=np.float32)) for row in rows
    ]
    known = {"part": "test", "k": k, "seconds": 1.5, "exclude_seen": True, "seed": 3}
    return from_rankings(model, examples, rankings, known | facts)


def skilled_lists(model, dataset, skill, k=10, seed=0, examples=None, **facts):
    """Lists that hold the target at a random place with probability ``skill``."""
    random = np.random.default_rng(seed)
    targets = dataset.histories("test").target
    examples = np.arange(len(targets)) if examples is None else np.asarray(examples)
    rows = []
    for target in targets[examples]:
        others = random.permutation(np.setdiff1d(np.arange(len(dataset.catalog)), [target]))
        row = others[:k]
        if random.random() < skill:
            row[min(int(random.exponential(2.5)), k - 1)] = target
        rows.append(row)
    return lists(model, rows, examples, k, **facts)


def save_run(folder: Path, dataset: Dataset, predictions: list[Predictions]) -> None:
    """Write ``dataset`` and ``predictions`` as the stages before evaluate do."""
    with artifacts.writing(folder / "dataset", "dataset", seed=7) as partial:
        dataset.save(partial)
    inputs = {"dataset": folder / "dataset"}
    with artifacts.writing(folder / "predictions", "predictions", seed=8, inputs=inputs) as partial:
        users = [dataset.user_ids[row] for row in dataset.histories("test").user]
        for one in predictions:
            one.save(partial, dataset.catalog.item_ids, users)
