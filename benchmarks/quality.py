"""Measure how good recommendations are, row by row: ``python benchmarks/quality.py --data DATA``.

What is measured stands in ``quality.yaml``: data sets, protocols, rows as recipes, tables. Every
result (set, protocol, row, seed) is written into ``results/quality.json`` and ``quality.md`` as
soon as it is there; those that are there are not measured again while their settings stay as they
are. So a command that was stopped goes on where it was, a stopped training included.
"""

import argparse
import fcntl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import quality_page
import quality_runs
from command_line import absolute, say
from flow_rows import read_rows, stamp, without_paths
from quality_measure import Record, measure
from quality_plan import Job, Plan, read_plan
from quality_runs import Place
from results_file import RESULTS, ROOT, cell, write_results

from genrec.config import Recipe
from genrec.errors import ConfigError, GenRecError
from genrec.evaluation.evaluate import TIE_RULE

NAME = "quality"
PLAN = Path(__file__).resolve().with_name("quality.yaml")
RUNS = ROOT / "runs" / "quality"
Key = tuple[str, str, str, int]
COMMAND = "python benchmarks/quality.py --data DATA --text-model MODEL"
NOTES = {
    "seeds": "of codes, models and the cf stage alike; each row says how many are done",
    "noise": "over seeds: 95 % Student's t-interval of the mean over seeds, on the same data and "
    "users; over users: 95 % bootstrap interval over test users, its ends averaged over seeds",
    "protocol": "item-level hits: another item with the codes of the right one is no hit; full "
    f"ranking of the catalogue, no sampled negatives; {TIE_RULE}; events of one moment keep the "
    "order of the source; all test users, or the same random sample of them for all rows of a set; "
    "the column history says how many of the newest items a model reads",
    "limits": "the best row of a kind is picked by the test figures that are shown; data sets were "
    "made 5-core with the held-out events, as in all published tables; seconds are those of the "
    "machine named, which may have had other work, and SASRec's include its validations; SASRec "
    "was searched in width and dropout on MovieTweetings, and in width (32, 64, 128) on Beauty "
    "(tune_sasrec.md); all other settings of baselines were chosen by hand on validation figures",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing; return 1 when something could not be measured."""
    options = _parser().parse_args(arguments)
    plan = read_plan(PLAN)
    _check_names(plan, options)
    if options.results is None:
        options.results = options.runs if _only_stand_ins(plan, options) else RESULTS
    wanted = plan.jobs(options.tables, options.sets, options.rows, options.seeds)
    done = _done(options)
    missing = [job for job in wanted if options.again or (job.key, job.digest) not in done]
    say(f"{len(wanted)} results wanted, {len(wanted) - len(missing)} are there")
    if options.list:
        for job in missing:
            say(f"{job.folder_name}: about {job.minutes:.1f} minutes")
        return 0
    place = _place(options)
    try:
        work = [(job, place.recipe(job, plan.sets[job.set].folder)) for job in missing]
    except ConfigError as error:
        _parser().error(str(error))
    failed = _work(plan, work, place, options)
    if _read(options):
        keep(plan, options.results, [])
    return 1 if failed else 0


def _work(
    plan: Plan, work: Sequence[tuple[Job, Recipe]], place: Place, options: argparse.Namespace
) -> int:
    """Measure jobs while there is time; return how many failed."""
    until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    failed = 0
    for job, recipe in work:
        minutes = job.minutes
        if quality_runs.lacks_cf(job, recipe, place):
            minutes += plan.sets[job.set].cf_minutes
        if until is not None and time.monotonic() + 60 * minutes > until:
            say(f"{job.folder_name}: no time for about {minutes:.1f} minutes, left for later")
            continue
        say(f"{job.folder_name} ...")
        before = stamp(_command(job), job.seed)
        begun = time.monotonic()
        try:
            record = measure(job, quality_runs.run(job, recipe, place))
        except (GenRecError, OSError, subprocess.SubprocessError) as error:
            record = {"failed": without_paths(str(error), _names(options))}
            failed += 1
        record["job_seconds"] = round(time.monotonic() - begun, 1)
        keep(plan, options.results, [before | _place_of(job) | record])
        shown = record.get("failed") or f"NDCG@10 {cell(record['ndcg@10'])}"
        say(f"{job.folder_name}: {shown}, {record['job_seconds']:.0f} s")
    return failed


def keep(plan: Plan, folder: Path, records: Sequence[Record]) -> None:
    """Put results in place of their old ones and write the files.

    A result whose settings are no longer those of the plan stays, marked as stale; one whose row
    is gone from the plan is dropped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{NAME}.lock").open("w") as lock:
        # Two processes may measure at once; each waits for the other here.
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = {_key(record): record for record in records}
        kept = {_key(record): record for record in read_rows(folder / f"{NAME}.json")}
        # A try that failed does not take away what was measured before.
        good = {key for key, record in kept.items() if "failed" not in record}
        kept |= {key: one for key, one in new.items() if "failed" not in one or key not in good}
        rows = [_marked(plan, kept[key]) for key in sorted(kept, key=_order(plan))
                if _is_known(plan, key)]  # fmt: skip
        write_results(
            NAME,
            rows,
            command=COMMAND,
            notes=NOTES,
            folder=folder,
            page=partial(quality_page.page, plan),
        )


def _marked(plan: Plan, record: Record) -> Record:
    now = plan.job(record["set"], record["protocol"], record["row"], record["seed"]).digest
    clean = {name: value for name, value in record.items() if name != "stale"}
    return clean if clean["digest"] == now else clean | {"stale": True}


def _is_known(plan: Plan, key: Key) -> bool:
    return key[0] in plan.sets and key[1] in plan.protocols and key[2] in plan.rows


def _order(plan: Plan) -> Any:  # noqa: ANN401 - a sort key
    places = [{name: at for at, name in enumerate(names)}
              for names in (plan.sets, plan.protocols, plan.rows)]  # fmt: skip
    return lambda key: (
        *(place.get(name, -1) for place, name in zip(places, key[:3], strict=True)),
        key[3],
    )


def _key(record: Mapping[str, Any]) -> Key:
    return record["set"], record["protocol"], record["row"], record["seed"]


def _place_of(job: Job) -> Record:
    """Return what says which result it is; ``read_rows`` wants a step."""
    return {
        "step": job.set,
        "set": job.set,
        "protocol": job.protocol,
        "row": job.row,
        "seed": job.seed,
        "digest": job.digest,
    }


def _done(options: argparse.Namespace) -> set[tuple[Key, str]]:
    """Return the results that are there, each with the digest of its settings."""
    return {(_key(record), record["digest"]) for record in _read(options) if "failed" not in record}


def _read(options: argparse.Namespace) -> list[Record]:
    return read_rows(options.results / f"{NAME}.json")


def _command(job: Job) -> str:
    return f"{COMMAND} --sets {job.set} --rows {job.row} --seeds {job.seed}"


def _names(options: argparse.Namespace) -> dict[Path, str]:
    """Return how the folders of this machine are called in results that others read."""
    names = {ROOT: ".", Path(sys.prefix): "VENV", Path.home(): "HOME", options.runs: "RUNS"}
    given = {options.data: "DATA", options.text_model: "MODEL"}
    return names | {path: name for path, name in given.items() if path}


def _place(options: argparse.Namespace) -> Place:
    prepared: dict[str, list[Path]] = {}
    for word in options.prepared:
        name, _, folder = word.partition("=")
        prepared.setdefault(name, []).append(absolute(folder))
    return Place(
        runs=options.runs,
        data=options.data,
        text_model=options.text_model,
        prepared=prepared,
        settings=tuple(options.settings),
    )


def _check_names(plan: Plan, options: argparse.Namespace) -> None:
    """End with the usage when a name is not in the plan."""
    prepared = [word.partition("=")[0] for word in options.prepared]
    for given, known, kind in (
        (options.tables, plan.tables, "tables"),
        (options.sets, plan.sets, "sets"),
        (options.rows, plan.rows, "rows"),
        (prepared, plan.sets, "sets"),
    ):
        unknown = [name for name in given or () if name not in known]
        if unknown:
            _parser().error(f"there are no {kind} {unknown}; known are {', '.join(known)}")
    wrong = [word for word in options.settings if not word.startswith("runtime.")]
    if wrong:
        _parser().error(
            f"--set is for keys of runtime only, given {wrong}; rows are quality.yaml's"
        )
    stand_ins = [plan.sets[name].stand_in for name in options.sets or ()]
    if any(stand_ins) and not all(stand_ins):
        _parser().error("stand-ins are measured apart from real sets")


def _only_stand_ins(plan: Plan, options: argparse.Namespace) -> bool:
    return bool(options.sets) and plan.sets[options.sets[0]].stand_in


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/quality.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--tables", nargs="+", metavar="TABLE", help="tables to fill; default all")
    add("--sets", nargs="+", metavar="SET", help="data sets; store tries the command in minutes")
    add("--rows", nargs="+", metavar="ROW", help="rows; default all of the tables")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="seeds; default those of the plan")
    add("--minutes", type=float, help="start nothing that is thought to end later than this")
    add("--data", type=absolute, help="folder that holds the data sets")
    add("--text-model", type=absolute, help="folder of a sentence-transformers model (MiniLM)")
    add("--prepared", action="append", default=[], metavar="SET=FOLDER",
        help="run folder whose finished stages are taken where they fit; repeat")  # fmt: skip
    add("--set", dest="settings", action="append", default=[], metavar="runtime.KEY=VALUE")
    add("--runs", type=absolute, default=RUNS, help="folder for run folders")
    add("--results", type=absolute, help="folder of the results files; stand-ins: RUNS")
    add("--again", action="store_true", help="measure again what was measured before")
    add("--list", action="store_true", help="only say what is missing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
