"""Lists for every user of a run, in one Parquet file, made shard by shard."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genrec import artifacts
from genrec.data.dataset import Dataset
from genrec.errors import DataError
from genrec.serving.recommendation import Recommendation
from genrec.serving.recommender import Recommender
from genrec.serving.rules import Rules
from genrec.serving.short_lists import warn_of_short_lists
from genrec.whole_file import replacing

logger = logging.getLogger(__name__)

# Users of a shard: what a killed job loses at most.
SHARD = 512
# What shards hold besides: the place of the user, and whether its scores are counts.
_OWN = {"user": pl.Int64, "counted": pl.Boolean}
SCHEMA = {"user_id": pl.String, "item_id": pl.String, "score": pl.Float32, "rank": pl.Int32}


def recommend_all(
    run_folder: Path,
    recommender: Recommender,
    output: Path,
    *,
    k: int = 10,
    rules: Rules | None = None,
    quiet: bool = False,
) -> Path:
    """Recommend for every user of a run, after all their events.

    Users whose histories are of about the same length share a shard, so that little is padded.
    Finished shards lie in ``OUTPUT.parts`` until the end; the same job goes on from them after a
    stop, another one begins anew.

    Args:
        run_folder: Has the dataset.
        recommender: What answers; of the same run, perhaps with a later catalogue.
        output: Parquet file to write: ``user_id``, ``item_id``, ``score``, ``rank`` (from 1), user
            by user as in the dataset. The file's metadata name the score (``genrec.score``).
        k: Items wanted for each user.
        rules: What the lists may hold.
        quiet: No progress bar.

    Returns:
        The file.

    Raises:
        ArtifactError: When the dataset is missing or damaged.
        DataError: When ``output`` is a folder.
        RequestError: When k or a rule cannot be used.
    """
    if output.is_dir():
        raise DataError(f"{output} is a folder; give the name of a Parquet file to write.")
    dataset = Dataset.load(run_folder / "dataset")
    rules = rules or Rules()
    # What cannot be answered is told before the shards of a stopped job are touched.
    recommender.recommend([[]], k, rules=rules)
    parts = _parts(run_folder, recommender, output, k, rules)
    start = _starts(dataset)
    order = np.argsort(np.diff(start), kind="stable")
    shards = [order[first : first + SHARD] for first in range(0, len(order), SHARD)]
    done, asked, begun = 0, 0, time.perf_counter()
    with _progress(quiet) as progress:
        task = progress.add_task("users", total=len(order))
        for number, users in enumerate(shards):
            path = parts / f"{number:06d}.parquet"
            if not path.is_file():
                _write_shard(path, dataset, start, users, recommender, k, rules)
                asked += len(users)
            done += len(users)
            rate = asked / max(time.perf_counter() - begun, 1e-9)
            progress.update(task, completed=done, description=f"users ({rate:,.0f} a second)")
    with replacing(output) as partial:
        frames = [pl.read_parquet(parts / f"{number:06d}.parquet") for number in range(len(shards))]
        whole = pl.concat([pl.DataFrame(schema={**SCHEMA, **_OWN}), *frames])
        facts = {
            "genrec.score": str(recommender.settings.get("score_kind", recommender.ranker.name))
        }
        whole.sort("user", "rank").drop(_OWN).write_parquet(partial, metadata=facts)
    shutil.rmtree(parts)
    lengths = np.bincount(whole["user"].to_numpy(), minlength=len(order))
    warn_of_short_lists(lengths, k, str(output))
    _warn_of_fallbacks(whole, output)
    logger.info("%s: lists for %d users, %.1f s", output, done, time.perf_counter() - begun)
    return output


def _parts(run_folder: Path, recommender: Recommender, output: Path, k: int, rules: Rules) -> Path:
    """Return the folder of the shards; those of another job are removed."""
    job = {
        "dataset": artifacts.read_manifest(run_folder / "dataset", "dataset").digest,
        "model": recommender.model_digest,
        "index": recommender.index_digest,
        "ranker": recommender.ranker.name,
        "settings": recommender.settings,
        "k": k,
        "rules": asdict(rules),
        "named": {name: recommender.rule_book.digest(name) for name in rules.named},
    }
    key = hashlib.sha256(json.dumps(job, sort_keys=True, default=list).encode()).hexdigest()
    parts = output.with_name(f"{output.name}.parts")
    mark = parts / "job.txt"
    if parts.exists() and (not mark.is_file() or mark.read_text() != key):
        logger.info("%s is of another job; starting afresh", parts)
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    with replacing(mark) as partial:
        partial.write_text(key)
    return parts


def _starts(dataset: Dataset) -> NDArray[np.int64]:
    """Return where the events of each user begin, int64[users + 1]."""
    users = np.arange(len(dataset.user_ids) + 1)
    return np.searchsorted(dataset.interactions.user, users).astype(np.int64)


def _write_shard(
    path: Path,
    dataset: Dataset,
    start: NDArray[np.int64],
    users: NDArray[np.int64],
    recommender: Recommender,
    k: int,
    rules: Rules,
) -> None:
    ids, items = dataset.catalog.item_ids, dataset.interactions.item
    histories = [
        [ids[row] for row in items[start[user] : start[user + 1]].tolist()]
        for user in users.tolist()
    ]
    answers = recommender.recommend(histories, k, rules=rules)
    with replacing(path) as partial:
        _table(dataset, users.tolist(), answers).write_parquet(partial)


def _table(
    dataset: Dataset, users: Sequence[int], answers: Sequence[Recommendation]
) -> pl.DataFrame:
    """Return one row an item of every list."""
    rows = [
        (dataset.user_ids[user], item.item_id, item.score, item.rank, user, answer.score == "count")
        for user, answer in zip(users, answers, strict=True)
        for item in answer.items
    ]
    return pl.DataFrame(rows, schema={**SCHEMA, **_OWN}, orient="row")


def _warn_of_fallbacks(whole: pl.DataFrame, output: Path) -> None:
    counted = whole.filter("counted")["user"].n_unique()
    if counted:
        logger.warning(
            "%s: %d users have no item left that the model knows; they got the most popular items, "
            "whose scores are counts.",
            output,
            counted,
        )


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet)
