"""Tune SASRec, so that what is called better than it is better than it tuned.

``python benchmarks/tune_sasrec.py NAME=DATA ...`` searches for each data set, one key of the recipe
at a time: beginning with the defaults, every value of a key is tried, and the one with the best
validation NDCG@10 is kept for the keys after it; rounds go on until one changes nothing. DATA is
what ``data.path`` takes, or ``store`` for the embedded store. Rows go to
``results/tune_sasrec.json`` and ``.md`` as they are measured, so a search that was stopped goes on,
within a training even. ``--keys dimensions dropout`` searches these alone.
"""

import argparse
import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flow_rows import read_rows, stamp
from results_file import RESULTS, ROOT, cell, machine_words, table, write_results

from genrec import artifacts
from genrec.cf.epoch_training import best_epoch
from genrec.cf.fit_sasrec import LABELS, SasRecName, fit_sasrec
from genrec.cf.training_checkpoint import Checkpoint
from genrec.cf.validation import validate
from genrec.config import Recipe
from genrec.data import prepare
from genrec.data.dataset import Dataset
from genrec.errors import ConfigError
from genrec.recipe_file import parse_recipe
from genrec.runtime import Runtime

NAME = "tune_sasrec"
SEED = 42
Setting = dict[str, Any]
Row = dict[str, Any]

