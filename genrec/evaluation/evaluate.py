"""Measure lists of recommendations: predictions and a dataset in, a report out.

Nothing here knows how a list was made. Popularity counts and a language model go through the
same files, the same examples and the same metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from genrec.data.dataset import Dataset, Part
from genrec.data.histories import Histories
from genrec.evaluation import metrics
from genrec.evaluation.bootstrap import interval, resampled_means
from genrec.evaluation.comparable import (
    check_belongs,
    check_together,
    common_examples,
    known_cutoffs,
)
from genrec.evaluation.predictions import Predictions
from genrec.evaluation.results import Report, headline_cutoff
from genrec.evaluation.slices import by_history_length, by_popularity, slice_rows

REFERENCE = "sasrec"
TIE_RULE = "ranks count as the model wrote them; scores are not sorted again"
SAME_EXAMPLES_RULE = (
    "all rows are measured on the examples every model was asked for; where models were asked for "
    "different ones, full_rows holds each model on all of its own"
)


@dataclass(frozen=True)
class _Lists:
    """One model's entries on chosen examples, with the example as a position 0..n-1."""

    position: NDArray[np.int64]
    item: NDArray[np.int32]
    rank: NDArray[np.int32]
    ranks: NDArray[np.int64]  # int64[n], place of the target, 0 for a miss.


def evaluate(
    predictions: Sequence[Predictions],
    dataset: Dataset,
    cutoffs: Sequence[int],
    *,
    samples: int = 1000,
    seed: int = 42,
    reference: str = REFERENCE,
    quiet: bool = True,
) -> Report:
    """Measure the lists of one or more models against what happened next.

    Args:
        predictions: One a model; rows keep this order.
        dataset: The dataset the lists were made for.
        cutoffs: List lengths to measure at. Those longer than the lists that were asked for
            cannot be known and are left out; the report names them.
        samples: Bootstrap resamples for the intervals; 0 gives none.
        seed: Seed of the bootstrap.
        reference: Model to take differences to, when it is among the predictions.
        quiet: No progress bar.

    Raises:
        ConfigError: When no cutoff is left to measure at.
        DataError: When there are no predictions, a model comes twice, or the lists do not belong
            to the dataset or to each other.
    """
    part = check_together(predictions)
    histories = dataset.histories(part)
    items = len(dataset.catalog)
    for one in predictions:
        check_belongs(one, histories, items)
    kept = known_cutoffs(cutoffs, min(int(one.facts["k"]) for one in predictions))
    common = common_examples(predictions)
    chosen = histories.take(common)
    lists = [_restrict(one, common, chosen.target) for one in predictions]
    pairs = list(zip(predictions, lists, strict=True))
    rows = [
        _row(one, found, chosen, kept, items)
        for one, found in track(
            pairs, description="measure", console=Console(stderr=True), disable=quiet
        )
    ]
    values = [_headline_values(found, headline_cutoff(kept)) for found in lists]
    drawn = _resampled(values, chosen.user, samples, seed, quiet) if samples else None
    settings = {
        "cutoffs": kept,
        "cutoffs_left_out": sorted(set(cutoffs) - set(kept)),
        "bootstrap_samples": samples,
        "bootstrap_seed": seed,
        "reference": reference,
    }
    return Report(
        rows=rows if drawn is None else _with_intervals(rows, drawn),
        full_rows=_full_rows(predictions, histories, common, kept, items),
        differences=[] if drawn is None else _differences(rows, drawn, reference),
        slices=_slices(predictions, values, dataset, chosen),
        protocol=_protocol(predictions, dataset, histories, chosen) | settings,
        best_possible=_best_possible(dataset, part),
    )


def _best_possible(dataset: Dataset, part: Part) -> dict[str, float]:
    """Return what the rules of the embedded store allow; they are known for the test part only."""
    known = dataset.facts.get("best_possible", {}) if part == "test" else {}
    return {key: float(value) for key, value in known.items()}


def _restrict(one: Predictions, examples: NDArray[np.int64], targets: NDArray[np.int32]) -> _Lists:
    """Keep the lists of these examples (sorted, all asked for) and find the targets in them."""
    inside = np.isin(one.example, examples)
    position = np.searchsorted(examples, one.example[inside])
    item, rank = one.item[inside], one.rank[inside]
    return _Lists(position, item, rank, metrics.target_ranks(targets, position, item, rank))


def _row(
    one: Predictions, found: _Lists, chosen: Histories, cutoffs: Sequence[int], items: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"model": one.model, "examples": len(chosen)}
    for name, metric in metrics.RANK_METRICS.items():
        row |= {f"{name}@{k}": float(metric(found.ranks, k).mean()) for k in cutoffs}
    row |= {f"coverage@{k}": metrics.coverage(found.item, found.rank, k, items) for k in cutoffs}
    lengths = metrics.list_lengths(found.position, len(chosen))
    seen_position = np.repeat(np.arange(len(chosen)), chosen.lengths)
    return row | {
        "invalid_rate": metrics.invalid_rate(found.item),
        "duplicate_rate": metrics.duplicate_rate(found.position, found.item),
        "seen_rate": metrics.seen_rate(found.position, found.item, seen_position, chosen.items),
        "mean_length": float(lengths.mean()),
        "short_lists": float(np.mean(lengths < int(one.facts["k"]))),
        "seconds": float(one.facts["seconds"]),
        "seconds_examples": len(one.examples),
    }


