"""Stage data: read, check, filter, sort and split the interactions; make the catalogue."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from genrec import artifacts
from genrec.config import DataConfig, Recipe, SplitConfig
from genrec.data import statistics
from genrec.data.assemble import keep_events, number_events
from genrec.data.data_report import write_report
from genrec.data.dataset import Dataset
from genrec.data.detect import open_source
from genrec.data.item_table import ItemTable, normalise_items
from genrec.data.source import Items, Source, one_block
from genrec.data.split import split
from genrec.data.synthetic import Store, best_possible, generate_store
from genrec.data.validate import POSITION, check
from genrec.errors import DataError
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)

TIE_RULE = "ties in time are broken by input order"


@dataclass(frozen=True)
class Prepared:
    """A dataset, the rows that are not in it and why, and all counts of the way there."""

    dataset: Dataset
    quarantine: pl.DataFrame
    report: dict[str, Any]


def _require_times(unit: str, method: str, path: str) -> None:
    """Refuse to cut by time where the source only has an order."""
    if unit == POSITION and method == "temporal":
        raise DataError(
            f"{path} has no times, so it cannot be split by time; use --set "
            "data.split.method=leave_one_out, or name a time column with data.columns.timestamp."
        )


def _require_weights(has_weight: bool, minimum_weight: float | None, path: str) -> None:
    """Refuse to drop light events where the source has no weights."""
    if minimum_weight is not None and not has_weight:
        raise DataError(
            f"data.minimum_weight is {minimum_weight:g}, but {path} has no column of weights; name "
            "it with --set data.columns.weight=..., or set data.minimum_weight=null."
        )


def _span(seconds: NDArray[np.int64], unit: str) -> dict[str, Any]:
    if unit == POSITION:
        return {}
    first, last = (datetime.fromtimestamp(int(s), UTC) for s in (seconds.min(), seconds.max()))
    return {
        "first": f"{first:%Y-%m-%d %H:%M:%S}",
        "last": f"{last:%Y-%m-%d %H:%M:%S}",
        "median_second": int(np.median(seconds)),
    }


def prepare(
    source: Source,
    *,
    core: int = 5,
    minimum_weight: float | None = None,
    deduplicate: str = "none",
    maximum_quarantined: float = 0.5,
    split_config: SplitConfig | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Make a dataset from an opened source.

    The catalogue holds the items with kept events only, in the order of the item file; items the
    file lacks follow in order of first appearance, with their id as title and no text. Users are
    in order of first appearance in the source.

    Args:
        source: An opened source.
        core: Fewest events of every kept user and item; 0 keeps all.
        minimum_weight: Drop lighter events.
        deduplicate: ``none``, ``consecutive`` or ``pair``; judged before the core.
        maximum_quarantined: Largest share of rows that may be unusable, 0 to 1.
        split_config: How to split; leave-one-out by default.
        seed: Seed of the split.
        progress: Called with the number of rows read so far.

    Raises:
        DataError: When the source cannot be used, or nothing is left of it.
    """
    rule = split_config or SplitConfig()
    checked = check(source, maximum_quarantined, progress)
    items = normalise_items(source.items) if source.items else None
    _require_times(checked.time_unit, rule.method, source.path)
    _require_weights(checked.has_weight, minimum_weight, source.path)
    kept = keep_events(checked, minimum_weight, deduplicate, core)
    catalog, user_ids, events, missing = number_events(
        kept, checked, items.table if items else None
    )
    part = split(events, rule.method, **rule.model_dump(exclude={"method"}), seed=seed)
    quarantine = pl.concat([checked.quarantine, *([items.broken] if items else [])])
    report: dict[str, Any] = {
        "source": source.path,
        "format": source.format,
        "split": rule.method,
        "notes": list(source.notes),
        "rows": {
            "read": checked.rows_read,
            "quarantined": checked.quarantine.height,
            "empty_lines": checked.empty_lines,
            "dropped": kept.dropped,
            "kept": len(events),
        },
        "quarantine_reasons": _counts(quarantine["reason"]),
        "time_unit": checked.time_unit,
        "tie_rule": TIE_RULE,
        "item_file": _item_counts(source.items, items, len(catalog), missing),
        **statistics.measure(catalog, len(user_ids), events, kept.time, part),
    }
    report["times"] = _span(events.time, checked.time_unit)
    report["warnings"] = statistics.warnings_of(report)
    names = ("source", "format", "split", "users", "items", "tie_rule", "time_unit")
    facts = {name: report[name] for name in names} | {"interactions": len(events)}
    facts["parts"] = {name: counts["events"] for name, counts in report["parts"].items()}
    return Prepared(Dataset(catalog, user_ids, events, part, facts), quarantine, report)


