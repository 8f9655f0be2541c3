"""Compare the ways to index items on real data: ``python benchmarks/indexing.py STEP``.

Steps: ``beauty`` and ``games`` index a data set in every way and train the same small model on each
index; ``seeds`` repeats the leading ways on Beauty with other seeds; ``guarantees`` checks what
one-to-one policies and seeds promise; ``scale`` indexes a million vectors; ``new-items`` adds
items that nothing was trained on; ``page`` opens a report in a browser. A step puts its rows in
place of its old ones in ``results/indexing.json`` and ``results/indexing.md``; ways that were
measured before are kept unless ``--again`` is given, so a step that was stopped goes on.
"""

import argparse
import fcntl
import sys
from collections.abc import Sequence
from typing import Any

import indexing_browser
import indexing_guarantees
import indexing_new_items
import indexing_page
import indexing_runs
import indexing_scale
from command_line import absolute
from flow_rows import read_rows, stamp
from indexing_methods import METHODS
from results_file import RESULTS, ROOT, write_results

NAME = "indexing"
SETS = {"beauty": "amazon2014-beauty", "games": "amazon2018-games"}
SEEDS = (1, 2)
LEADING = 5
NOTES = {
    "seeds": "42, and 1 and 2 in step seeds, for codes and model alike",
    "noise": "brackets: 95 % bootstrap intervals over users; step seeds: three seeds",
    "protocol": "5-core, leave-one-out, all items ranked, items of the history left out, the "
    "newest 20 items read, hits counted by item; 10,000 test users drawn by seed, the same for all",
    "games": "its items have no categories, so there is no row for semantic; of the ways that "
    "differ in one setting only some were measured on it",
    "new_item_weight": "0 in all rows but those of step new-items, which says its own",
    "neighbour agreement": "share of an item's 10 nearest items, by text and cf vectors joined, "
    "that share its first code or codes; the same vectors for every index",
    "reconstruction": "share of the spread of an index's own vectors that its codes lose; not "
    "comparable between kinds of vectors",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps that are named."""
    options = _parser().parse_args(arguments)
    for step in options.steps:
        _STEPS[step](step, options)
    return 0


def _compare(step: str, options: argparse.Namespace) -> None:
    prepared = indexing_runs.prepare(
        options.runs / step, options.data / SETS[step], options.text_model
    )
    if options.again or not _rows(options, step, "baselines"):
        _keep(
            options,
            step,
            "baselines",
            indexing_runs.baselines(prepared),
            f"benchmarks/indexing.py {step}",
        )
    wanted = options.methods or [each.name for each in METHODS]
    published = options.data / SETS[step] / "originals" / "letter_Beauty.index.json.xz"
    for each in METHODS:
        known = _rows(options, step, each.name)
        if each.name not in wanted or (known and not options.again):
            continue
        if each.published and not published.is_file():
            continue
        row = indexing_runs.measure_method(prepared, each, published)
        _keep(
            options, step, each.name, [row], f"benchmarks/indexing.py {step} --methods {each.name}"
        )


def _seeds(step: str, options: argparse.Namespace) -> None:
    rows = [row for row in _read(options) if row["step"] == "beauty" and "method" in row]
    trained = [row for row in rows if row["table"] == "methods"]
    leading = sorted(trained, key=lambda row: -row["ndcg@10"])[:LEADING]
    for row in leading:
        if _rows(options, step, row["method"]) and not options.again:
            continue
        more = indexing_runs.other_seeds(options.runs / "beauty", row, SEEDS)
        _keep(options, step, row["method"], more, f"benchmarks/indexing.py {step}")


def _guarantees(step: str, options: argparse.Namespace) -> None:
    rows = indexing_guarantees.measure(options.runs / "beauty")
    _keep(options, step, step, rows, f"benchmarks/indexing.py {step}")


def _scale(step: str, options: argparse.Namespace) -> None:
    source = options.data / SETS["beauty"] / "emb_minilm_f16.npy"
    rows = indexing_scale.measure(options.items, options.dimensions, source)
    rows = [{"table": "scale", "work": row.pop("part"), **row} for row in rows]
    _keep(options, step, step, rows, f"benchmarks/indexing.py {step} --items {options.items}")


def _new_items(step: str, options: argparse.Namespace) -> None:
    rows = indexing_new_items.measure(
        options.runs / "new-items", options.data / SETS["beauty"], options.text_model
    )
    _keep(options, step, step, rows, f"benchmarks/indexing.py {step}")


def _page(step: str, options: argparse.Namespace) -> None:
    run_folder = options.runs / "beauty-kmeans-concatenation"
    rows = indexing_browser.measure(run_folder, options.runs / "page.png")
    _keep(options, step, step, rows, f"benchmarks/indexing.py {step}")


_STEPS = {
    "beauty": _compare,
    "games": _compare,
    "seeds": _seeds,
    "guarantees": _guarantees,
    "scale": _scale,
    "new-items": _new_items,
    "page": _page,
}


def _read(options: argparse.Namespace) -> list[dict[str, Any]]:
    return read_rows(options.results / f"{NAME}.json")


def _rows(options: argparse.Namespace, step: str, part: str) -> list[dict[str, Any]]:
    return [row for row in _read(options) if (row["step"], row["part"]) == (step, part)]


def _keep(
    options: argparse.Namespace, step: str, part: str, rows: list[dict[str, Any]], command: str
) -> None:
    """Put the rows of one part of a step in place of its old ones and write the files."""
    options.results.mkdir(parents=True, exist_ok=True)
    with (options.results / f".{NAME}.lock").open("w") as lock:
        # Two data sets may be measured at once; each waits for the other here.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(options, step, part, rows, command)
    print(f"{step} {part}: kept", file=sys.stderr, flush=True)


def _write(
    options: argparse.Namespace, step: str, part: str, rows: list[dict[str, Any]], command: str
) -> None:
    kept = [row for row in _read(options) if (row["step"], row["part"]) != (step, part)]
    known = stamp(f"python {command}", indexing_runs.SEED)
    kept += [{"step": step, "part": part, **known, **row} for row in rows]
    order = {name: place for place, name in enumerate(_STEPS)}
    methods = {each.name: place for place, each in enumerate(METHODS)}
    kept.sort(key=lambda row: (order[row["step"]], methods.get(row["part"], -1)))
    write_results(
        NAME,
        kept,
        command="python benchmarks/indexing.py STEP --data DATA --text-model MODEL",
        notes=NOTES,
        folder=options.results,
        page=indexing_page.page,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/indexing.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("steps", nargs="+", choices=list(_STEPS), metavar="STEP", help=", ".join(_STEPS))
    add("--data", type=absolute, required=True, help="folder that holds the data sets")
    add("--text-model", type=absolute, help="folder of a sentence-transformers model (MiniLM)")
    add("--methods", nargs="+", choices=[each.name for each in METHODS], metavar="METHOD")
    add("--runs", type=absolute, default=ROOT / "runs" / "indexing", help="folder for run folders")
    add("--results", type=absolute, default=RESULTS, help="folder of the results files")
    add("--items", type=int, default=1_000_000, help="scale: items")
    add("--dimensions", type=int, default=768, help="scale: dimensions")
    add("--again", action="store_true", help="measure again what was measured before")
    return parser


if __name__ == "__main__":
    sys.exit(main())
