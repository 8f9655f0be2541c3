"""A run folder of a tiny store: dataset, baselines and an untrained language model, all real."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from genrec import artifacts
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.transition import Transition
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import from_scratch
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex

ITEMS, USERS = 30, 20


def dataset() -> Dataset:
    """20 users with 3 to 9 events over 30 items; the last is test, the one before validation."""
    random = np.random.default_rng(5)
    users, items, parts = [], [], []
    for user in range(USERS):
        length = 3 + user % 7
        users += [user] * length
        items += random.choice(ITEMS, size=length, replace=False).tolist()
        parts += [0] * (length - 2) + [1, 2]
    names = [f"p{row:02d}" for row in range(ITEMS)]
    table = pl.DataFrame({"item_id": names, "title": [f"Thing {n}" for n in names], "text": names})
    return Dataset(
        catalog=Catalog(table),
        user_ids=[f"u{user:02d}" for user in range(USERS)],
        interactions=Interactions(
            np.array(users, np.int32),
            np.array(items, np.int32),
            np.arange(len(users), dtype=np.int64),
            np.ones(len(users), np.float32),
        ),
        part=np.array(parts, np.int8),
        facts={},
    )


def model(data: Dataset) -> GenerativeModel:
    """A random language model over codes of 4 x 4 x 2."""
    torch.manual_seed(3)
    rows = np.arange(ITEMS)
    codes = np.stack([rows // 8, rows // 2 % 4, rows % 2], axis=1).astype(np.int32)
    index = ItemIndex(codes, (4, 4, 2), {})
    language_model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=80
    )
    for weight in language_model.parameters():
        torch.nn.init.normal_(weight, std=0.3) if weight.dim() > 1 else None
    return GenerativeModel(
        language_model=language_model,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        index=index,
        prompts=Prompts.build("stream", 6, tokenizer),
        catalog=data.catalog,
        item_counts=data.item_counts,
        facts={"index_digest": "c" * 64},
    )


def build(run: Path) -> Path:
    """Write dataset, cf and model into a run folder and return it."""
    data = dataset()
    with artifacts.writing(run / "dataset", "dataset") as partial:
        data.save(partial)
    inputs = {"dataset": run / "dataset"}
    with artifacts.writing(run / "cf", "cf", inputs=inputs) as partial:
        Popularity.fit(data).save(partial)
        Transition.fit(data).save(partial)
        torch.manual_seed(4)
        SasRecRanker(SasRec(ITEMS, dimensions=8, layers=1, heads=2, max_history=6)).save(partial)
    with artifacts.writing(run / "model", "model", inputs=inputs) as partial:
        model(data).save(partial)
    return run
