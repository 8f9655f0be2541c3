"""Write what a benchmark measured: figures, the command that made them and the machine."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from genrec.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
_MEASURED = (":/", ":(exclude,top)benchmarks/results")


def write_results(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    command: str,
    notes: Mapping[str, Any],
    folder: Path = RESULTS,
    page: Callable[[Mapping[str, Any]], str] | None = None,
) -> None:
    """Write ``NAME.json`` and ``NAME.md`` with one table and all that is needed to judge it.

    Args:
        name: Name of the benchmark: small letters, digits, ``-`` and ``_``.
        rows: One mapping a table row; a key that a row lacks is an empty cell.
        command: The command that repeats the measurement.
        notes: Anything to know about it. ``seeds`` (which ones) and ``noise`` (how far the
            figures move from run to run) stand first; without them the files say "not stated".
        folder: Folder to write into.
        page: Turns what the JSON file holds into the Markdown page, for benchmarks that one table
            does not fit.

    Raises:
        DataError: When the name cannot be a file name, there are no rows, or a figure is not a
            finite number.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise DataError(f"{name!r} cannot name a benchmark; use small letters, digits, - and _.")
    if not rows:
        raise DataError(f"benchmark {name!r} has no rows; measure something first.")
    others = {key: value for key, value in notes.items() if key not in ("seeds", "noise")}
    body: dict[str, Any] = {
        "name": name,
        "rows": [dict(row) for row in rows],
        "command": command,
        "commit": commit(ROOT),
        "machine": machine(),
        "seeds": notes.get("seeds", "not stated"),
        "noise": notes.get("noise", "not stated"),
        "notes": others,
    }
    try:
        text = json.dumps(body, indent=2, allow_nan=False, default=_plain)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"benchmark {name!r} cannot be written ({error}); give finite numbers, text, lists "
            "and mappings."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / f"{name}.json", text + "\n")
    _replace(folder / f"{name}.md", (page or _markdown)(json.loads(text)))


def machine() -> dict[str, Any]:
    """Return the CPU, usable cores, memory in GiB, and versions of Python, torch and genrec."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "genrec": metadata.version("genrec"),
    }


def machine_words(hardware: Mapping[str, Any]) -> str:
    """Return what ``machine`` found as one line."""
    return (
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB; "
        f"Python {hardware['python']}, torch {hardware['torch']}, genrec {hardware['genrec']}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of finished cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:  # noqa: ANN401
    """Return a value as a table cell: four significant digits below 1000, no line breaks."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | dict):
        value = json.dumps(value)
    return " ".join(str(value).split()).replace("|", "\\|")


def commit(root: Path) -> str:
    """Return the git commit of a checkout, ``COMMIT with changes`` when files differ from it.

    Results files are no part of what is measured, so changes in them do not count. Outside a
    checkout, or without git, it is ``not a git checkout``.
    """
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *_MEASURED)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{head} with changes" if changed else head


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="ascii", errors="ignore").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Turn NumPy numbers and paths into what JSON knows."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no place in a results file")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _markdown(body: Mapping[str, Any]) -> str:
    rows = body["rows"]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    figures = table(keys, [[cell(row.get(key)) for key in keys] for row in rows])
    facts = [
        f"Command: `{body['command']}`",
        f"Commit: {body['commit']}",
        f"Machine: {machine_words(body['machine'])}",
        f"Seeds: {cell(body['seeds'])}",
        f"Noise: {cell(body['noise'])}",
        *(f"{key}: {cell(value)}" for key, value in body["notes"].items()),
    ]
    return f"# {body['name']}\n\n{figures}\n\n" + "\n".join(f"- {fact}" for fact in facts) + "\n"
