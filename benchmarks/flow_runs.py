"""Whole runs through the command line, timed, and what their reports say."""

import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_rows import Row, bar, figures

from genrec.config import Recipe
from genrec.errors import GenRecError
from genrec.evaluation.results import Report
from genrec.pipeline import states
from genrec.run_folder import is_run_folder, read_timings

RECALL, NDCG = "recall@10", "ndcg@10"
QUICKSTART_SECONDS, FAST_SECONDS = 600, 180
MOVIETWEETINGS_SECONDS, SMOLLM2_SECONDS = 25 * 60, 45 * 60
SHARE_OF_BEST = 0.7
EXAMPLE_USERS = 10
# A small SASRec with cross-entropy on the same data, 5-core, leave-one-out, measured by hand.
REFERENCE_SASREC = {RECALL: 0.239, NDCG: 0.133}

_TAIL_LINES = 3


class StepError(GenRecError):
    """A step of the benchmark could not be measured."""


@dataclass(frozen=True)
class Finished:
    """A run that ended well.

    Attributes:
        folder: Its run folder.
        seconds: What it took.
        timing: What the seconds are.
    """

    folder: Path
    seconds: float
    timing: str


def program() -> str:
    """Return the ``genrec`` that belongs to this Python.

    Raises:
        StepError: When it is not installed.
    """
    path = Path(sys.executable).with_name("genrec")
    if not path.is_file():
        raise StepError(f"there is no {path}; install genrec into this environment first.")
    return str(path)


def call(command: Sequence[str]) -> float:
    """Run a command, let people see what it says, and return its seconds.

    Raises:
        StepError: When it ends with an error; the message holds its last words.
    """
    last: deque[str] = deque(maxlen=_TAIL_LINES)
    begun = time.perf_counter()
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stderr is not None  # it was asked for above
        for line in process.stderr:
            sys.stderr.write(line)
            if line.strip():
                last.append(line.strip())
    if process.returncode:
        words = " ".join(last)[-600:] or "nothing on standard error"
        raise StepError(f"exit code {process.returncode} after: {words}")
    return time.perf_counter() - begun


def run(command: Sequence[str], folder: Path, recipe: Recipe, existing: str) -> Finished:
    """Run a ``genrec`` command that fills a run folder.

    Args:
        command: Words after ``genrec``, without ``--run``.
        folder: The run folder.
        recipe: The recipe the command runs.
        existing: What to do with a run folder that is there: ``refuse``, ``replace`` (delete it and
            run) or ``reuse`` (run nothing; take the seconds that each stage noted).

    Raises:
        StepError: When the folder may not be touched, does not hold a whole run of the recipe, or
            the command fails.
    """
    if folder.exists() and existing == "reuse":
        stale = [str(state) for state in states(folder, recipe) if not state.fresh]
        if stale:
            raise StepError(f"{folder} is no whole run of {recipe.name}: {'; '.join(stale)}.")
        return Finished(
            folder,
            sum(read_timings(folder).values()),
            "sum over the stages of a run that was there before, perhaps made by older code",
        )
    if folder.exists() and existing == "refuse":
        raise StepError(
            f"{folder} exists, and a run is timed in a fresh folder; give another --runs, "
            "--existing replace to delete it, or --existing reuse to read what it holds."
        )
    if folder.exists():
        if not is_run_folder(folder):
            raise StepError(f"{folder} is no run folder, so it is not deleted; move it away.")
        shutil.rmtree(folder)
    return Finished(folder, call([program(), *command, "--run", str(folder)]), "wall clock")


def quickstart(done: Finished, limit: float) -> list[Row]:
    """Return the figures and bars of a finished quickstart.

    Args:
        done: The run.
        limit: Seconds it has to stay under.
    """
    report = Report.load(done.folder / "report")
    best = report.best_possible
    if RECALL not in best:
        raise StepError("the report of the quickstart does not know the best possible recall.")
    rows = report_rows(report, share_of=best[RECALL])
    for name, start in (("these events", ""), ("expected", "expected_")):
        known = {key: best[start + key] for key in (RECALL, NDCG, "mrr@10") if start + key in best}
        rows.append(figures(_table(report), model=f"best possible, {name}", **known))
    recall = _recall(report)
    bars = [
        bar("own time, install apart", done.seconds, "<", limit, "seconds"),
        bar(f"{RECALL} above transition counts", recall["genrec"], ">", recall["transition"]),
        bar(f"{RECALL} above popularity", recall["genrec"], ">", recall["popularity"]),
        bar(
            f"share of the best possible {RECALL}",
            recall["genrec"] / best[RECALL],
            ">=",
            SHARE_OF_BEST,
        ),
    ]
    return [*rows, stages(done), *bars]


