"""Predictions of models that the benchmark makes itself, as ``genrec recommend`` writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.data.ranking import Ranking
from genrec.data.sample import sample
from genrec.evaluation.predictions import from_rankings


@dataclass(frozen=True)
class Wanted:
    """What a recipe predicts.

    Attributes:
        dataset: The dataset of the run.
        histories: All examples of the part.
        examples: int64[m], which of them are drawn.
    """

    dataset: Dataset
    histories: Histories
    examples: NDArray[np.int64]

    @classmethod
    def of(cls, run_folder: Path, recipe: Recipe) -> "Wanted":
        """Read it."""
        artifacts.verify(run_folder / "dataset", "dataset")
        dataset = Dataset.load(run_folder / "dataset")
        histories = dataset.histories(recipe.recommend.part)
        drawn = sample(len(histories), recipe.recommend.users, recipe.seed)
        return cls(dataset, histories, drawn)


def top(scores: NDArray[np.float32], k: int, excluded: NDArray[np.int32]) -> Ranking:
    """Return the k rows with the highest scores, ties by row; scores of excluded rows are lost."""
    scores[excluded] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]
    best = best[scores[best] > -np.inf].astype(np.int32)
    return Ranking(best, scores[best])


def write_predictions(
    run_folder: Path,
    recipe: Recipe,
    wanted: Wanted,
    name: str,
    inputs: Mapping[str, Path],
    rankings: Sequence[Ranking],
    *,
    seconds: float,
    invalid: int = 0,
) -> Path:
    """Write ``predictions``.

    Args:
        run_folder: Where to.
        recipe: Of the run.
        wanted: What was asked for.
        name: Name of the model.
        inputs: What the lists were made from.
        rankings: One for each of its examples.
        seconds: What making them took.
        invalid: Items in them that are not in the catalogue.
    """
    section = recipe.recommend
    dataset, histories, examples = wanted.dataset, wanted.histories, wanted.examples
    facts = {
        "part": section.part,
        "k": section.k,
        "seconds": seconds,
        "examples": len(examples),
        "exclude_seen": section.exclude_seen,
        "seed": recipe.seed,
        "invalid": invalid,
        "sampled": len(examples) < len(histories),
    }
    user_ids = [dataset.user_ids[user] for user in histories.user.tolist()]
    config = section.model_dump(mode="json")
    folder = run_folder / "predictions"
    with artifacts.writing(
        folder, "predictions", seed=recipe.seed, config=config, inputs=inputs
    ) as partial:
        from_rankings(name, examples, rankings, facts).save(
            partial, dataset.catalog.item_ids, user_ids
        )
    return folder
