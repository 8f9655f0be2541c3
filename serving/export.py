"""Stage recommend: ranked lists for many users, from every model of the table."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from genrec import __version__, artifacts
from genrec.cf.load import loader
from genrec.config import Baseline, Recipe, RecommendConfig
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.data.ranking import Ranking, RankingModel
from genrec.data.sample import sample
from genrec.errors import ArtifactError, DataError
from genrec.evaluation.predictions import from_rankings
from genrec.model.code_head import trained_score
from genrec.model.generative import saved_facts, saved_shares
from genrec.runtime import Runtime
from genrec.semantic_ids.generations import FOLDER
from genrec.serving.engines import load_molar, load_ranker
from genrec.serving.shards import Shards
from genrec.serving.short_lists import warn_of_short_lists

logger = logging.getLogger(__name__)

# Histories ranked between two writes of the checkpoint: what a killed job loses at most.
CHUNK = 512


@dataclass(frozen=True)
class Lists:
    """One model's lists, as they came, with what is no valid entry turned into -1.

    Attributes:
        rankings: One an example.
        seconds: Time the model took, resumed parts included.
        invalid: Entries that are no item of the catalogue, repeat one or were excluded.
    """

    rankings: list[Ranking]
    seconds: float
    invalid: int


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Rank items for the users of a part with every model of the recipe; write ``predictions``.

    Args:
        run_folder: Holds ``dataset``, ``cf`` and ``model``.
        recipe: The section ``recommend`` is read, and the seed.
        runtime: Device, number type, progress bars.

    Returns:
        The folder of the predictions.

    Raises:
        ArtifactError: When an input is missing, damaged or made from another dataset.
        DataError: When the part has no event to predict.
    """
    section = recipe.recommend
    dataset = Dataset.load(run_folder / "dataset")
    if (run_folder / FOLDER).is_dir():
        logger.info(
            "items are those the models were trained with: lists that are measured leave out what "
            "%s adds or removes; `genrec recommend --history` and `genrec serve` follow it.",
            run_folder / FOLDER,
        )
    inputs = _inputs(run_folder, section)
    histories = dataset.histories(section.part)
    if len(histories) == 0:
        raise DataError(
            f"the {section.part} part of the dataset has no event to predict; choose "
            "another part, or another split in the data section."
        )
    examples = sample(len(histories), section.users, recipe.seed)
    loaders = {name: _loader(name, inputs, dataset, section, runtime) for name in section.models}
    shards = Shards(
        run_folder / "predictions.checkpoint",
        {
            "config": section.model_dump(mode="json"),
            "seed": recipe.seed,
            "version": __version__,
            "runtime": [runtime.engine, runtime.device, runtime.dtype],
            "inputs": {name: artifacts.read_manifest(path).digest for name, path in inputs.items()},
        },
    )
    user_ids = [dataset.user_ids[user] for user in histories.user.tolist()]
    folder = run_folder / "predictions"
    with artifacts.writing(
        folder,
        "predictions",
        seed=recipe.seed,
        config=section.model_dump(mode="json"),
        inputs=inputs,
    ) as partial:
        for name, load in loaders.items():
            lists = rank_all(
                name,
                load,
                histories.take(examples),
                items=len(dataset.catalog),
                k=section.k,
                exclude_seen=section.exclude_seen,
                shards=shards,
                quiet=runtime.quiet,
            )
            lengths = np.array([len(ranking) for ranking in lists.rankings])
            warn_of_short_lists(lengths, section.k, name)
            facts = _facts(section, recipe.seed, lists, len(examples), len(histories))
            if name == "genrec":
                facts["engine"] = runtime.engine
                facts |= _scores_of(inputs["model"], section)
            predictions = from_rankings(name, examples, lists.rankings, facts)
            predictions.save(partial, dataset.catalog.item_ids, user_ids)
            logger.info("%s: %d lists in %.1f s", name, len(examples), lists.seconds)
    shards.remove()
    return folder