def movietweetings(done: Finished, validation: Path | None) -> list[Row]:
    """Return the figures and bars of a run on MovieTweetings.

    Args:
        done: The run.
        validation: A run folder with a report on the validation part, or none.
    """
    report = Report.load(done.folder / "report")
    rows = report_rows(report) + difference_rows(report)
    if validation is not None:
        rows += report_rows(Report.load(validation / "report"))
    values = {row["model"]: row for row in report.rows}
    own, sasrec = values["genrec"], values["sasrec"]
    bars = [
        bar("all stages, baselines included", done.seconds, "<", MOVIETWEETINGS_SECONDS, "seconds")
    ]
    for key in (RECALL, NDCG):
        bars.append(bar(f"{key} beside SASRec of this run", own[key], ">=", sasrec[key]))
    for key, reference in REFERENCE_SASREC.items():
        bars.append(bar(f"{key} beside the reference SASRec", own[key], ">=", reference))
    return [*rows, stages(done), *bars]


def smollm2(done: Finished) -> list[Row]:
    """Return the figures and bars of a tuned SmolLM2 on MovieTweetings, on its users only."""
    report = Report.load(done.folder / "report")
    pages = example_users(done.folder / "report" / "examples.md")
    return [
        *report_rows(report),
        *difference_rows(report),
        stages(done),
        bar("all stages, baselines included", done.seconds, "<", SMOLLM2_SECONDS, "seconds"),
        bar("users printed as titles in the run's report", pages, ">=", EXAMPLE_USERS),
        bar("models in one table, on the same users", len(report.rows), ">=", 4),
    ]


def validate(run_folder: Path, folder: Path) -> Path:
    """Measure the models of a run on its validation part, in a run folder beside it.

    Args:
        run_folder: The finished run; nothing in it is changed.
        folder: Where to put copies of its models, the lists and the report; made anew.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in ("dataset", "cf", "model"):
        shutil.copytree(run_folder / name, folder / name)
    for verb in ("recommend", "evaluate"):
        target = [str(run_folder), "--run", str(folder), "--set", "recommend.part=validation"]
        call([program(), verb, *target])
    return folder


def report_rows(report: Report, share_of: float | None = None) -> list[Row]:
    """Return the rows of a report, with the share of the best recall where that is known."""
    return [
        figures(
            _table(report),
            **row,
            **({"share_of_best": row[RECALL] / share_of} if share_of else {}),
        )
        for row in report.rows
    ]


def difference_rows(report: Report) -> list[Row]:
    """Return how far each model is from the report's reference, with intervals."""
    return [
        figures(f"Minus {row['reference']}, {report.protocol['part']}", **row)
        for row in report.differences
    ]


def stages(done: Finished) -> Row:
    """Return the seconds of each stage of a run."""
    timings = read_timings(done.folder)
    return figures("Seconds of the stages", **{verb: round(s, 1) for verb, s in timings.items()})


def example_users(page: Path) -> int:
    """Count the users on a page of example lists.

    Raises:
        StepError: When there is no such page.
    """
    if not page.is_file():
        raise StepError("the run's report has no page of examples.")
    return len(re.findall(r"^## \d+\. User ", page.read_text(encoding="utf-8"), re.MULTILINE))


def _table(report: Report) -> str:
    protocol = report.protocol
    return f"{str(protocol['part']).capitalize()} part, {protocol['examples']:,} users"


def _recall(report: Report) -> dict[str, float]:
    values = {str(row["model"]): float(row[RECALL]) for row in report.rows}
    missing = {"genrec", "transition", "popularity"} - set(values)
    if missing:
        raise StepError(f"the report lacks {', '.join(sorted(missing))}.")
    return values
