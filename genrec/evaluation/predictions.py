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
from genrec.errors import ArtifactError, DataError

COLUMNS = {
    "user_id": pl.String,
    "item_id": pl.String,
    "score": pl.Float32,
    "rank": pl.Int32,
    "example": pl.Int64,
    "item": pl.Int32,
}
NEEDED_FACTS = ("part", "k", "seconds")


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
                "user_id": users[self.example].tolist(),
                "item_id": ids[self.item].tolist(),
                "score": self.score,
                "rank": self.rank,
                "example": self.example,
                "item": self.item,
            },
            schema=COLUMNS,
        ).write_parquet(folder / f"{self.model}.parquet")
        body = {"model": self.model, "examples": self.examples.tolist(), "facts": self.facts}
        (folder / f"{self.model}.json").write_text(json.dumps(body) + "\n")

    @classmethod
    def load(cls, folder: Path, model: str) -> "Predictions":
        """Read the lists of one model and check that they are lists.

        Raises:
            ArtifactError: When a file is missing, damaged or was not written by ``save``.
        """
        table = _read_table(folder / f"{model}.parquet")
        body = _read_body(folder / f"{model}.json", model)
        predictions = cls(
            model=model,
            example=table["example"].to_numpy(),
            item=table["item"].to_numpy().astype(np.int32),
            score=table["score"].to_numpy().astype(np.float32),
            rank=table["rank"].to_numpy().astype(np.int32),
            examples=np.asarray(body["examples"], dtype=np.int64),
            facts=body["facts"],
        )
        try:
            check(predictions)
        except DataError as error:
            raise ArtifactError(f"{folder / model}.parquet: {error}") from error
        return predictions


def from_rankings(
    model: str, examples: NDArray[np.int64], rankings: Sequence[Ranking], facts: dict[str, Any]
) -> Predictions:
    """Collect rankings, one an example, into predictions.

    Raises:
        DataError: When there are more or fewer rankings than examples.
    """
    if len(rankings) != len(examples):
        raise DataError(
            f"{len(rankings)} rankings for {len(examples)} examples; give one ranking an example, "
            "empty where there is nothing to recommend."
        )
    order = np.argsort(examples, kind="stable")
    sorted_rankings = [rankings[int(position)] for position in order]
    lengths = [len(ranking) for ranking in sorted_rankings]
    empty = not sum(lengths)
    return Predictions(
        model=model,
        example=np.repeat(examples[order], lengths).astype(np.int64),
        item=np.concatenate([r.items for r in sorted_rankings]).astype(np.int32)
        if not empty
        else np.zeros(0, dtype=np.int32),
        score=np.concatenate([r.scores for r in sorted_rankings]).astype(np.float32)
        if not empty
        else np.zeros(0, dtype=np.float32),
        rank=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32)
        if not empty
        else np.zeros(0, dtype=np.int32),
        examples=examples.astype(np.int64),
        facts=facts,
    )


def models_in(folder: Path) -> list[str]:
    """Return the names of the models a predictions folder holds lists of, in alphabetical order.

    Raises:
        ArtifactError: When it holds none.
    """
    models = sorted(path.stem for path in folder.glob("*.parquet"))
    if not models:
        raise ArtifactError(
            f"{folder} holds no MODEL.parquet; run `genrec recommend` to write the lists."
        )
    return models


def check(predictions: Predictions) -> None:
    """Check that predictions are lists: known examples, ranks 1, 2, 3 and so on in each.

    Raises:
        DataError: When they are not; says what is wrong and where.
    """
    name = predictions.model
    missing = [key for key in NEEDED_FACTS if key not in predictions.facts]
    if missing:
        raise DataError(
            f"the facts of {name!r} lack {', '.join(missing)}; expected all of "
            f"{', '.join(NEEDED_FACTS)}. Run `genrec recommend` again."
        )
    if len(np.unique(predictions.examples)) != len(predictions.examples):
        raise DataError(
            f"{name!r} names an example more than once among those asked for; each "
            "may be asked for once. Run `genrec recommend` again."
        )
    foreign = np.setdiff1d(predictions.example, predictions.examples)
    if len(foreign):
        raise DataError(
            f"{name!r} has a list for example {foreign[0]}, which "
            "was not asked for. Run `genrec recommend` again."
        )
    if (predictions.item < -1).any():
        raise DataError(
            f"{name!r} names item {predictions.item.min()}; expected a catalogue row, "
            "or -1 for no item. Run `genrec recommend` again."
        )
    example, rank = predictions.example, predictions.rank
    first = np.ones(len(example), dtype=bool)
    first[1:] = example[1:] != example[:-1]
    expected = np.ones(len(rank), dtype=np.int64)
    expected[1:] = np.where(first[1:], 1, rank[:-1].astype(np.int64) + 1)
    wrong = (rank != expected) | np.append(False, example[1:] < example[:-1])[: len(example)]
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"row {row} of {name!r} has rank {rank[row]} in example {example[row]}; "
            "expected rows sorted by example, then ranks 1, 2, 3 without a gap. "
            "Run `genrec recommend` again."
        )


def _read_table(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; run `genrec recommend` to write the lists.")
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArtifactError(
            f"{path} cannot be read as Parquet ({error}); it is damaged or cut short. "
            "Run `genrec recommend` again."
        ) from error
    found = dict(table.schema)
    wrong = [name for name, kind in COLUMNS.items() if found.get(name) != kind]
    if wrong:
        given = ", ".join(f"{name} {kind}" for name, kind in found.items())
        expected = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        raise ArtifactError(
            f"{path} has columns {given}; expected {expected}. It was not written by "
            "`genrec recommend`: put a file of yours elsewhere and run the verb again."
        )
    nulls = [name for name in ("score", "rank", "example", "item") if table[name].null_count()]
    if nulls:
        raise ArtifactError(
            f"{path} has empty cells in {', '.join(nulls)}; run `genrec recommend` again."
        )
    return table


def _read_body(path: Path, model: str) -> dict[str, Any]:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; run `genrec recommend` to write the lists.")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(
            f"{path} is not JSON ({error}); run `genrec recommend` again."
        ) from error
    whole = (
        isinstance(body, dict)
        and isinstance(body.get("facts"), dict)
        and isinstance(body.get("examples"), list)
        and all(isinstance(example, int) for example in body["examples"])
    )
    if not whole or body.get("model") != model:
        raise ArtifactError(
            f"{path} does not describe {model!r}; expected model, examples (integers) and facts. "
            "Run `genrec recommend` again."
        )
    return dict(body)