def rank_all(
    name: str,
    load: Callable[[], RankingModel],
    histories: Histories,
    *,
    items: int,
    k: int,
    exclude_seen: bool,
    shards: Shards,
    quiet: bool = False,
) -> Lists:
    """Rank items for all histories, chunk by chunk, taking finished chunks from the shards.

    Args:
        name: Name of the model; names its shards.
        load: Makes the model; called only when a chunk is missing.
        histories: What to rank for.
        items: Number of items in the catalogue.
        k: Items in a list.
        exclude_seen: Leave the items of a history out of its list.
        shards: Where finished chunks are kept.
        quiet: No progress bar.
    """
    model: RankingModel | None = None
    rankings: list[Ranking] = []
    seconds, invalid = 0.0, 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task(f"Ranking with {name}", total=len(histories))
        for start in range(0, len(histories), CHUNK):
            chunk = [histories[row] for row in range(start, min(start + CHUNK, len(histories)))]
            exclude = [np.unique(history) for history in chunk] if exclude_seen else None
            piece = f"{name}-{start:09d}"
            done = shards.load(piece)
            if done is None:
                model = model or load()
                begun = time.perf_counter()
                found = model.rank(chunk, k, exclude=exclude)
                done = found, time.perf_counter() - begun
                shards.save(piece, *done)
            checked = [
                mark_invalid(ranking, items, k, None if exclude is None else exclude[row])
                for row, ranking in enumerate(done[0])
            ]
            invalid += sum(int((ranking.items < 0).sum()) for ranking in checked)
            rankings += checked
            seconds += done[1]
            progress.advance(task, len(chunk))
    if invalid:
        logger.warning("%s returned %d entries that are no valid recommendation", name, invalid)
    return Lists(rankings, seconds, invalid)


def mark_invalid(
    ranking: Ranking, items: int, k: int, excluded: NDArray[np.int32] | None
) -> Ranking:
    """Return the list with -1 for every entry that a model should not have returned.

    That is an entry outside the catalogue, one that is there already, one that was excluded, and
    any after the k-th. They stay in the list, so that they are counted and not hidden.
    """
    rows = ranking.items.astype(np.int64)
    wrong = (rows < 0) | (rows >= items)
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(rows, return_index=True)[1]] = True
    wrong |= ~first
    wrong[k:] = True
    if excluded is not None:
        wrong |= np.isin(rows, excluded)
    return Ranking(np.where(wrong, -1, rows).astype(np.int32), ranking.scores)


def _inputs(run_folder: Path, section: RecommendConfig) -> dict[str, Path]:
    """Return the folders that the wanted models need, all made from the run's dataset."""
    inputs = {"dataset": run_folder / "dataset"}
    if set(section.models) - {"genrec", "molar"}:
        inputs["cf"] = run_folder / "cf"
    if "genrec" in section.models:
        inputs["model"] = run_folder / "model"
    if "molar" in section.models:
        inputs["molar"] = run_folder / "molar"
    for name, folder in inputs.items():
        if name != "dataset":
            artifacts.require_made_from(folder, name, inputs["dataset"])
    return inputs


def _loader(
    name: Baseline | Literal["genrec", "molar"],
    inputs: Mapping[str, Path],
    dataset: Dataset,
    section: RecommendConfig,
    runtime: Runtime,
) -> Callable[[], RankingModel]:
    """Return what makes the model with this name when it is needed."""
    if name == "genrec":
        return lambda: _generative(inputs["model"], dataset, section, runtime)
    if name == "molar":
        return lambda: load_molar(inputs["molar"], runtime)[0]
    return loader(inputs["cf"], name, runtime.torch_device())


def _generative(
    folder: Path, dataset: Dataset, section: RecommendConfig, runtime: Runtime
) -> RankingModel:
    ranker = load_ranker(
        folder,
        runtime,
        beam=max(section.beam, section.k),
        batch_size=section.batch_size,
        new_item_weight=section.new_item_weight,
        score=section.score,
        dense_weight=section.dense_weight,
    )
    if ranker.model.catalog.item_ids != dataset.catalog.item_ids:
        raise ArtifactError(
            f"{folder} names other items than the run's dataset; run `genrec train` again."
        )
    return ranker


def _scores_of(folder: Path, section: RecommendConfig) -> dict[str, Any]:
    """Return what the scores of a generative model's lists are."""
    shares = saved_shares(folder)
    if shares is None:
        return {"score": section.score or trained_score(saved_facts(folder))}
    weight = shares["weight"] if section.dense_weight is None else section.dense_weight
    return {"score": "sum", "dense_weight": weight, "cf_share": shares["cf_share"]}


def _facts(
    section: RecommendConfig, seed: int, lists: Lists, asked: int, available: int
) -> dict[str, Any]:
    return {
        "part": section.part,
        "k": section.k,
        "beam": section.beam,
        "seconds": lists.seconds,
        "examples": asked,
        "exclude_seen": section.exclude_seen,
        "seed": seed,
        "sampled": asked < available,
        "invalid": lists.invalid,
    }
