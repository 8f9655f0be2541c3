"""The quality of an index as a Markdown page."""

from collections.abc import Sequence
from typing import Any

from genrec.evaluation.tables import escape, markdown_table
from genrec.tokenization.verdicts import percent, verdicts

STATES = {"good": "good", "look": "look at this", "unknown": "not measured"}
KEYS = ("recall@10", "ndcg@10")


def to_markdown(quality: dict[str, Any]) -> str:
    """Turn what ``quality.measure`` returned into a page for people.

    Args:
        quality: The figures; a ``forecast`` may be added under that key.
    """
    sizes = " x ".join(str(size) for size in quality["level_sizes"])
    judged = [[v.name, v.value, STATES[v.state], v.words] for v in verdicts(quality)]
    parts = [
        "# Semantic IDs",
        f"{quality['items']} items, codes {sizes}.",
        "## In short",
        markdown_table(["figure", "value", "verdict", "what it means"], judged, figures=False),
        "## Collisions",
        _collisions(quality),
        "## Levels",
        "Perplexity is the number of codes that would be as varied if all were used alike; entropy "
        "is its logarithm to base 2. The error is the share of the vectors' spread that the codes "
        "of the method lose up to this level, before collisions were resolved.",
        markdown_table(*level_table(quality)),
        "## Agreement",
        *_agreement(quality),
    ]
    if quality.get("forecast"):
        forecast = quality["forecast"]
        parts += [
            "## Forecast",
            forecast_words(forecast),
            markdown_table(*forecast_table(forecast)),
        ]
    parts += ["## Neighbours", *(_neighbours(entry) for entry in quality["neighbours"])]
    return "\n\n".join(parts) + "\n"


def _collisions(quality: dict[str, Any]) -> str:
    before, after = quality["collisions_before"], quality["collisions_after"]
    rows = [
        [label, "-" if before is None else str(before[key]), str(after[key])]
        for key, label in (
            ("items_sharing", "items that share their codes"),
            ("unique_tuples", "distinct codes"),
            ("largest_group", "most items with the same codes"),
        )
    ]
    return "\n\n".join([markdown_table(["", "before", "after"], rows), *_moves(quality)])


def _moves(quality: dict[str, Any]) -> list[str]:
    words = []
    if quality["items_moved"] is not None:
        words.append(f"{quality['items_moved']} items moved to another code of the last level.")
    if quality["added_distance"] is not None:
        words.append(
            f"They are {(1 + quality['added_distance']) ** 0.5:.3g} times as far from what their "
            "codes stand for as before (root mean square)."
        )
    if quality.get("error_after") is not None:
        words.append(
            f"The codes of the index lose {percent(quality['error_after'])} of the vectors' spread."
        )
    if quality["spare_moves"]:
        words.append(f"{quality['spare_moves']} of them got a code that stands for no vector.")
    if quality["extra_level"]:
        words.append("Items that were left with the same codes are told apart by one digit more.")
    return [" ".join(words)] if words else []


def level_table(quality: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of levels."""
    header = ["level", "codes", "used by the method", "perplexity", "used in the index", "dead"]
    header += ["perplexity", "entropy (bits)", "distinct prefixes", "largest prefix", "error"]
    return header, [_level_row(quality, level) for level in range(len(quality["level_sizes"]))]


def _level_row(quality: dict[str, Any], level: int) -> list[str]:
    before, error = _at(quality["levels_before"], level), _at(quality["error"], level)
    after, prefix = quality["levels_after"][level], quality["prefixes"][level]
    return [
        str(level + 1),
        str(after["size"]),
        "-" if before is None else str(before["used"]),
        "-" if before is None else f"{before['perplexity']:.1f}",
        str(after["used"]),
        str(after["dead"]),
        f"{after['perplexity']:.1f}",
        f"{after['entropy']:.2f}",
        str(prefix["distinct"]),
        percent(prefix["largest_share"]),
        "-" if error is None else f"{error['relative_error']:.3f}",
    ]


def _at(rows: Sequence[dict[str, Any]] | None, level: int) -> dict[str, Any] | None:
    return rows[level] if rows is not None and level < len(rows) else None


def _agreement(quality: dict[str, Any]) -> list[str]:
    header, rows = agreement_table(quality)
    parts = ["Share of pairs that have the same first codes, beside chance."]
    parts.append(markdown_table(header, rows) if rows else "Nothing to compare with.")
    found = quality["category_agreement"]
    if found:
        parts.append(
            f"First code and category ({found['categories']} categories, {found['items']} items): "
            "normalised mutual information "
            f"{found['normalised_mutual_information']:.3f} "
            f"({found['normalised_mutual_information_shuffled']:.3f} for shuffled categories), "
            f"purity {found['purity']:.3f} ({found['purity_shuffled']:.3f})."
        )
    return parts


def agreement_table(quality: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table of neighbours and of items chosen next."""
    rows = []
    for key, label in (
        ("neighbour_agreement", "nearest vectors"),
        ("co_consumption", "chosen next"),
    ):
        for row in (quality[key] or {"prefixes": []})["prefixes"]:
            shares = [percent(row["share"]), percent(row["random"]), f"{row['lift']:.3g}"]
            rows.append([label, str(row["codes"]), *shares])
    return ["pairs", "codes", "share", "by chance", "times chance"], rows


def forecast_words(forecast: dict[str, Any]) -> str:
    """Return what the forecast is, and what the item that came next costs in bits."""
    return (
        "A smoothed next-code model of the training transitions, on "
        f"{forecast['users']:,} validation users, with standard errors. It compares indices of one "
        "dataset; a trained model has figures of its own. The item that came next costs "
        f"{forecast['bits']:.3f} bits, {forecast['bits_shuffled']:.3f} with the same codes "
        "shuffled; fewer is better."
    )


def forecast_table(forecast: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the forecast and its yardstick."""
    rows = [
        [name, *(f"{figures[key]:.4f} ± {figures[f'{key}_error']:.4f}" for key in KEYS)]
        for name, figures in (
            ("forecast for these codes", forecast),
            ("counting which item followed which", forecast["transition"]),
        )
    ]
    return ["", "recall@10", "NDCG@10"], rows


def _neighbours(entry: dict[str, Any]) -> str:
    lines = [
        f"**{escape(entry['title'])}** ({', '.join(str(code) for code in entry['codes'])})",
        "",
    ]
    if entry["by_vectors"] is not None:
        lines.append("- by vectors: " + "; ".join(map(escape, entry["by_vectors"])))
    named = (f"{escape(row['title'])} ({row['shared']})" for row in entry["by_codes"])
    lines.append("- by codes (levels shared): " + "; ".join(named))
    return "\n".join(lines)
