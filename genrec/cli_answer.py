"""An answer as the command line shows it: a table or JSON, and what the table does not hold."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from genrec.cli_console import answer, output, plain_table, say

# Unknown ids that are named; of the rest the number is said.
UNKNOWN_SHOWN = 20


def show_recommendation(result: Any, history: list[str], *, as_json: bool) -> None:  # noqa: ANN401
    """Print the items of a ``Recommendation``, and tell everything else about them beside.

    Args:
        result: The answer.
        history: Ids that were asked about.
        as_json: Print JSON in place of a table.
    """
    _say_history(result, history)
    rules = [rule for rule in result.rules if rule != "exclude_seen"]
    kept = f"Rules: {', '.join(rules)}." if rules else None
    _show(result, [kept, result.fallback, result.shortfall], as_json)


def show_choice(result: Any, history: list[str], *, as_json: bool) -> None:  # noqa: ANN401
    """Print the items of a ``Choice`` in the same way.

    Args:
        result: The answer.
        history: Ids that were asked about.
        as_json: Print JSON in place of a table.
    """
    _say_history(result, history)
    _say_unknown("candidates ", result.unknown_candidates)
    _show(result, [result.fallback], as_json)


def _say_history(result: Any, history: list[str]) -> None:  # noqa: ANN401 - either answer
    """Tell what of a history was not read."""
    _say_unknown("", result.unknown_items)
    missing = set(result.unknown_items)
    known = sum(item_id not in missing for item_id in history)
    if 0 < result.history_read < known:
        say(
            f"The model read the newest {result.history_read} of {known} items of the history.",
            style="yellow",
        )


def _say_unknown(what: str, unknown: list[str]) -> None:
    if unknown:
        shown = ", ".join(unknown[:UNKNOWN_SHOWN])
        more = len(unknown) - UNKNOWN_SHOWN
        shown += f" and {more} more" if more > 0 else ""
        say(f"Not in the catalogue, {what}left out: {shown}", style="yellow")


def _show(result: Any, notes: Sequence[str | None], as_json: bool) -> None:  # noqa: ANN401
    for note in filter(None, notes):
        say(note, style="yellow")
    if as_json:
        answer(json.dumps(asdict(result), ensure_ascii=False, indent=2))
        return
    table = plain_table("rank", "score", "item_id", "title", right=["rank", "score"])
    for item in result.items:
        cells = (escape(item.item_id), escape(item.title))
        table.add_row(str(item.rank), f"{item.score:.4f}", *cells)
    output().print(table)
