"""What a finished run folder of the quality benchmark says, as one result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_plan import Job
from safetensors import safe_open

from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.errors import DataError
from genrec.evaluation import metrics
from genrec.evaluation.bootstrap import interval, resampled_means
from genrec.evaluation.predictions import Predictions
from genrec.evaluation.results import Report
from genrec.model.generative import saved_facts

Record = dict[str, Any]
WITH_INTERVAL = ("recall@10", "ndcg@10")
METRICS = (*WITH_INTERVAL, "recall@50")
# What trains in passes: where its log lies, and the files with its weights.
TRAINED_IN_PASSES = {
    "sasrec": ("cf/training.json", "cf/sasrec.safetensors"),
    "transition_sasrec": ("cf/transition_sasrec.json", "cf/transition_sasrec.safetensors"),
    "lightgcn": ("cf/lightgcn.json", "cf/lightgcn.safetensors"),
    "bpr": ("cf/bpr.json", "cf/bpr.safetensors"),
    "molar": ("molar/training.json", "molar/*.safetensors"),
}
# The graph models log some of their passes only.
LOGS_ALL_PASSES = ("sasrec", "transition_sasrec", "molar")


def measure(job: Job, folder: Path) -> Record:
    """Return the figures of a job and what its training cost.

    Args:
        job: The measurement.
        folder: Its run folder, with a report.

    Returns:
        ``recall@10``, ``ndcg@10`` and their intervals over users (``_low``, ``_high``),
        ``recall@50``, ``examples``, ``history`` (items read), ``list_seconds``; where they are
        known ``tokens_read``, ``train_seconds``, ``parameters``, ``validation_ndcg@10``, and the
        ``curve``: tokens, seconds and validation NDCG@10 at each validation.
    """
    report = Report.load(folder / "report")
    if len(report.rows) != 1:
        raise DataError(f"{folder} compares {report.models}; a row of the benchmark is one model.")
    row = report.rows[0]
    found = row if job.examples == "all" else cold_users(folder, str(row["model"]), job)
    ends = [f"{name}{end}" for name in WITH_INTERVAL for end in ("_low", "_high")]
    record = {name: found[name] for name in (*METRICS, *ends) if name in found}
    record |= {"examples": found["examples"], "list_seconds": round(row["seconds"], 2)}
    name = str(row["model"])
    record["history"] = _history(name, job)
    if name == "genrec":
        return record | _of_model(folder / "model")
    return record | _in_passes(folder, name)


def _history(model: str, job: Job) -> int | str:
    """Return how many of the newest items of a history a model reads."""
    read: dict[str, int | str] = {
        "popularity": "none",
        "trend": "none",
        "transition": 1,
        "sasrec": job.recipe.cf.max_history,
        "transition_sasrec": job.recipe.cf.max_history,
        "molar": job.recipe.molar.max_history,
        "genrec": job.recipe.train.max_history,
    }
    return read.get(model, "all")


def cold_users(folder: Path, model: str, job: Job) -> Record:
    """Return the figures over examples of users of whom no event was trained on."""
    dataset = Dataset.load(folder / "dataset")
    histories = dataset.histories(job.recipe.recommend.part)
    cold = ~np.isin(histories.user, dataset.sequences().user)
    return figures_of(Predictions.load(folder / "predictions", model), histories, cold, job)


def figures_of(
    lists: Predictions, histories: Histories, chosen: NDArray[np.bool_], job: Job
) -> Record:
    """Return the figures of lists over some examples.

    Args:
        lists: One model's lists.
        histories: All examples of the part.
        chosen: bool[n], which of them count; those that were not asked for never do.
        job: Says how often to resample, and the seed.

    Raises:
        DataError: When no example is left.
    """
    examples = np.sort(lists.examples[chosen[lists.examples]])
    if not len(examples):
        raise DataError(f"{job.folder_name} has no example of a cold user; take another split.")
    inside = np.isin(lists.example, examples)
    place = np.searchsorted(examples, lists.example[inside])
    ranks = metrics.target_ranks(
        histories.target[examples], place, lists.item[inside], lists.rank[inside]
    )
    values = {
        "recall@10": metrics.recall(ranks, 10),
        "ndcg@10": metrics.ndcg(ranks, 10),
        "recall@50": metrics.recall(ranks, 50),
    }
    found: Record = {name: float(column.mean()) for name, column in values.items()}
    samples = job.recipe.evaluate.bootstrap
    if samples:
        table = np.stack([values[name] for name in WITH_INTERVAL], axis=1)
        means = resampled_means(table, histories.user[examples], samples, job.seed)
        for name, column in zip(WITH_INTERVAL, means.T, strict=True):
            found[f"{name}_low"], found[f"{name}_high"] = interval(column)
    return found | {"examples": len(examples)}


def _of_model(folder: Path) -> Record:
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    curve = [
        {
            "tokens": entry["tokens_read"],
            "seconds": round(entry["train_seconds"], 1),
            "ndcg@10": entry["eval_ndcg@10"],
        }
        for entry in log
        if "eval_ndcg@10" in entry and "tokens_read" in entry
    ]
    facts = saved_facts(folder)
    figures: Record = {name: facts[name] for name in ("parameters", "trained_parameters")}
    if curve:
        figures |= {
            "tokens_read": curve[-1]["tokens"],
            "train_seconds": curve[-1]["seconds"],
            "validation_ndcg@10": max(point["ndcg@10"] for point in curve),
            "curve": curve,
        }
    return figures


def _in_passes(run_folder: Path, name: str) -> Record:
    if name not in TRAINED_IN_PASSES:
        return {}
    log, weights = TRAINED_IN_PASSES[name]
    body = json.loads((run_folder / log).read_text(encoding="utf-8"))
    best = [entry for entry in body["epochs"] if entry["epoch"] == body["best_epoch"]]
    files = sorted(run_folder.glob(weights))
    figures: Record = {"parameters": sum(parameters(path) for path in files)}
    if best and best[0]["ndcg_at_10"] is not None:
        figures["validation_ndcg@10"] = best[0]["ndcg_at_10"]
    if name in LOGS_ALL_PASSES:
        figures["train_seconds"] = round(sum(entry["seconds"] for entry in body["epochs"]), 1)
    return figures


def parameters(path: Path) -> int:
    """Count the numbers in a safetensors file."""
    with safe_open(path, framework="numpy") as file:
        return sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