# Keys of the table cf in the order in which they are tried; what matters most comes first.
SHARED: dict[str, Sequence[Any]] = {
    "dropout": (0.2, 0.3, 0.5, 0.7),
    "dimensions": (32, 64, 128, 256),
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "layers": (1, 2, 3),
    "weight_decay": (0.0, 0.01, 0.1),
    "heads": (1, 2, 4),
}
AXES: dict[SasRecName, dict[str, Sequence[Any]]] = {
    "sasrec": SHARED,
    "transition_sasrec": {
        "transition_sasrec.distillation_weight": (0.0, 0.03, 0.1, 0.3),
        "transition_sasrec.long_share": (0.0, 0.3, 0.5, 0.8),
        "transition_sasrec.query_window": (2, 3, 5, 8),
        **SHARED,
    },
}
FIGURES = (
    "validation_recall@10",
    "validation_ndcg@10",
    "test_recall@10",
    "test_ndcg@10",
    "best_epoch",
    "seconds",
    "chosen",
)
NOTES = {
    "seeds": SEED,
    "noise": "one seed a row; choosing the best of many rows flatters their validation "
    "figures, not the test figures",
    "protocol": "5-core, leave-one-out unless --set says otherwise, all items ranked, items of the "
    "history left out; the setting is chosen by validation NDCG@10, test figures play no part",
    "chosen": "yes: the best setting of the search; start: the recipe's defaults",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune on every data set that is named."""
    options = _parser().parse_args(arguments)
    for name, source in options.data:
        tune(name, source, options)
    return 0


def tune(name: str, source: str, options: argparse.Namespace) -> Setting:
    """Search the best setting for one data set; keep every row; return the setting."""
    recipe = recipe_of(name, source, options, {})
    run_folder: Path = options.runs / name
    digest = prepared(run_folder, recipe)
    dataset = Dataset.load(run_folder / "dataset")
    axes = AXES[options.model]
    start = {key: _value(recipe, key) for key in axes}
    mine = {"step": name, "model": options.model, "dataset": digest, **_fixed(recipe, axes)}

    def measure(setting: Setting) -> float:
        wanted = {**mine, **setting}
        for row in _read(options):
            if all(row.get(key) == value for key, value in wanted.items()):
                return float(row["validation_ndcg@10"])
        others = "".join(f" --set {each}" for each in options.set)
        if options.keys:
            others += f" --keys {' '.join(options.keys)}"
        command = f"python benchmarks/{NAME}.py {name}=DATA --model {options.model}{others}"
        known = stamp(command, recipe.seed)
        row = measured(dataset, recipe_of(name, source, options, setting), run_folder, wanted)
        _keep(options, {**row, **known})
        return float(row["validation_ndcg@10"])

    searched = {key: values for key, values in axes.items() if key in (options.keys or axes)}
    best = search(start, searched, measure)
    _mark(options, mine, start, best)
    return best


def search(
    start: Setting, axes: Mapping[str, Sequence[Any]], measure: Callable[[Setting], float]
) -> Setting:
    """Return a setting that no single key of it, set otherwise, makes better.

    Args:
        start: Where to begin.
        axes: The values to try of each key, key by key.
        measure: How good a setting is; called once for each setting.
    """
    known: dict[tuple[Any, ...], float] = {}

    def score(setting: Setting) -> float:
        place = tuple(setting.values())
        if place not in known:
            known[place] = measure(setting)
        return known[place]

    best, before = start, None
    while best != before:
        before = best
        for key, values in axes.items():
            # The setting at hand stands first, so that it stays when another is only as good.
            best = max([best, *({**best, key: value} for value in values)], key=score)
    return best


def measured(dataset: Dataset, recipe: Recipe, run_folder: Path, row: Row) -> Row:
    """Train with one setting and return its row.

    Args:
        dataset: What to learn from, and what to measure on.
        recipe: The setting, as a recipe.
        run_folder: A training that was stopped goes on from a checkpoint in it.
        row: What identifies the training.
    """
    runtime = Runtime(
        seed=recipe.seed,
        device=recipe.runtime.device,
        threads=recipe.runtime.threads,
        quiet=True,
    )
    runtime.start()
    folder = run_folder / "checkpoint" / row["model"]
    started = time.perf_counter()
    fitted = fit_sasrec(row["model"], dataset, recipe.cf, runtime, Checkpoint(folder, row))
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    best = fitted.log[best_epoch(fitted.log) - 1]
    if best.ndcg_at_10 is None:
        raise ConfigError(f"{row['step']} has no validation event, so nothing can be chosen by it.")
    recall, ndcg = validate(fitted.ranker, dataset.histories("test"))
    return {
        **row,
        "validation_recall@10": best.recall_at_10,
        "validation_ndcg@10": best.ndcg_at_10,
        "test_recall@10": recall,
        "test_ndcg@10": ndcg,
        "best_epoch": best.epoch,
        "epochs_run": len(fitted.log),
        "seconds": round(seconds, 1),
        "chosen": "",
    }


def recipe_of(name: str, source: str, options: argparse.Namespace, setting: Setting) -> Recipe:
    """Return the recipe of one training."""
    path = [] if source == "store" else [f"data.path={Path(source).absolute()}"]
    keys = [f"cf.{key}={value}" for key, value in setting.items()]
    return parse_recipe("{}", [f"name={name}", f"seed={SEED}", *path, *options.set, *keys])


def prepared(run_folder: Path, recipe: Recipe) -> str:
    """Make the dataset of a run where it is not there yet; return its digest."""
    folder = run_folder / "dataset"
    config = recipe.data.model_dump(mode="json")
    if not artifacts.exists(folder) or artifacts.read_manifest(folder).config != config:
        prepare.run(run_folder, recipe, Runtime(seed=recipe.seed, quiet=True))
    return artifacts.read_manifest(folder).digest


def _fixed(recipe: Recipe, axes: Mapping[str, Sequence[Any]]) -> Setting:
    """Return what a training also depends on and no axis changes."""
    keys = ("epochs", "patience", "batch_items", "max_history")
    return {key: _value(recipe, key) for key in keys if key not in axes}


def _value(recipe: Recipe, key: str) -> Any:  # noqa: ANN401 - whatever the key holds
    value: Any = recipe.cf
    for part in key.split("."):
        value = getattr(value, part)
    return value


def page(body: Mapping[str, Any]) -> str:
    """Return the Markdown page of a results file: one table a data set and model, best first."""
    parts = ["# Tuning SASRec"]
    rows = body["rows"]
    for name, model in dict.fromkeys((row["step"], row["model"]) for row in rows):
        mine = [row for row in rows if (row["step"], row["model"]) == (name, model)]
        mine.sort(key=lambda row: -row["validation_ndcg@10"])
        keys = [*AXES[model], "epochs", *FIGURES]
        parts.append(f"## {name}, {model}")
        parts.append(table(keys, [[cell(row.get(key)) for key in keys] for row in mine]))
    facts = [f"Command: `{body['command']}`", f"Machine: {machine_words(body['machine'])}"]
    facts += [f"{key}: {cell(body[key])}" for key in ("seeds", "noise")]
    facts += [f"{key}: {cell(value)}" for key, value in body["notes"].items()]
    parts.append("\n".join(f"- {fact}" for fact in facts))
    return "\n\n".join(parts) + "\n"


def _read(options: argparse.Namespace) -> list[Row]:
    return read_rows(options.results / f"{NAME}.json")


def _keep(options: argparse.Namespace, row: Row) -> None:
    """Add a row to the files."""
    _write(options, lambda rows: [*rows, row])
    figures = f"{row['validation_ndcg@10']:.4f}, test {row['test_ndcg@10']:.4f}"
    print(f"{row['step']}: NDCG@10 {figures} after {row['seconds']} s", file=sys.stderr, flush=True)


def _mark(options: argparse.Namespace, mine: Row, start: Setting, best: Setting) -> None:
    """Say in the rows of one search which is its start and which was chosen."""

    def marked(rows: list[Row]) -> list[Row]:
        return [{**row, "chosen": word(row)} for row in rows]

    def word(row: Row) -> str:
        if any(row.get(key) != value for key, value in mine.items()):
            return str(row["chosen"])
        words = {"yes": best, "start": start}
        return ", ".join(
            name
            for name, setting in words.items()
            if all(row[key] == value for key, value in setting.items())
        )

    _write(options, marked)


def _write(options: argparse.Namespace, change: Callable[[list[Row]], list[Row]]) -> None:
    options.results.mkdir(parents=True, exist_ok=True)
    with (options.results / f".{NAME}.lock").open("w") as lock:
        # Two data sets may be measured at once; each waits for the other here.
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_results(
            NAME,
            change(_read(options)),
            command=f"python benchmarks/{NAME}.py NAME=DATA ...",
            notes=NOTES,
            folder=options.results,
            page=page,
        )


def _named(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    if not (name and separator and source):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DATA, such as shop=data/shop")
    return name, source


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"benchmarks/{NAME}.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("data", nargs="+", type=_named, metavar="NAME=DATA", help="data sets; DATA may be store")
    add("--model", choices=list(LABELS), default="sasrec", help="which of the two to tune")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="other keys of the recipe")
    every = dict.fromkeys(key for axes in AXES.values() for key in axes)
    add("--keys", nargs="+", choices=list(every), metavar="KEY", help=f"of {', '.join(every)}")
    add("--runs", type=Path, default=ROOT / "runs" / "tune", help="folder for run folders")
    add("--results", type=Path, default=RESULTS, help="folder of the results files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
