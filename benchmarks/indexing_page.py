"""The Markdown page of the comparison of ways to index items."""

from collections.abc import Mapping, Sequence
from typing import Any

from results_file import cell, machine_words, table

Row = dict[str, Any]
TITLES = {
    "beauty": "Amazon 2014 Beauty: 12,101 items",
    "games": "Amazon 2018 Games: 16,859 items",
    "seeds": "Beauty again with other seeds: the leading ways",
    "guarantees": "What is promised, checked",
    "scale": "A million vectors",
    "new-items": "Items that nothing was trained on",
    "page": "The report in a browser",
}
_HOW = ("step", "part", "table", "command", "commit", "machine", "load_before",
        "date", "timing")  # fmt: skip


# Two ways that differ in one thing, and what the papers say about it.
UNIFORM = "uniform mapping: fewer items share codes, at equal reconstruction"
FUSION = "aligned vectors (PRORec) above concatenation"
CLAIMS = (
    (UNIFORM, "rqvae", "rqvae-not-uniform"),
    (UNIFORM, "rqvae-text", "rqvae-text-not-uniform"),
    (FUSION, "kmeans-aligned", "kmeans-concatenation"),
    (FUSION, "rqvae-aligned", "rqvae"),
)
# Errors nearer to each other than this share are equal.
EQUAL_ERROR = 0.02


def page(body: Mapping[str, Any]) -> str:
    """Return the page for what the JSON file holds."""
    rows: list[Row] = body["rows"]
    parts = [
        "# Ways to index items",
        "Every way gets the same dataset, text vectors and cf vectors, and the same small language "
        "model is trained from scratch on its codes. Figures of a row are from one run.",
    ]
    for step in dict.fromkeys(row["step"] for row in rows):
        own = [row for row in rows if row["step"] == step]
        parts.append(f"## {TITLES[step]}")
        for name in dict.fromkeys(row["table"] for row in own):
            found = [row for row in own if row["table"] == name]
            parts += [f"### {name.capitalize()}", _figures(found)]
        if claims := _claims(own):
            parts += ["### Claims of the papers", claims]
        if step == "seeds":
            parts += ["### Means", _means(own)]
        parts.append(_how(own))
    notes = {"Seeds": body["seeds"], "Noise": body["noise"], **body["notes"]}
    parts += ["## Notes", "\n".join(f"- {key}: {cell(value)}" for key, value in notes.items())]
    return "\n\n".join(parts) + "\n"


def _figures(rows: Sequence[Row]) -> str:
    hidden = (*_HOW, *(key for row in rows for key in row if key.endswith(("_low", "_high"))))
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in hidden]
    if len({row.get("seed") for row in rows}) == 1:
        keys = [key for key in keys if key != "seed"]
    keys = [key for key in keys if any(row.get(key) is not None for row in rows)]
    return table(keys, [[_cell(row, key) for key in keys] for row in rows])


def _cell(row: Row, key: str) -> str:
    text = cell(row.get(key))
    if f"{key}_low" in row:
        text += f" [{cell(row[f'{key}_low'])}, {cell(row[f'{key}_high'])}]"
    return text


def _claims(rows: Sequence[Row]) -> str:
    """Return the claims that the rows of a data set speak about; empty when there are none."""
    found = {row["method"]: row for row in rows if row["table"] == "methods"}
    lines = []
    for claim, one, other in CLAIMS:
        if one not in found or other not in found:
            continue
        judge = _uniform if claim == UNIFORM else _fusion
        lines.append([claim, one, other, *judge(found[one], found[other])])
    header = ["claim", "with", "without", "figures", "verdict"]
    return table(header, lines) if lines else ""


def _uniform(one: Row, other: Row) -> tuple[str, str]:
    sharing = f"{one['sharing_before']} and {other['sharing_before']} items share codes"
    errors = f"error {one['reconstruction']:.4g} and {other['reconstruction']:.4g}"
    equal = one["reconstruction"] <= other["reconstruction"] * (1 + EQUAL_ERROR)
    less = other["sharing_before"] - one["sharing_before"]
    # Two standard errors of a difference of counts.
    noise = 2 * (one["sharing_before"] + other["sharing_before"]) ** 0.5
    if abs(less) <= noise and equal:
        return f"{sharing}; {errors}", "**no difference beyond noise**"
    return f"{sharing}; {errors}", "holds" if less > noise and equal else "**fails**"


def _fusion(one: Row, other: Row) -> tuple[str, str]:
    figures = f"NDCG@10 {_cell(one, 'ndcg@10')} and {_cell(other, 'ndcg@10')}"
    if one["ndcg@10_low"] > other["ndcg@10_high"]:
        return figures, "holds"
    below = one["ndcg@10_high"] < other["ndcg@10_low"]
    return figures, "**fails**" if below else "**no difference beyond noise**"


def _means(rows: Sequence[Row]) -> str:
    """Return the mean and the range over seeds of each way."""
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        cells = [name, str(len(own))]
        for metric in ("recall@10", "ndcg@10", "recall@50"):
            values = [row[metric] for row in own]
            mean = sum(values) / len(values)
            cells.append(f"{mean:.4f} [{min(values):.4f}, {max(values):.4f}]")
        lines.append(cells)
    return table(["method", "seeds", "recall@10", "ndcg@10", "recall@50"], lines)


def _how(rows: Sequence[Row]) -> str:
    commits = sorted({row["commit"][:12] for row in rows})
    facts = [
        f"Commits: {', '.join(commits)}; from {min(row['date'] for row in rows)} to "
        f"{max(row['date'] for row in rows)}",
        f"Machine: {machine_words(rows[0]['machine'])}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)
