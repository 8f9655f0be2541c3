"""Write what happened to the data as JSON and as a page to read."""

import json
from pathlib import Path
from typing import Any

import polars as pl

_EXAMPLES = 20


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """Return a Markdown table; bars inside cells are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _read(report: dict[str, Any], quarantine: pl.DataFrame) -> list[str]:
    rows = report["rows"]
    lines = ["## Rows", ""]
    steps = [
        ("read", rows["read"]),
        ("quarantined", rows["quarantined"]),
        *((f"dropped: {name}", count) for name, count in rows["dropped"].items()),
        ("kept", rows["kept"]),
    ]
    lines += _table(("step", "rows"), steps)
    if rows["empty_lines"]:
        lines += [f"{rows['empty_lines']} empty lines were passed over.", ""]
    if report["quarantine_reasons"]:
        lines += ["Rows that could not be used, all of them in `quarantine.parquet`:", ""]
        lines += _table(("reason", "rows"), list(report["quarantine_reasons"].items()))
        first = quarantine.head(_EXAMPLES).with_columns(
            pl.col("file").str.split("/").list.last(), pl.col("text").str.slice(0, 80)
        )
        lines += _table(("file", "row", "reason", "text"), list(first.iter_rows()))
    return lines


def _sizes(report: dict[str, Any]) -> list[str]:
    lengths = report["history_lengths"]
    lines = ["## Sizes", ""]
    lines += _table(
        ("users", "items", "events", "density"),
        [(report["users"], report["items"], report["rows"]["kept"], f"{report['density']:.4%}")],
    )
    lines += ["Events of a user:", ""]
    names = ("minimum", "median", "mean", "maximum")
    lines += _table(names, [tuple(lengths[name] for name in names)])
    lines += _table(("events", "users"), list(lengths["histogram"].items()))
    names = ("events", "users", "items", "events_with_items_unseen_in_training")
    lines += [f"## Split: {report['split']}", ""]
    lines += _table(
        ("part", *(name.replace("_", " ") for name in names)),
        [(part, *(counts[name] for name in names)) for part, counts in report["parts"].items()],
    )
    return lines


def _details(report: dict[str, Any]) -> list[str]:
    ties, leaks, items, texts = (report[k] for k in ("ties", "leaks", "item_file", "texts"))
    lines = ["## Times", ""]
    if report["time_unit"] == "position":
        lines += ["The source has an order and no times.", ""]
    else:
        times = report["times"]
        lines += [
            f"- written as {report['time_unit']}; from {times['first']} to {times['last']} (UTC)",
            f"- neighbouring events of a user with equal times: {ties['tied']} of "
            f"{ties['pairs']} ({ties['share']:.2%}); {report['tie_rule']}",
            "- test events with the time of the user's event before: "
            f"{leaks['test_tied_with_before']:.2%}",
            "- test events older than the newest training event: "
            f"{leaks['test_before_newest_training']:.2%}",
            "",
        ]
    lines += [
        "## Items",
        "",
        f"- in the item file: {items['rows']}; repeated ids dropped: {items['duplicates']}; "
        f"rows without a usable id or of another width: {items['broken']}",
        f"- left out because no event of theirs was kept: {items['without_events']}",
        f"- kept although the item file lacks them (title is the id): {items['missing']}",
        f"- text is made of: {', '.join(items['text_columns']) or 'nothing'}",
        f"- without text: {texts['missing']}; with a text that another item has too: "
        f"{texts['duplicates']}",
        "",
    ]
    return lines


def write_report(folder: Path, report: dict[str, Any], quarantine: pl.DataFrame) -> None:
    """Write ``report.json``, ``report.md`` and ``quarantine.parquet`` into a folder.

    Args:
        folder: Where to write.
        report: All counts, as ``prepare`` gives them.
        quarantine: Columns ``file``, ``row``, ``reason``, ``text``.
    """
    lines = ["# Data report", "", f"Source: {report['source']} ({report['format']})", ""]
    for title, sentences in (("Warnings", report["warnings"]), ("Notes", report["notes"])):
        if sentences:
            lines += [f"## {title}", "", *(f"- {sentence}" for sentence in sentences), ""]
    lines += _read(report, quarantine) + _sizes(report) + _details(report)
    (folder / "report.json").write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    quarantine.write_parquet(folder / "quarantine.parquet")
