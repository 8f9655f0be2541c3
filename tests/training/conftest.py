"""A world small enough to train in seconds."""

import numpy as np
import polars as pl
import pytest

from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions
from genrec.semantic_ids.item_index import ItemIndex

ITEMS, USERS, LENGTH = 24, 60, 8


@pytest.fixture
def cycle_dataset():
    """See ``make_dataset``."""
    return make_dataset()


@pytest.fixture(scope="module")
def module_dataset():
    """The same, for what is made once a module."""
    return make_dataset()


def make_dataset():
    """Users walk through the items in a circle: the next item is always the one after the last."""
    starts = np.random.default_rng(0).integers(0, ITEMS, USERS)
    items = (starts[:, None] + np.arange(LENGTH)) % ITEMS
    part = np.tile([0] * (LENGTH - 2) + [1, 2], USERS).astype(np.int8)
    catalog = Catalog(
        pl.DataFrame(
            {
                "item_id": [f"i{row}" for row in range(ITEMS)],
                "title": [f"thing number {row}" for row in range(ITEMS)],
                "text": [""] * ITEMS,
            }
        )
    )
    events = Interactions(
        user=np.repeat(np.arange(USERS), LENGTH).astype(np.int32),
        item=items.reshape(-1).astype(np.int32),
        time=np.tile(np.arange(LENGTH), USERS).astype(np.int64),
        weight=np.ones(USERS * LENGTH, dtype=np.float32),
    )
    return Dataset(catalog, [f"u{user}" for user in range(USERS)], events, part, {})


@pytest.fixture
def small_index():
    """See ``make_index``."""
    return make_index()


@pytest.fixture(scope="module")
def module_index():
    """The same, for what is made once a module."""
    return make_index()


def make_index():
    """Two levels: six codes, then four."""
    rows = np.arange(ITEMS)
    return ItemIndex(np.stack([rows // 4, rows % 4], 1).astype(np.int32), (6, 4), {})