def _counts(reasons: pl.Series) -> dict[str, int]:
    table = reasons.value_counts(sort=True).sort(["count", "reason"], descending=[True, False])
    return dict(table.iter_rows())


def _item_counts(
    raw: Items | None, items: ItemTable | None, kept: int, missing: int
) -> dict[str, Any]:
    if raw is None or items is None:
        return {"rows": 0, "duplicates": 0, "broken": 0, "without_events": 0, "missing": missing,
                "text_columns": []}  # fmt: skip
    return {
        "rows": raw.table.height + raw.broken.height,
        "duplicates": items.duplicates,
        "broken": items.broken.height,
        "without_events": items.table.height - (kept - missing),
        "missing": missing,
        "text_columns": list(items.text_columns),
    }


def store_source(store: Store) -> Source:
    """Return the embedded store as a source; its ready-made text is taken as it is."""
    return Source(
        format="store",
        path="embedded store",
        blocks=lambda: one_block("embedded store", store.interactions),
        items=Items(store.items, "title", ["text"]),
    )


def _best_possible(store: Store, dataset: Dataset) -> dict[str, float]:
    """Return the best metrics any recommender can reach on the test events of the store."""
    examples = dataset.histories("test")
    ids = dataset.catalog.item_ids
    return best_possible(
        store,
        [dataset.user_ids[user] for user in examples.user],
        [ids[item] for item in examples.target],
        ids,
    )


def _is_store(config: DataConfig) -> bool:
    return config.format == "store" or (config.format == "auto" and config.path is None)


def _require_one_source(config: DataConfig) -> None:
    """Refuse a recipe that asks for the embedded store and for a file."""
    if config.format == "store" and config.path is not None:
        raise DataError(
            f"data.format is store, which is generated, but data.path is {config.path}; set "
            "data.path=null for the embedded store, or data.format=auto to read the path."
        )


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Prepare the dataset of a run and write ``dataset/``.

    Besides the dataset the folder holds ``report.md``, ``report.json`` and ``quarantine.parquet``.

    Raises:
        DataError: When the source cannot be used; the message says what to do.
    """
    config = recipe.data
    _require_one_source(config)
    store = None
    if _is_store(config):
        store = generate_store(config.store.users, config.store.items, runtime.seed)
    source = store_source(store) if store else open_source(config)
    folder = run_folder / "dataset"
    with artifacts.writing(
        folder, "dataset", seed=runtime.seed, config=config.model_dump(mode="json")
    ) as partial:
        columns = (TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=runtime.quiet, transient=True) as bar:
            task = bar.add_task("reading", total=None)
            prepared = prepare(
                source,
                core=config.core,
                minimum_weight=config.minimum_weight,
                deduplicate=config.deduplicate,
                maximum_quarantined=config.maximum_quarantined,
                split_config=config.split,
                seed=runtime.seed,
                progress=lambda rows: bar.update(task, description=f"{rows:,} rows read"),
            )
        dataset = prepared.dataset
        if store is not None:
            dataset.facts["best_possible"] = _best_possible(store, dataset)
        dataset.save(partial)
        write_report(partial, prepared.report, prepared.quarantine)
    for sentence in prepared.report["warnings"]:
        logger.warning("%s", sentence)
    logger.info(
        "%d users, %d items, %d interactions from %s; %d rows quarantined",
        len(dataset.user_ids), len(dataset.catalog), len(dataset.interactions), source.path,
        prepared.quarantine.height,
    )  # fmt: skip
    return folder
