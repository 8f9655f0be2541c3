"""How soon a pretrained model learns the codes, by where their rows start.

``python benchmarks/new_rows.py`` tunes SmolLM2-135M with LoRA on the embedded store from each of
the ways of ``train.new_rows``, with three seeds, and writes how many steps each takes to a
validation loss into ``results/new_rows.json`` and ``results/new_rows.md``. Dataset, codes and, for
each seed, the batches are the same for all ways. A row is written as soon as it is measured; the
same command goes on after a stop.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from command_line import absolute
from flow_rows import read_rows, stamp
from results_file import RESULTS, ROOT, cell, machine_words, table, write_results

from genrec.config import Recipe
from genrec.config_train import TrainConfig
from genrec.pipeline import run_stale, runtime_of
from genrec.recipe_file import load_recipe

NAME = "new_rows"
COMMAND = "python benchmarks/new_rows.py"
WAYS: tuple[str, ...] = get_args(TrainConfig.model_fields["new_rows"].annotation)
SEEDS = (1, 2, 3)
# Nats an item, over the codes of each level. Guessing has log 64 + log 64, about 8.3.
LOSSES = (7.5, 7.0, 6.5, 6.0)
EVERY = 5
# Validated is the model as it is, not a running average, which would hide where it started.
SETTINGS = (
    "train.average_decay=0", "train.teacher_weight=0", "train.validation_users=100",
    "train.patience=1000", "train.warmup=0.05",
)  # fmt: skip
NOTES = {
    "seeds": "1, 2 and 3, for new rows, adapters, dropout and order of batches; dataset and codes "
    "are those of the recipe's own seed",
    "noise": "validation loss on 100 users; the figures of single seeds stand in the JSON file",
    "steps": f"the first validation, every {EVERY} steps, with the loss or a lower one; a way that "
    "did not reach it has the number of seeds that did",
}

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet."""
    options = _parser().parse_args(arguments)
    recipe = recipe_of(options.steps, options.language_model, options.settings)
    shared = prepare(options.runs, recipe)
    for seed in options.seeds:
        for way in options.ways:
            known = [row for row in _read(options) if (row["way"], row["seed"]) == (way, seed)]
            if known and not options.again:
                continue
            _keep(options, {**stamp(COMMAND, seed), **measure(shared, recipe, way, seed)})
            print(f"{way}, seed {seed}: kept", file=sys.stderr, flush=True)
    return 0


def recipe_of(steps: int, language_model: str, settings: Sequence[str]) -> Recipe:
    """Return the recipe of all rows: ``quickstart``, with a validation every few steps."""
    evaluations = f"train.evaluations={max(1, steps // EVERY)}"
    own = [f"train.language_model={language_model}", f"train.max_steps={steps}", evaluations]
    # Passes enough for the steps; max_steps ends them.
    return load_recipe("quickstart", [*SETTINGS, "train.epochs=100", *own, *settings])


def prepare(runs: Path, recipe: Recipe) -> Path:
    """Make the dataset and the codes that all rows share."""
    folder = runs / "shared"
    run_stale(
        folder, recipe, runtime_of(recipe, quiet=True), announce=lambda _: None, until="index"
    )
    return folder


def measure(shared: Path, recipe: Recipe, way: str, seed: int) -> Row:
    """Train from one way to start and return how the validation loss fell."""
    from genrec.training import train

    folder = shared.with_name(f"{way}-{seed}")
    folder.mkdir(exist_ok=True)
    for name in ("dataset", "index"):
        if not (folder / name).exists():
            (folder / name).symlink_to(shared / name, target_is_directory=True)
    own = recipe.model_copy(update={"train": recipe.train.model_copy(update={"new_rows": way})})
    begun = time.perf_counter()
    model = train.run(folder, own, replace(runtime_of(own, quiet=True), seed=seed))
    seconds = time.perf_counter() - begun
    log = json.loads((model / "training.json").read_text())
    points = [
        (entry["step"], entry["eval_loss"], entry["eval_ndcg@10"])
        for entry in log
        if "eval_loss" in entry
    ]
    shutil.rmtree(folder)
    return {
        "step": NAME,
        "way": way,
        "seed": seed,
        "curve": [[step, round(loss, 4)] for step, loss, _ in points],
        "steps": steps_to([(step, loss) for step, loss, _ in points]),
        "last_step": points[-1][0],
        "last_loss": round(points[-1][1], 4),
        "best_ndcg@10": round(max(ndcg for _, _, ndcg in points), 4),
        "train_seconds": round(seconds, 1),
    }


