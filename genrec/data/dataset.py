"""The truth of a run: catalogue, interactions and which of them may be learned from."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.data.histories import Histories, from_lists
from genrec.data.interactions import Interactions

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """Catalogue, interactions and split; no later stage changes it.

    Attributes:
        catalog: The items.
        user_ids: Outside id of each user row.
        interactions: All kept events, sorted by user, time, input order.
        part: int8[m], 0 training, 1 validation, 2 test, for each event.
        facts: Names and counts worth keeping: source, split rule, and for the embedded store
            ``best_possible`` (metric key -> the best value any recommender can reach).
    """

    catalog: Catalog
    user_ids: list[str]
    interactions: Interactions
    part: NDArray[np.int8]
    facts: dict[str, Any]

    @cached_property
    def train(self) -> Interactions:
        """The events that may be learned from."""
        return self.interactions.of(self.part == 0)

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """Number of training events of each item, int64[n_items]."""
        return np.bincount(self.train.item, minlength=len(self.catalog)).astype(np.int64)

    def sequences(self) -> Histories:
        """Return each user's training items, oldest first; users without any are left out."""
        events = self.train
        users, starts = np.unique(events.user, return_index=True)
        offsets = np.append(starts, len(events)).astype(np.int64)
        return Histories(
            user=users.astype(np.int32),
            items=events.item,
            offsets=offsets,
            target=np.full(len(users), -1, dtype=np.int32),
        )

    def histories(self, part: Part) -> Histories:
        """Return one example for each event of a part: the user's earlier items and the item.

        The history of a validation event holds the user's training events before it; that of a
        test event holds training and validation events before it (and earlier test events, which
        were known when it happened). For ``train`` every event with at least one before it is an
        example.

        Args:
            part: ``train``, ``validation`` or ``test``.
        """
        wanted = PARTS.index(part)
        events = self.interactions
        start_of = np.searchsorted(events.user, np.arange(len(self.user_ids) + 1))
        rows = np.flatnonzero(self.part == wanted)
        parts: list[NDArray[np.int32]] = []
        kept: list[int] = []
        for row in rows:
            start = start_of[events.user[row]]
            before = events.item[start:row][self.part[start:row] <= wanted]
            if part == "train" and len(before) == 0:
                continue
            parts.append(before)
            kept.append(int(row))
        index = np.asarray(kept, dtype=np.int64)
        return from_lists(parts, events.user[index], events.item[index])

    def save(self, folder: Path) -> None:
        """Write the catalogue, ``interactions.parquet``, ``users.parquet`` and ``dataset.json``."""
        self.catalog.save(folder)
        events = self.interactions
        pl.DataFrame(
            {
                "user": events.user,
                "item": events.item,
                "time": events.time,
                "weight": events.weight,
                "part": self.part,
            }
        ).write_parquet(folder / "interactions.parquet")
        pl.DataFrame({"user_id": self.user_ids}, schema={"user_id": pl.String}).write_parquet(
            folder / "users.parquet"
        )
        (folder / "dataset.json").write_text(json.dumps(self.facts, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> "Dataset":
        """Read a dataset folder and check it against its manifest.

        Raises:
            ArtifactError: When the folder is missing, damaged or not a dataset.
        """
        folder = Path(folder)
        artifacts.verify(folder, "dataset")
        # A path is a path, whatever brackets and stars are in it.
        table = pl.read_parquet(folder / "interactions.parquet", glob=False)
        users = pl.read_parquet(folder / "users.parquet", glob=False)
        return cls(
            catalog=Catalog.load(folder),
            user_ids=users["user_id"].to_list(),
            interactions=Interactions(
                user=table["user"].to_numpy().astype(np.int32),
                item=table["item"].to_numpy().astype(np.int32),
                time=table["time"].to_numpy().astype(np.int64),
                weight=table["weight"].to_numpy().astype(np.float32),
            ),
            part=table["part"].to_numpy().astype(np.int8),
            facts=json.loads((folder / "dataset.json").read_text(encoding="utf-8")),
        )
