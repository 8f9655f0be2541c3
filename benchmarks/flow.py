"""Measure the whole flow, one step at a time: ``python benchmarks/flow.py STEP``.

Each step puts its rows in place of its old ones in ``results/flow.json`` and ``results/flow.md``
and leaves those of the other steps as they are. A step that cannot be measured writes why, and the
exit code is 1. A bar that is missed is a result like any other: it is told, and the exit code is 0.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flow_checkout
import flow_runs
import flow_serve
from command_line import absolute, say
from flow_page import page
from flow_rows import STEPS, Row, failure, merge, read_rows, stamp, stamped, without_paths
from results_file import RESULTS, ROOT, cell, write_results

from genrec.config import ServeConfig
from genrec.errors import GenRecError
from genrec.recipe_file import load_recipe

NAME = "flow"
SEED = 42
RUNS = ROOT / "runs" / "flow"
NOTES = {
    "seeds": "each section names its own",
    "noise": "one run a step; brackets hold 95 % bootstrap intervals over users",
    "reference": "measured by hand on MovieTweetings-100k (5-core, leave-one-out, seen items "
    "excluded): popularity recall@10 0.146, ndcg@10 0.074; a small SASRec with cross-entropy "
    "recall@10 0.239, ndcg@10 0.133",
    "seconds in tables of models": "what ranking all users took",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps that are named; return 1 when one could not be measured."""
    options = _parser().parse_args(arguments)
    steps = STEPS if "all" in options.steps else options.steps
    if options.data is None and any(step.startswith("movietweetings") for step in steps):
        _parser().error("the movietweetings steps need --data, the folder of MovieTweetings-100k")
    failed = [step for step in steps if not run_step(step, options)]
    if failed:
        say(f"not measured: {', '.join(failed)}")
    return 1 if failed else 0


def run_step(step: str, options: argparse.Namespace) -> bool:
    """Run one step and write the results; return whether it could be measured.

    Args:
        step: Its name.
        options: What the command line gave.
    """
    names = _names(options)
    command = without_paths(_command(step, options), names)
    before = stamp(command, SEED if step == "decoding" else None)
    begun = time.perf_counter()
    say(f"{step} ...")
    try:
        rows, more = measure(step, options)
    except (GenRecError, OSError, subprocess.SubprocessError) as error:
        rows, more = [failure(str(error))], {}
        say(f"{step} failed: {error}")
    seconds = more.pop("step_seconds", time.perf_counter() - begun)
    rows = [_named(row, names) for row in stamped(step, rows, before | more, seconds)]
    keep(rows, step, options.results)
    for row in rows:
        if row["kind"] == "bar":
            verdict = "met" if row["met"] else "MISSED"
            say(f"{step}: {row['bar']}: {cell(row['value'])}, wanted {row['wanted']}: {verdict}")
    return all(row["kind"] != "failure" for row in rows)


def measure(step: str, options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of a step, and what the stamp has to say beyond what is known before.

    Raises:
        GenRecError: When it cannot be measured.
    """
    if step in ("quickstart", "quickstart-fast", "movietweetings", "movietweetings-smollm2"):
        return _whole_run(step, options)
    if step == "decoding":
        # Only this step computes here; torch shall not take memory beside the runs of the others.
        from flow_decoding import decoding

        return decoding(options.lists, options.cases, SEED, options.quiet), {}
    if step == "serve":
        run_folder = options.run or options.runs / "quickstart-fast"
        return flow_serve.serve(run_folder, ServeConfig().max_k), {}
    if step == "readme":
        return flow_checkout.readme(), {}
    rows = flow_checkout.ci(options.seconds)
    if options.seconds is None:
        return rows, {}
    return rows, {"step_seconds": options.seconds, "timing": "given on the command line"}


def keep(rows: Sequence[Row], step: str, folder: Path) -> None:
    """Put the rows of a step in place of its old ones in the results files."""
    merged = merge(read_rows(folder / f"{NAME}.json"), rows, step)
    write_results(
        NAME,
        merged,
        command="python benchmarks/flow.py STEP",
        notes=NOTES,
        folder=folder,
        page=page,
    )


def _whole_run(step: str, options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    folder = options.runs / step
    recipe = load_recipe(step, _overrides(step, options))
    done = flow_runs.run(_verb(step, options), folder, recipe, options.existing)
    if step == "quickstart":
        rows = flow_runs.quickstart(done, flow_runs.QUICKSTART_SECONDS)
    elif step == "quickstart-fast":
        rows = flow_runs.quickstart(done, flow_runs.FAST_SECONDS)
    elif step == "movietweetings":
        validation = flow_runs.validate(folder, options.runs / f"{step}-validation")
        rows = flow_runs.movietweetings(done, validation)
    else:
        rows = flow_runs.smollm2(done)
    more = {
        "seed": recipe.seed,
        "step_seconds": done.seconds,
        "timing": done.timing,
    }
    return rows, more


def _verb(step: str, options: argparse.Namespace) -> list[str]:
    """Return the words after ``genrec`` that a step runs, without its run folder."""
    overrides = [word for key in _overrides(step, options) for word in ("--set", key)]
    if step == "quickstart":
        return ["quickstart", *overrides]
    if step == "quickstart-fast":
        return ["quickstart", "--fast", *overrides]
    return ["run", step, *overrides]


def _overrides(step: str, options: argparse.Namespace) -> list[str]:
    data = [] if step.startswith("quickstart") else [f"data.path={options.data}"]
    return [*data, *options.overrides]


def _command(step: str, options: argparse.Namespace) -> str:
    """Return what repeats a step."""
    if step.startswith(("quickstart", "movietweetings")):
        run_folder = str(options.runs / step)
        return shlex.join(["genrec", *_verb(step, options), "--run", run_folder])
    words = ["python", "benchmarks/flow.py", step]
    if step == "decoding":
        words += ["--lists", str(options.lists), "--cases", str(options.cases)]
    if step == "serve" and options.run:
        words += ["--run", str(options.run)]
    if step == "ci":
        words = [".ci/run"]
    return shlex.join(words)


def _names(options: argparse.Namespace) -> dict[Path, str]:
    """Return how the folders of this machine are called in results that others read."""
    names = {
        ROOT: ".",
        Path(sys.prefix): "VENV",
        Path(tempfile.gettempdir()): "TMP",
        Path.home(): "HOME",
    }
    if options.run:
        names[options.run] = "RUN"
    if options.data:
        names[options.data] = "DATA"
    return names | {options.runs: "RUNS"}


def _named(row: Row, names: dict[Path, str]) -> Row:
    return {
        key: without_paths(value, names) if isinstance(value, str) else value
        for key, value in row.items()
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/flow.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("steps", nargs="+", choices=[*STEPS, "all"], metavar="STEP", help=", ".join(STEPS))
    add("--data", type=absolute, help="folder of MovieTweetings-100k")
    add("--runs", type=absolute, default=RUNS, help="folder for the run folders; default runs/flow")
    add("--run", type=absolute, help="serve: finished run; default RUNS/quickstart-fast")
    add(
        "--existing",
        choices=["refuse", "replace", "reuse"],
        default="refuse",
        help="what to do with a run folder that is there; default refuse",
    )
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    add("--lists", type=int, default=100_000, help="decoding: lists to generate")
    add("--cases", type=int, default=1000, help="decoding: cases against brute force")
    add("--seconds", type=float, help="ci: seconds of a run that passed, in place of a run")
    add("--results", type=absolute, default=RESULTS, help="folder of flow.json and flow.md")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
