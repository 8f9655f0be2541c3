"""Ranked items for many users, one file a model: what evaluation reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data.ranking import Ranking


@dataclass(frozen=True)
class Predictions:
    """One model's lists for n examples of a part.

    Attributes:
        model: Name of the model in tables.
        example: int64[m], position of the example in ``dataset.histories(part)``.
        item: int32[m], catalogue row, or -1 for a generated list entry that is no item.
        score: float32[m].
        rank: int32[m], from 1; rows are sorted by example, then rank.
        examples: int64[n], all examples that were asked for, also those with an empty list.
        facts: part, k, seconds, whether seen items were excluded, seed of the sample.
    """

    model: str
    example: NDArray[np.int64]
    item: NDArray[np.int32]
    score: NDArray[np.float32]
    rank: NDArray[np.int32]
    examples: NDArray[np.int64]
    facts: dict[str, Any]

    def save(self, folder: Path, item_ids: Sequence[str], user_ids: Sequence[str]) -> None:
        """Write ``MODEL.parquet`` and ``MODEL.json``.

        Args:
            folder: Folder to write into.
            item_ids: Outside id of each catalogue row.
            user_ids: Outside user id of each example in ``dataset.histories(part)``.
        """
        ids = np.asarray([*item_ids, None], dtype=object)
        users = np.asarray(user_ids, dtype=object)
        pl.DataFrame(
            {
                "user_id": pl.Series(users[self.example].tolist(), dtype=pl.String),
                "item_id": pl.Series(ids[self.item].tolist(), dtype=pl.String),
                "score": self.score,
                "rank": self.rank,
                "example": self.example,
                "item": self.item,
            }
        ).write_parquet(folder / f"{self.model}.parquet")
        body = {"model": self.model, "examples": self.examples.tolist(), "facts": self.facts}
        (folder / f"{self.model}.json").write_text(json.dumps(body) + "\n")

    @classmethod
    def load(cls, folder: Path, model: str) -> "Predictions":
        """Read the lists of one model."""
        table = pl.read_parquet(folder / f"{model}.parquet")
        body = json.loads((folder / f"{model}.json").read_text(encoding="utf-8"))
        return cls(
            model=model,
            example=table["example"].to_numpy(),
            item=table["item"].to_numpy().astype(np.int32),
            score=table["score"].to_numpy().astype(np.float32),
            rank=table["rank"].to_numpy().astype(np.int32),
            examples=np.asarray(body["examples"], dtype=np.int64),
            facts=body["facts"],
        )


def from_rankings(
    model: str, examples: NDArray[np.int64], rankings: Sequence[Ranking], facts: dict[str, Any]
) -> Predictions:
    """Collect rankings, one an example, into predictions."""
    lengths = [len(ranking) for ranking in rankings]
    empty = not sum(lengths)
    return Predictions(
        model=model,
        example=np.repeat(examples, lengths).astype(np.int64),
        item=np.concatenate([r.items for r in rankings]).astype(np.int32)
        if not empty else np.zeros(0, dtype=np.int32),
        score=np.concatenate([r.scores for r in rankings]).astype(np.float32)
        if not empty else np.zeros(0, dtype=np.float32),
        rank=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32)
        if not empty else np.zeros(0, dtype=np.int32),
        examples=examples.astype(np.int64),
        facts=facts,
    )
