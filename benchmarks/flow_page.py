"""The Markdown page of the flow benchmark: all bars first, then one section a step."""

from collections.abc import Mapping, Sequence
from typing import Any

from flow_rows import STAMP, STEPS, Row
from results_file import cell, machine_words, table

TITLES = {
    "quickstart-fast": "Quickstart with a small model trained from scratch",
    "quickstart": "Quickstart with SmolLM2-135M",
    "movietweetings": "MovieTweetings-100k, model trained from scratch",
    "movietweetings-smollm2": "MovieTweetings-100k, SmolLM2-135M tuned with LoRA",
    "decoding": "Decoding: only real items, and the best ones",
    "serve": "The service, from a copied model folder, with the dataset gone",
    "readme": "The two commands of the README in a fresh clone",
    "ci": "Continuous integration",
}

# Rows of a report hold every cutoff; a page that can be read shows these.
_SHOWN = (
    "model", "examples", "recall@10", "ndcg@10", "mrr@10", "share_of_best", "coverage@10",
    "invalid_rate", "seconds",
)  # fmt: skip
_WITH_INTERVAL = ("recall@10", "ndcg@10")
_PLACE = ("step", "kind", "table", *STAMP)


def page(body: Mapping[str, Any]) -> str:
    """Return the page for what the JSON file holds."""
    rows: list[Row] = body["rows"]
    parts = [
        "# The whole flow",
        f"Every step is measured on its own by `{body['command']}` and keeps its own commit, "
        "machine and date. A bar is what a figure has to be.",
        "## Bars",
        _bars(rows),
    ]
    for step in STEPS:
        own = [row for row in rows if row["step"] == step]
        if own:
            parts += _section(step, own)
    notes = {"Seeds": body["seeds"], "Noise": body["noise"], **body["notes"]}
    parts += ["## Notes", "\n".join(f"- {key}: {cell(value)}" for key, value in notes.items())]
    return "\n\n".join(parts) + "\n"


def _bars(rows: Sequence[Row]) -> str:
    """Return the table of all bars, and of the steps that have none to show."""
    lines = []
    for step in STEPS:
        own = [row for row in rows if row["step"] == step]
        if not own:
            lines.append([step, "", "", "", "not measured"])
        for row in own:
            if row["kind"] == "failure":
                lines.append([step, "", "", "", "failed"])
            elif row["kind"] == "bar":
                verdict = "met" if row["met"] else "**missed**"
                lines.append([step, cell(row["bar"]), row["wanted"], cell(row["value"]), verdict])
    return table(["step", "bar", "wanted", "measured", "verdict"], lines)


def _section(step: str, rows: Sequence[Row]) -> list[str]:
    parts = [f"## {TITLES[step]}"]
    parts += [f"Failed: {cell(row['reason'])}" for row in rows if row["kind"] == "failure"]
    found = [row for row in rows if row["kind"] == "figures"]
    for name in dict.fromkeys(row["table"] for row in found):
        parts += [f"### {name}", _figures([row for row in found if row["table"] == name])]
    return [*parts, _how(rows)]


def _figures(rows: Sequence[Row]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in _PLACE))
    if set(_WITH_INTERVAL) <= set(keys):
        keys = [key for key in _SHOWN if key in keys]
    return table(keys, [[_with_interval(row, key) for key in keys] for row in rows])


def _with_interval(row: Row, key: str) -> str:
    text = cell(row.get(key))
    if f"{key}_low" in row:
        text += f" [{cell(row[f'{key}_low'])}, {cell(row[f'{key}_high'])}]"
    return text


def _how(rows: Sequence[Row]) -> str:
    """Say how the rows of a step were measured; they were stamped together."""
    first = rows[0]
    facts = [
        f"Command: `{first['command']}`",
        f"Seconds: {cell(first['step_seconds'])} ({first['timing']})",
        f"Commit: {first['commit']}; date: {first['date']}; seed: {cell(first['seed']) or 'none'}",
        f"Machine: {machine_words(first['machine'])}; load before the start {first['load_before']}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)
