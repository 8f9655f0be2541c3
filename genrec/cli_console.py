"""What the command line prints: consoles and tables."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from genrec.doctor import Check
    from genrec.evaluation.results import Report

_WIDTH_IN_A_FILE = 120
_STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}


def output() -> Console:
    """Return the console of standard output."""
    return _console(stderr=False)


def messages() -> Console:
    """Return the console of standard error, where everything goes that is not the answer."""
    return _console(stderr=True)


def say(text: str, *, style: str | None = None) -> None:
    """Print one message to standard error, unwrapped, brackets and all as they stand."""
    messages().print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def answer(text: str) -> None:
    """Print text to standard output as it stands."""
    output().print(text, markup=False, highlight=False, soft_wrap=True)


def plain_table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """Return an empty table with these columns; those in ``right`` hold numbers."""
    shown = None if title is None else escape(title)
    table = Table(title=shown, box=box.SIMPLE, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def results_table(report: "Report") -> Table:
    """Show one row a model, and the best possible where the world's rules are known."""
    recall, ndcg = report.headline
    cutoff = recall.partition("@")[2]
    keys = [recall, ndcg, f"mrr@{cutoff}", f"coverage@{cutoff}", "invalid_rate"]
    best = report.best_possible.get(recall)
    share = "of best possible"
    numbers = [recall, *([share] if best else []), *keys[1:], "seconds"]
    title = f"{report.protocol['examples']:,} {report.protocol['part']} examples"
    table = plain_table("model", *numbers, title=title, right=numbers)
    rows = [dict(row) for row in report.rows]
    if best:
        rows.append({"model": "best possible", **report.best_possible})
    for row in rows:
        cells = {key: _number(row.get(key), "{:.4f}") for key in keys}
        cells[share] = f"{row[recall] / best:.0%}" if best else ""
        cells["seconds"] = _number(row.get("seconds"), "{:.1f}")
        table.add_row(escape(str(row["model"])), *(cells[name] for name in numbers))
    return table


def timings_table(seconds: Mapping[str, float]) -> Table:
    """Show the seconds of each stage and their sum."""
    table = plain_table("stage", "seconds", title="Time", right=["seconds"])
    for verb, value in seconds.items():
        table.add_row(verb, f"{value:.1f}")
    table.add_row("all", f"{sum(seconds.values()):.1f}", style="bold")
    return table


def doctor_table(checks: Sequence["Check"]) -> Table:
    """Show what was found and what to do about it."""
    table = plain_table("", "check", "found", "what to do")
    for check in checks:
        mark = f"[{_STYLES[check.status]}]{check.status}[/]"
        table.add_row(mark, check.name, escape(check.found), escape(check.advice))
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A terminal knows its width; a file or a pipe does not, and 80 columns would break tables.
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_IN_A_FILE)
