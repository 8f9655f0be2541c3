"""Rows of the flow benchmark: stamps, bars, and one step's rows put in place of its old ones.

Three kinds of rows share one list. ``figures`` holds what was measured, under the name of the table
it belongs to; ``bar`` holds a figure beside what it has to be; ``failure`` says why a step has no
figures. Every row carries the step and how it was measured, because steps are run one at a time and
so at different commits.
"""

import json
import operator
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from results_file import ROOT, commit, machine

from genrec.errors import DataError

Row = dict[str, Any]
Relation = Literal["<", "<=", ">", ">=", "=="]

STEPS = (
    "quickstart-fast",
    "quickstart",
    "movietweetings",
    "movietweetings-smollm2",
    "decoding",
    "serve",
    "readme",
    "ci",
)
STAMP = ("command", "commit", "machine", "load_before", "seed", "date", "step_seconds", "timing")

_COMPARE = {
    "<": (operator.lt, "under"),
    "<=": (operator.le, "at most"),
    ">": (operator.gt, "above"),
    ">=": (operator.ge, "at least"),
    "==": (operator.eq, "exactly"),
}


def figures(table: str, **values: Any) -> Row:  # noqa: ANN401 - anything JSON can hold
    """Return a row of measured figures for one of the step's tables."""
    return {"kind": "figures", "table": table, **values}


def bar(name: str, value: float, relation: Relation, limit: float, unit: str = "") -> Row:
    """Return a row that says whether a figure is where it has to be.

    Args:
        name: What is measured, in words.
        value: What it was.
        relation: How it has to stand to the limit.
        limit: What it is compared with.
        unit: Of both.

    Example:
        >>> row = bar("own time", 170.0, "<", 180.0, "seconds")
        >>> row["wanted"], row["met"]
        ('under 180 seconds', True)
        >>> bar("recall@10", 0.2, ">=", 0.21)["met"]
        False
    """
    compare, words = _COMPARE[relation]
    shown = f"{int(limit):,}" if float(limit).is_integer() else f"{limit:.4g}"
    return {
        "kind": "bar",
        "bar": name,
        "wanted": f"{words} {shown} {unit}".strip(),
        "limit": limit,
        "value": value,
        "met": bool(compare(value, limit)),
    }


def failure(reason: str) -> Row:
    """Return a row that says why the step has no figures."""
    return {"kind": "failure", "reason": reason}


def stamp(
    command: str, seed: int | None, *, root: Path = ROOT, timing: str = "wall clock"
) -> dict[str, Any]:
    """Return how a step is measured; call it before the step starts.

    Args:
        command: What repeats it.
        seed: Seed of its random numbers; None where there are none.
        root: The checkout that is measured.
        timing: What the seconds are.
    """
    return {
        "command": command,
        "commit": commit(root),
        "machine": machine(),
        "load_before": round(os.getloadavg()[0], 1),
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "timing": timing,
    }


def stamped(step: str, rows: Sequence[Row], stamp: Mapping[str, Any], seconds: float) -> list[Row]:
    """Return the rows of a step, each with the step's name, stamp and seconds."""
    return [{"step": step, **row, **stamp, "step_seconds": round(seconds, 1)} for row in rows]


def merge(old: Sequence[Row], new: Sequence[Row], step: str) -> list[Row]:
    """Return all rows, the step's old ones replaced by its new ones, steps in their order.

    Raises:
        DataError: When a new row belongs to another step, or a row to a step that is not known.
    """
    foreign = [row["step"] for row in new if row["step"] != step]
    if foreign:
        raise DataError(f"a row of step {foreign[0]!r} was given for step {step!r}.")
    rows = [row for row in old if row["step"] != step] + list(new)
    unknown = sorted({row["step"] for row in rows} - set(STEPS))
    if unknown:
        raise DataError(
            f"there are rows of the unknown steps {unknown}; known are {', '.join(STEPS)}. Take "
            "them out of flow.json."
        )
    return sorted(rows, key=lambda row: STEPS.index(row["step"]))


def read_rows(path: Path) -> list[Row]:
    """Return the rows that are kept in a results file; none when there is no file.

    Raises:
        DataError: When the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return [dict(row, step=str(row["step"])) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read as results ({error}); delete it.") from error


def without_paths(text: str, names: Mapping[Path, str]) -> str:
    """Return the text with folders of this machine replaced by names, the longest first.

    Folders are absolute, and not the root of all.

    >>> without_paths("cannot read /a/b/c", {Path("/a"): "RUNS", Path("/a/b"): "DATA"})
    'cannot read DATA/c'
    """
    pairs = {str(form): name for path, name in names.items() for form in (path, path.resolve())}
    pairs.pop("/", None)
    for path in sorted(pairs, key=len, reverse=True):
        text = text.replace(path, pairs[path])
    return text
