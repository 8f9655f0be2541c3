"""A report as Markdown: tables with the best figure in bold, and the protocol in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genrec.evaluation.results import Report

Cell = str
NAMES = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "coverage": "Coverage"}


def to_markdown(report: Report) -> str:
    """Return the report as one Markdown document."""
    recall, ndcg = report.headline
    parts = [
        "# How good the recommendations are",
        _summary(report),
        markdown_table(*_headline_table(report)),
        "![Recall and NDCG of each model](report.png)",
        "Ten users with their lists: [examples.md](examples.md).",
    ]
    if report.differences:
        reference = report.differences[0]["reference"]
        parts += [f"## Difference to {reference}", _difference_words(report)]
        parts.append(markdown_table(*_difference_table(report)))
    parts.append("## At every list length")
    for metric, name in NAMES.items():
        parts += [f"### {name}", markdown_table(*_cutoff_table(report, metric))]
    for by in dict.fromkeys(row["by"] for row in report.slices):
        parts.append(f"## By {by}")
        parts += [markdown_table(*_slice_table(report, by, key)) for key in (recall, ndcg)]
    parts += ["## The lists themselves", markdown_table(*_list_table(report))]
    if report.full_rows:
        parts += [
            "## Each model on all of its own examples",
            "These rows are not measured on the same examples and must not be compared.",
            markdown_table(*_full_table(report)),
        ]
    parts += ["## Protocol", "\n".join(f"- {line}" for line in protocol_words(report))]
    return "\n\n".join(parts) + "\n"


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[Cell]], *, figures: bool = True
) -> str:
    """Return a Markdown table: first column to the left, figures to the right, words to the left.

    >>> print(markdown_table(["model", "recall"], [["one", "0.5"]]))
    | model | recall |
    | :--- | ---: |
    | one | 0.5 |
    """
    lines = [
        list(header),
        [":---"] + ["---:" if figures else ":---"] * (len(header) - 1),
        *(list(row) for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Return text from outside so that Markdown shows it as it is, on one line.

    >>> escape("Tea | *green*")
    'Tea \\\\| \\\\*green\\\\*'
    """
    marks = "\\`*_{}[]<>#|~"
    return "".join(
        "\\" + letter if letter in marks else letter for letter in " ".join(text.split())
    )