def _headline_values(found: _Lists, k: int) -> dict[str, NDArray[np.float64]]:
    return {
        f"recall@{k}": metrics.recall(found.ranks, k),
        f"ndcg@{k}": metrics.ndcg(found.ranks, k),
    }


def _resampled(
    values: Sequence[Mapping[str, NDArray[np.float64]]],
    users: NDArray[np.int32],
    samples: int,
    seed: int,
    quiet: bool,
) -> list[dict[str, NDArray[np.float64]]]:
    """Return the resampled means of each model's metrics, float64[samples] each.

    All models see the same draws of users, so the differences of two models' means are paired.
    """
    keys = list(values[0])
    table = np.stack([columns[key] for columns in values for key in keys], axis=1)
    means = iter(resampled_means(table, users, samples, seed, quiet=quiet).T)
    return [{key: next(means) for key in keys} for _ in values]


def _with_intervals(
    rows: Sequence[dict[str, Any]], drawn: Sequence[Mapping[str, NDArray[np.float64]]]
) -> list[dict[str, Any]]:
    return [row | _bounds(means) for row, means in zip(rows, drawn, strict=True)]


def _bounds(means: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    bounds: dict[str, float] = {}
    for key, column in means.items():
        bounds[f"{key}_low"], bounds[f"{key}_high"] = interval(column)
    return bounds


def _differences(
    rows: Sequence[dict[str, Any]],
    drawn: Sequence[Mapping[str, NDArray[np.float64]]],
    reference: str,
) -> list[dict[str, Any]]:
    """Return each other model minus the reference; nothing when the reference was not measured."""
    names = [row["model"] for row in rows]
    if reference not in names:
        return []
    base = names.index(reference)
    differences: list[dict[str, Any]] = []
    for row, means in zip(rows, drawn, strict=True):
        if row["model"] == reference:
            continue
        moved = {key: column - drawn[base][key] for key, column in means.items()}
        differences.append(
            {"model": row["model"], "reference": reference}
            | {key: row[key] - rows[base][key] for key in means}
            | _bounds(moved)
        )
    return differences


def _slices(
    predictions: Sequence[Predictions],
    values: Sequence[Mapping[str, NDArray[np.float64]]],
    dataset: Dataset,
    chosen: Histories,
) -> list[dict[str, Any]]:
    slicings = (
        by_popularity(dataset.item_counts, chosen.target),
        by_history_length(chosen.lengths),
    )
    return [
        row
        for slicing in slicings
        for one, columns in zip(predictions, values, strict=True)
        for row in slice_rows(slicing, one.model, columns)
    ]


def _full_rows(
    predictions: Sequence[Predictions],
    histories: Histories,
    common: NDArray[np.int64],
    cutoffs: Sequence[int],
    items: int,
) -> list[dict[str, Any]]:
    """Return each model on all of its own examples; nothing when those are the same for all."""
    if all(len(one.examples) == len(common) for one in predictions):
        return []
    rows = []
    for one in predictions:
        own = np.sort(one.examples)
        chosen = histories.take(own)
        rows.append(_row(one, _restrict(one, own, chosen.target), chosen, cutoffs, items))
    return rows


def _protocol(
    predictions: Sequence[Predictions], dataset: Dataset, histories: Histories, chosen: Histories
) -> dict[str, Any]:
    facts = predictions[0].facts
    seen = np.repeat(chosen.target, chosen.lengths) == chosen.items
    owner = np.repeat(np.arange(len(chosen)), chosen.lengths)
    return {
        "part": facts["part"],
        "split": dataset.facts.get("split"),
        "source": dataset.facts.get("source"),
        "examples": len(chosen),
        "users": len(np.unique(chosen.user)),
        "examples_of_part": len(histories),
        "examples_asked": {one.model: len(one.examples) for one in predictions},
        "list_length": {one.model: int(one.facts["k"]) for one in predictions},
        "catalog_items": len(dataset.catalog),
        "exclude_seen": facts.get("exclude_seen"),
        "targets_seen_before": len(np.unique(owner[seen])) / len(chosen),
        "sample_seed": {one.model: one.facts.get("seed") for one in predictions},
        "targets": "one a list: the item that came next; no sampled negatives",
        "tie_rule": TIE_RULE,
        "same_examples_rule": SAME_EXAMPLES_RULE,
        "miss_rule": "an empty list, or one without the item, counts 0",
    }
