"""Tiny datasets with known contents."""

import numpy as np
import polars as pl

from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions


def dataset_of(sequences, n_items, held_out=2):
    """One user a sequence; the last event is test, the one before validation."""
    user = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    item = np.concatenate([np.asarray(s, dtype=np.int32) for s in sequences])
    time = np.concatenate([np.arange(len(s)) for s in sequences])
    part = np.concatenate(
        [np.clip(np.arange(len(s)) - len(s) + held_out + 1, 0, 2) for s in sequences]
    )
    ids = [f"item{i}" for i in range(n_items)]
    return Dataset(
        catalog=Catalog(pl.DataFrame({"item_id": ids, "title": ids, "text": ids})),
        user_ids=[f"user{i}" for i in range(len(sequences))],
        interactions=Interactions(
            user=user.astype(np.int32),
            item=item,
            time=time.astype(np.int64),
            weight=np.ones(len(user), dtype=np.float32),
        ),
        part=part.astype(np.int8),
        facts={},
    )


def random_sequences(seed, users=40, n_items=15, shortest=3, longest=12):
    generator = np.random.default_rng(seed)
    # Squared, so that some items are much more frequent than others and ties occur.
    return [
        (generator.random(generator.integers(shortest, longest + 1)) ** 2 * n_items)
        .astype(np.int32)
        .tolist()
        for _ in range(users)
    ]


def arrays(*lists):
    return [np.asarray(values, dtype=np.int32) for values in lists]