def best_in_bold(values: Sequence[float], cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells, those of the largest value in bold; none when all are 0.

    >>> best_in_bold([0.1, 0.2], ["0.1", "0.2"])
    ['0.1', '**0.2**']
    """
    best = max(values, default=0.0)
    return [
        f"**{cell}**" if value == best and best > 0 else cell
        for value, cell in zip(values, cells, strict=True)
    ]


def _figure(value: float) -> Cell:
    return f"{value:.4f}"


def _percent(value: float) -> Cell:
    return f"{100 * value:.1f} %"


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> list[Cell]:
    """Return one metric of all rows: with its interval where there is one, the best in bold."""
    cells = [
        _figure(row[key])
        + (
            f" [{_figure(row[f'{key}_low'])}, {_figure(row[f'{key}_high'])}]"
            if f"{key}_low" in row
            else ""
        )
        for row in rows
    ]
    return best_in_bold([row[key] for row in rows], cells)


def _with_names(report: Report, columns: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    names = [escape(model) for model in report.models]
    return [list(row) for row in zip(names, *columns, strict=True)]


def _headline_table(report: Report) -> tuple[list[str], list[list[Cell]]]:
    recall, ndcg = report.headline
    mrr, coverage = recall.replace("recall", "mrr"), recall.replace("recall", "coverage")
    header = ["model", recall, ndcg, mrr, coverage, "invalid", "seconds"]
    best = report.best_possible
    rows = _with_names(
        report,
        [
            *(_column(report.rows, key) for key in (recall, ndcg, mrr)),
            [_figure(row[coverage]) for row in report.rows],
            [_percent(row["invalid_rate"]) for row in report.rows],
            [f"{row['seconds']:.1f}" for row in report.rows],
        ],
    )
    if not best:
        return header, rows
    rows.append(
        ["best possible", *(_figure(best[k]) if k in best else "" for k in (recall, ndcg, mrr))]
        + [""] * 3
    )
    if best.get(recall):
        header.insert(2, "of best possible")
        shares = [_percent(row[recall] / best[recall]) for row in report.rows]
        for row, share in zip(rows, [*shares, "100.0 %"], strict=True):
            row.insert(2, share)
    return header, rows


def _difference_table(report: Report) -> tuple[list[str], list[list[Cell]]]:
    rows = [
        [escape(row["model"])]
        + [
            f"{row[key]:+.4f} [{row[f'{key}_low']:+.4f}, {row[f'{key}_high']:+.4f}]"
            for key in report.headline
        ]
        for row in report.differences
    ]
    return ["model", *report.headline], rows


def _difference_words(report: Report) -> str:
    reference = escape(report.differences[0]["reference"])
    return (
        f"Each model minus {reference} on the same users (paired bootstrap). An interval that "
        "does not hold 0 is a difference that other users would most likely show too."
    )


def _cutoff_table(report: Report, metric: str) -> tuple[list[str], list[list[Cell]]]:
    keys = [f"{metric}@{cutoff}" for cutoff in report.protocol["cutoffs"]]
    if metric == "coverage":  # More of it is not better in itself: nothing is bold.
        columns = [[_figure(row[key]) for row in report.rows] for key in keys]
    else:
        plain = [{key: row[key] for key in keys} for row in report.rows]
        columns = [_column(plain, key) for key in keys]
    rows = _with_names(report, columns)
    best = [key for key in keys if key in report.best_possible]
    if best:
        rows.append(
            ["best possible"]
            + [_figure(report.best_possible[key]) if key in best else "" for key in keys]
        )
    return ["model", *keys], rows


def _slice_table(report: Report, by: str, key: str) -> tuple[list[str], list[list[Cell]]]:
    inside = [row for row in report.slices if row["by"] == by]
    rows = []
    for label in dict.fromkeys(row["slice"] for row in inside):
        here = [row for row in inside if row["slice"] == label]
        rows.append([label, str(here[0]["n"]), *_column(here, key)])
    return [f"{by}, {key}", "examples", *(escape(model) for model in report.models)], rows


def _list_table(report: Report) -> tuple[list[str], list[list[Cell]]]:
    header = [
        "model",
        "entries a list",
        "short lists",
        "no item",
        "twice",
        "seen before",
        "seconds per 1,000 lists",
    ]
    rows = [
        [
            escape(row["model"]),
            f"{row['mean_length']:.1f}",
            _percent(row["short_lists"]),
            _percent(row["invalid_rate"]),
            _percent(row["duplicate_rate"]),
            _percent(row["seen_rate"]),
            f"{1000 * row['seconds'] / row['seconds_examples']:.2f}",
        ]
        for row in report.rows
    ]
    return header, rows


def _full_table(report: Report) -> tuple[list[str], list[list[Cell]]]:
    keys = [*report.headline, report.headline[0].replace("recall", "coverage")]
    rows = [
        [escape(row["model"]), f"{row['examples']:,}", *(_figure(row[key]) for key in keys)]
        for row in report.full_rows
    ]
    return ["model", "examples", *keys], rows


def _summary(report: Report) -> str:
    protocol = report.protocol
    text = (
        f"{protocol['examples']:,} {protocol['part']} examples of {protocol['users']:,} users, "
        f"{protocol['catalog_items']:,} items to choose from. The best figure is bold"
    )
    if protocol["bootstrap_samples"]:
        text += "; brackets hold 95 % intervals over users"
    return text + "."


def protocol_words(report: Report) -> list[str]:
    """Return how it was measured, one sentence a line."""
    protocol = report.protocol
    asked = ", ".join(
        f"{escape(model)} {count:,} (seed {protocol['sample_seed'].get(model)})"
        for model, count in protocol["examples_asked"].items()
    )
    excluded = {True: "never recommended", False: "may be recommended"}.get(
        protocol["exclude_seen"], "treated as the models did; the predictions do not say"
    )
    lines = [
        f"Split: {_plain(protocol['split'])}; part: {protocol['part']}; "
        f"source: {_plain(protocol['source'])}.",
        "An example is one event of the part: the user's earlier items are given, the item of "
        "the event is to be found among all items of the catalogue. No sampled negatives.",
        f"Examples of the part: {protocol['examples_of_part']:,}. Asked for: {asked}.",
        f"Same examples: {protocol['same_examples_rule']}.",
        f"Items of the user's history: {excluded}. In "
        f"{_percent(protocol['targets_seen_before'])} of the examples the item to find is "
        "in the history.",
        f"Ties: {protocol['tie_rule']}.",
        f"Misses: {protocol['miss_rule']}.",
        "Seconds: time to make all lists a model was asked for, as its predictions state it.",
    ]
    if protocol["bootstrap_samples"]:
        lines.append(
            f"Intervals: percentile bootstrap over users, {protocol['bootstrap_samples']:,} "
            f"resamples, seed {protocol['bootstrap_seed']}, 95 %."
        )
    if protocol["cutoffs_left_out"]:
        longest = min(protocol["list_length"].values())
        lines.append(
            f"Not measured, because the lists hold {longest} items: "
            + ", ".join(f"@{cutoff}" for cutoff in protocol["cutoffs_left_out"])
            + "."
        )
    if report.best_possible:
        lines.append(
            "Best possible: what a recommender that knows the store's rules reaches, on all "
            "examples of the part."
        )
    return lines


def _plain(value: Any) -> str:  # noqa: ANN401
    """Return a fact of the dataset in words."""
    if value is None:
        return "not stated"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items() if part is not None)
    return escape(str(value))
