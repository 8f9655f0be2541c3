"""A ranking model whose answers can be worked out by hand, and a catalogue of named items."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from genrec.data.catalog import Catalog
from genrec.data.ranking import Ranking
from genrec.serving.recommender import Recommender

COUNTS = np.array([5, 1, 9, 9, 0, 2], dtype=np.int64)


def catalog(n: int = 6) -> Catalog:
    ids = [f"i{row}" for row in range(n)]
    titles = [f"Title {row}" for row in range(n)]
    return Catalog(pl.DataFrame({"item_id": ids, "title": titles, "text": titles}))


class NextRows:
    """After row r come r + 1, r + 2, ... round the catalogue, scored -1, -2, ..."""

    name = "next_rows"

    def __init__(self, n: int = 6) -> None:
        self.n = n
        self.calls: list[int] = []

    def rank(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        *,
        exclude: Sequence[np.ndarray] | None = None,
    ) -> list[Ranking]:
        self.calls.append(len(histories))
        answers = []
        for number, history in enumerate(histories):
            last = int(history[-1]) if len(history) else -1
            rows = ((last + 1 + np.arange(self.n)) % self.n).astype(np.int32)
            if exclude is not None:
                rows = rows[~np.isin(rows, exclude[number])]
            rows = rows[:k]
            answers.append(Ranking(rows, -np.arange(1, len(rows) + 1, dtype=np.float32)))
        return answers


def recommender(ranker: NextRows | None = None) -> Recommender:
    return Recommender(
        ranker or NextRows(), catalog(), COUNTS, model_digest="a" * 64, index_digest="b" * 64
    )
