"""Measure the search for items: ``python benchmarks/decoding.py STEP``.

Steps: ``rules`` checks random requests against brute force; ``paths`` counts faults among a
million items returned by a transformer; ``tries`` builds catalogues of up to ten million items;
``tiny`` and ``smollm2`` time the search beside ``generate`` of transformers; ``floor`` compares it
with what the machine could do; ``parity`` compares lists; ``filters`` times rules that deny half of
the items, or all but five; ``beams`` compares beam widths with exact lists, for trained models
named by ``--runs``; ``returning`` times histories that grew by one item, read anew and reused;
``vllm`` times the search beside vLLM and needs its environment (docs/vllm.md). A step puts its rows
in place of its old ones in ``results/decoding.json`` and ``results/decoding.md``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from decoding_bars import bars
from decoding_beams import beams
from decoding_floor import floor
from decoding_models import MODELS
from decoding_paths import count_paths
from decoding_returning import returning
from decoding_rules import random_cases
from decoding_speed import compare, filters, parity, tries
from decoding_vllm import compare_vllm
from flow_rows import read_rows, stamp
from results_file import RESULTS, cell, table, write_results

NAME = "decoding"
SEED = 42
Row = dict[str, Any]

# Items, requests of a batch, beams, tokens of the prompt.
NAMED = ((1, 20, 128), (1, 20, 512), (1, 50, 128), (16, 20, 128), (16, 50, 128))
MORE = ((1, 10, 128), (1, 256, 128), (1, 20, 1024), (16, 10, 128), (16, 256, 128), (16, 20, 512))
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
RETURNING = tuple((batch, 20, prompt) for batch in (1, 16) for prompt in (128, 512, 1024))
NOTES = {
    "seeds": str(SEED),
    "noise": "medians; fastest and slowest run beside them; generate is run once after one unseen",
    "times": "milliseconds are those of a batch; requests a second follow from them",
    "ratios": "times_faster_exact compares like with like; times_faster_level compares level "
    "scores with generate, whose probabilities are over the whole vocabulary",
    "memory": "peak_gib is that of one exact search; where generate is timed, its table of "
    "prefixes is in it",
    "models": "untrained, of the named shape, bfloat16; parity in float32",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps that are named."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    for step in options.steps:
        before = stamp(f"python benchmarks/decoding.py {step} --threads {options.threads}", SEED)
        rows = [{"step": step, **before, **row} for row in _STEPS[step](options)]
        kept = [row for row in read_rows(options.results / f"{NAME}.json") if row["step"] != step]
        write_results(
            NAME, [*kept, *rows], command="python benchmarks/decoding.py STEP", notes=NOTES,
            folder=options.results, page=page,
        )  # fmt: skip
    return 0


def _speed(model: str) -> Callable[[argparse.Namespace], list[Row]]:
    def measure(options: argparse.Namespace) -> list[Row]:
        both = [(100_000, *shape) for shape in NAMED]
        alone = [(items, *shape) for items in SIZES for shape in NAMED]
        alone = [shape for shape in alone if shape not in both]
        alone += [(1_000_000, *shape) for shape in MORE]
        rows = compare(model, both, with_generate=True, repeats=options.repeats, seed=SEED)
        return rows + compare(model, alone, with_generate=False, repeats=options.repeats, seed=SEED)

    return measure


def _vllm(options: argparse.Namespace) -> list[Row]:
    # vLLM computes on one thread unless the environment says otherwise.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    shapes = [(100_000, *shape) for shape in NAMED]
    return [
        row
        for model in ("tiny", "smollm2")
        for row in compare_vllm(
            model, shapes, repeats=options.repeats, seed=SEED, scores=("level", "exact")
        )
    ]


_STEPS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "rules": lambda options: [random_cases(options.cases, SEED, options.quiet)],
    "paths": lambda options: [
        count_paths("tiny", 10_000, options.paths, torch.bfloat16, SEED, options.quiet)
    ],
    "tries": lambda _: tries(SIZES, SEED),
    "parity": lambda _: [
        parity("tiny", 10_000, 4, 20, 128, SEED), parity("smollm2", 10_000, 2, 20, 128, SEED)
    ],
    "filters": lambda _: [
        filters(model, 1_000_000, batch, 20, 128, SEED)
        for model in ("tiny", "smollm2") for batch in (1, 16)
    ],
    "returning": lambda options: [
        row for model in MODELS
        for row in returning(model, 100_000, RETURNING, options.repeats, SEED)
    ],
    "tiny": _speed("tiny"),
    "smollm2": _speed("smollm2"),
    "floor": lambda options: [
        row
        for model in ("tiny", "smollm2")
        for row in floor(model, NAMED, 100_000, options.repeats, SEED)
    ],
    "beams": lambda options: beams(options.runs, options.users, SEED, options.quiet),
    "vllm": _vllm,
}  # fmt: skip


def page(body: dict[str, Any]) -> str:
    """Return the page for what the JSON file holds."""
    parts = [
        "# The search for items",
        "## Bars",
        table(["what", "measured", "bar", "reached"], bars(body["rows"])),
    ]
    hidden = ("step", "command", "commit", "machine", "load_before", "seed", "date", "timing",
              "step_seconds")  # fmt: skip
    for step in dict.fromkeys(row["step"] for row in body["rows"]):
        rows = [_with_rates(row) for row in body["rows"] if row["step"] == step]
        keys = [key for key in dict.fromkeys(key for row in rows for key in row)
                if key not in hidden]  # fmt: skip
        parts += [
            f"## {step.capitalize()}",
            table(keys, [[cell(row.get(key)) for key in keys] for row in rows]),
            f"`{rows[0]['command']}`, commit {rows[0]['commit'][:12]}, {rows[0]['date']}, load "
            f"before {rows[0]['load_before']}",
        ]
    parts += [f"- {key}: {value}" for key, value in (("seeds", body["seeds"]),
              ("noise", body["noise"]), *body["notes"].items())]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _with_rates(row: Row) -> Row:
    """Return a row with the requests a second that its milliseconds a batch come to."""
    rates = {
        f"{side}_requests_a_second": round(1e3 * row["batch"] / row[f"{side}_milliseconds"], 1)
        for side in ("exact", "level", "generate", "ours", "vllm_search", "vllm_engine")
        if f"{side}_milliseconds" in row
    }
    return {**row, **rates}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("steps", nargs="+", choices=list(_STEPS), metavar="STEP")
    add("--threads", type=int, default=2)
    add("--repeats", type=int, default=5)
    add("--cases", type=int, default=10_000, help="rules: requests to compare with brute force")
    add("--paths", type=int, default=1_000_000, help="paths: items to count")
    add("--runs", type=Path, nargs="+", default=[], help="beams: folders of trained runs")
    add("--users", type=int, default=100, help="beams: users of the test part")
    add("--results", type=Path, default=RESULTS)
    add("--quiet", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
