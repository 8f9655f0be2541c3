"""What resembles the history in its texts: a baseline that knows no other people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_lists import Wanted, top, write_predictions

from genrec import artifacts
from genrec.cf.popularity import Popularity
from genrec.cf.request import check_request
from genrec.config import Recipe
from genrec.data.ranking import Ranking
from genrec.embeddings.table import EmbeddingTable
from genrec.serving.export import rank_all
from genrec.serving.shards import Shards

NAME = "content_knn"


@dataclass(frozen=True)
class ContentKnn:
    """Ranks items by the sum of the cosines of their text vectors with those of the history.

    Attributes:
        vectors: float32[n, d], one a catalogue row, of length 1.
        popularity: Answers where there is no history.
        decay: What an item of the history counts for less with every newer one, as by default for
            item neighbours.
    """

    vectors: NDArray[np.float32]
    popularity: Popularity
    decay: float = 0.5

    @property
    def name(self) -> str:
        """Name in tables."""
        return NAME

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank the items of the catalogue; see ``RankingModel.rank``."""
        excluded = check_request(histories, k, exclude, len(self.vectors))
        return [
            self._rank_one(history, k, rows) if len(history) else self.popularity.top(k, rows)
            for history, rows in zip(histories, excluded, strict=True)
        ]

    def _rank_one(self, history: NDArray[np.int32], k: int, excluded: NDArray[np.int32]) -> Ranking:
        weights = self.decay ** np.arange(len(history) - 1, -1, -1, dtype=np.float32)
        # The sum of the cosines is the cosine with the weighted sum, but for its length.
        return top(self.vectors @ (weights @ self.vectors[history]), k, excluded)


def recommend(run_folder: Path, recipe: Recipe) -> Path:
    """Write ``predictions`` of this model, as ``genrec recommend`` does of its own."""
    section = recipe.recommend
    inputs = {name: run_folder / name for name in ("dataset", "text")}
    wanted = Wanted.of(run_folder, recipe)
    artifacts.verify(inputs["text"], "text")
    config = section.model_dump(mode="json")
    digests = {name: artifacts.read_manifest(path).digest for name, path in inputs.items()}
    shards = Shards(
        run_folder / "predictions.checkpoint",
        {"model": NAME, "config": config, "seed": recipe.seed, "inputs": digests},
    )
    vectors = EmbeddingTable.load(inputs["text"]).normalised()
    lists = rank_all(
        NAME,
        lambda: ContentKnn(vectors, Popularity.fit(wanted.dataset)),
        wanted.histories.take(wanted.examples),
        items=len(wanted.dataset.catalog),
        k=section.k,
        exclude_seen=section.exclude_seen,
        shards=shards,
        quiet=True,
    )
    folder = write_predictions(
        run_folder,
        recipe,
        wanted,
        NAME,
        inputs,
        lists.rankings,
        seconds=lists.seconds,
        invalid=lists.invalid,
    )
    shards.remove()
    return folder
