"""An answer as the command line shows it: a table or JSON, and what the table does not hold."""

import json
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from genrec.cli_console import answer, output, plain_table, say

# Unknown ids of a history that are named; of the rest the number is said.
UNKNOWN_SHOWN = 20


def show_answer(result: Any, history: list[str], *, as_json: bool) -> None:  # noqa: ANN401 - below
    """Print items, and tell everything else about them beside.

    Args:
        result: A ``Recommendation`` or a ``Choice``.
        history: Ids that were asked about.
        as_json: Print JSON in place of a table.
    """
    _say_notes(result, history)
    if as_json:
        answer(json.dumps(asdict(result), ensure_ascii=False, indent=2))
    else:
        _print_items(result.items)


def _say_notes(result: Any, history: list[str]) -> None:  # noqa: ANN401 - either answer
    """Tell everything about an answer that its table does not show."""
    wanted = getattr(result, "unknown_candidates", [])
    for what, unknown in (("", result.unknown_items), ("candidates ", wanted)):
        if unknown:
            shown = ", ".join(unknown[:UNKNOWN_SHOWN])
            more = len(unknown) - UNKNOWN_SHOWN
            shown += f" and {more} more" if more > 0 else ""
            say(f"Not in the catalogue, {what}left out: {shown}", style="yellow")
    missing = set(result.unknown_items)
    known = sum(item_id not in missing for item_id in history)
    if 0 < result.history_read < known:
        say(
            f"The model read the newest {result.history_read} of {known} items of the history.",
            style="yellow",
        )
    rules = [rule for rule in getattr(result, "rules", []) if rule != "exclude_seen"]
    kept = f"Rules: {', '.join(rules)}." if rules else None
    for note in (kept, result.fallback, getattr(result, "shortfall", None)):
        if note:
            say(note, style="yellow")


def _print_items(items: list[Any]) -> None:
    table = plain_table("rank", "score", "item_id", "title", right=["rank", "score"])
    for item in items:
        cells = (escape(item.item_id), escape(item.title))
        table.add_row(str(item.rank), f"{item.score:.4f}", *cells)
    output().print(table)