def steps_to(
    curve: Sequence[tuple[int, float]], losses: Sequence[float] = LOSSES
) -> dict[str, int | None]:
    """Return the first step with each loss or a lower one; None where there is none.

    >>> steps_to([(5, 8.0), (10, 6.9), (15, 7.1)], losses=(7.0, 6.0))
    {'7': 10, '6': None}
    """
    return {
        f"{wanted:g}": next((step for step, loss in curve if loss <= wanted), None)
        for wanted in losses
    }


def page(body: Mapping[str, Any]) -> str:
    """Return the Markdown page for what the JSON file holds."""
    rows: list[Row] = body["rows"]
    losses = list(rows[0]["steps"])
    header = ["way", "seeds", *(f"steps to {loss}" for loss in losses)]
    header += ["last loss", "best NDCG@10", "seconds"]
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        lines.append(
            [
                way,
                str(len(own)),
                *(_reached([row["steps"][loss] for row in own]) for loss in losses),
                *(_spread([row[key] for row in own]) for key in ("last_loss", "best_ndcg@10")),
                f"{mean(row['train_seconds'] for row in own):.0f}",
            ]
        )
    notes = {"Seeds": body["seeds"], "Noise": body["noise"], **body["notes"]}
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    return (
        "\n\n".join(
            [
                "# Where the rows of new codes start",
                "SmolLM2-135M tuned with LoRA on the embedded store. Means over seeds, in brackets "
                "the lowest and the highest.",
                table(header, lines),
                "\n".join(
                    [
                        f"- Command: `{body['command']}`",
                        f"- Commits: {commits}",
                        f"- Machine: {machine_words(body['machine'])}",
                        *(f"- {key}: {cell(value)}" for key, value in notes.items()),
                    ]
                ),
            ]
        )
        + "\n"
    )


def _reached(steps: Sequence[int | None]) -> str:
    """Return the mean of the steps, or how many seeds got there."""
    there = [step for step in steps if step is not None]
    return _spread(there) if len(there) == len(steps) else f"{len(there)} of {len(steps)} seeds"


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def _read(options: argparse.Namespace) -> list[Row]:
    return read_rows(options.results / f"{NAME}.json")


def _keep(options: argparse.Namespace, row: Row) -> None:
    """Put a row in place of its old one and write the files."""
    same = (row["way"], row["seed"])
    rows = [old for old in _read(options) if (old["way"], old["seed"]) != same] + [row]
    rows.sort(key=lambda each: (WAYS.index(each["way"]), each["seed"]))
    write_results(NAME, rows, command=COMMAND, notes=NOTES, folder=options.results, page=page)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/new_rows.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--ways", nargs="+", choices=WAYS, default=WAYS, metavar="WAY", help=", ".join(WAYS))
    add("--seeds", nargs="+", type=int, default=SEEDS, metavar="SEED")
    add("--steps", type=int, default=60, help="optimizer steps of a row")
    add("--language-model", default="smollm2", help="as train.language_model")
    add("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="recipe")
    add("--runs", type=absolute, default=ROOT / "runs" / "new-rows", help="folder for run folders")
    add("--results", type=absolute, default=RESULTS, help="folder of the results files")
    add("--again", action="store_true", help="measure again what was measured before")
    return parser


if __name__ == "__main__":
    sys.exit(main())
