"""Several indices of one dataset side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from genrec.errors import DataError
from genrec.evaluation.tables import markdown_table
from genrec.tokenization.html_table import html_table
from genrec.tokenization.verdicts import percent

Quality = dict[str, Any]


@dataclass(frozen=True)
class _Figure:
    """One row: how to read it, how to write it, and which end is better.

    Attributes:
        name: What stands in the first column.
        read: Takes the quality of an index; None where it was not measured.
        write: Turns the number into a cell.
        better: 1 when larger is better, -1 when smaller is, 0 when neither.
        same_shape: Whether the figure depends on the number of codes, so that the better one is
            marked only when all indices have the same level sizes.
        error: Reads the standard error. Values within two of the best's are as good as it.
    """

    name: str
    read: Callable[[Quality], float | None]
    write: Callable[[float], str]
    better: int
    same_shape: bool = False
    error: Callable[[Quality], float | None] | None = None


@dataclass(frozen=True)
class Comparison:
    """A table of indices: one row a figure, one column an index.

    Attributes:
        names: Name of each index.
        rows: Name of the figure, then a cell for each index; a dash where it was not measured.
        best: Row and column (0 is the name) of each best value; none where all are equal.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]

    def to_markdown(self) -> str:
        """Return the table with the best values in bold."""
        cells = [
            [
                f"**{cell}**" if (row, column) in self.best else cell
                for column, cell in enumerate(line)
            ]
            for row, line in enumerate(self.rows)
        ]
        header = ["figure", *(name.replace("|", r"\|") for name in self.names)]
        return f"{markdown_table(header, cells)}\n\n{NOTE}\n"

    def to_html(self) -> str:
        """Return the table and its note as a part of a page, without a heading."""
        table = html_table(["figure", *self.names], self.rows, best=self.best)
        return f"{table}\n<p class='note'>{NOTE}</p>"


NOTE = (
    "The best of a row is marked, where there is one. Figures that depend on how many codes there "
    "are (use, error, agreement) are marked only when all indices have levels of the same sizes. "
    "Error and nearest vectors are measured on the vectors of each index. Forecasts of recall and "
    "NDCG within two standard errors of the best count as equal; bits tell indices apart sooner."
)


def compare(indices: Sequence[tuple[str, Quality]]) -> Comparison:
    """Put the figures of several indices side by side.

    Args:
        indices: Name and quality (see ``quality.measure``, with ``forecast`` where there is one)
            of each index, all of the same items.

    Raises:
        DataError: When there is no index, or they have different numbers of items.
    """
    if not indices:
        raise DataError("there is no index to compare.")
    numbers = {name: quality["items"] for name, quality in indices}
    if len(set(numbers.values())) > 1:
        raise DataError(
            f"the indices have different numbers of items ({numbers}); only indices of one dataset "
            "can be compared."
        )
    qualities = [quality for _, quality in indices]
    alike = len({tuple(quality["level_sizes"]) for quality in qualities}) == 1
    rows: list[tuple[str, ...]] = [
        ("codes", *(" x ".join(map(str, quality["level_sizes"])) for quality in qualities))
    ]
    best: set[tuple[int, int]] = set()
    for figure in _FIGURES:
        values = [figure.read(quality) for quality in qualities]
        if all(value is None for value in values):
            continue
        if alike or not figure.same_shape:
            best |= {(len(rows), place + 1) for place in _best(figure, qualities)}
        cells = ("-" if value is None else figure.write(value) for value in values)
        rows.append((figure.name, *cells))
    return Comparison(tuple(name for name, _ in indices), tuple(rows), frozenset(best))


def _best(figure: _Figure, qualities: Sequence[Quality]) -> list[int]:
    """Return which indices have the best value; none when there is nothing to choose."""
    known = {
        place: figure.better * value
        for place, quality in enumerate(qualities)
        if (value := figure.read(quality)) is not None
    }
    if not figure.better or not known:
        return []
    top = max(known, key=lambda place: known[place])
    noise = 2 * (figure.error(qualities[top]) or 0.0) if figure.error else 0.0
    best = [place for place, value in known.items() if value >= known[top] - noise]
    return best if len(best) < len(known) else []


def _share_of_items(key: str, part: str | None = None) -> Callable[[Quality], float | None]:
    def read(quality: Quality) -> float | None:
        found = quality[key] if part is None else (quality[key] or {}).get(part)
        return None if found is None else float(found) / max(quality["items"], 1)

    return read


def _used(quality: Quality) -> float | None:
    return float(min(row["used"] / row["size"] for row in quality["levels_after"]))


def _error(quality: Quality) -> float | None:
    if not quality["error"]:
        return None
    after: float | None = quality.get("error_after")
    return float(quality["error"][-1]["relative_error"]) if after is None else after


def _agreement(key: str, codes: int, value: str) -> Callable[[Quality], float | None]:
    def read(quality: Quality) -> float | None:
        rows = (quality[key] or {"prefixes": []})["prefixes"]
        return next((row[value] for row in rows if row["codes"] == codes), None)

    return read


def _inside(key: str, value: str) -> Callable[[Quality], float | None]:
    return lambda quality: (quality.get(key) or {}).get(value)


def _bits_saved(quality: Quality) -> float | None:
    forecast = quality.get("forecast")
    return float(forecast["bits_shuffled"] - forecast["bits"]) if forecast else None


def _times(value: float) -> str:
    return f"{value:.3g} x chance"


_FIGURES = (
    _Figure(
        "share their codes before",
        _share_of_items("collisions_before", "items_sharing"),
        percent,
        -1,
    ),
    _Figure("share their codes", _share_of_items("collisions_after", "items_sharing"), percent, -1),
    _Figure("moved to another code", _share_of_items("items_moved"), percent, -1),
    _Figure("added distance of those", lambda q: q["added_distance"], "{:.3f}".format, -1),
    _Figure("codes in use, worst level", _used, percent, 1, True),
    _Figure(
        "perplexity of the first code",
        lambda q: q["levels_after"][0]["perplexity"],
        "{:.1f}".format,
        1,
        True,
    ),
    _Figure("largest first code", lambda q: q["prefixes"][0]["largest_share"], percent, -1, True),
    _Figure("reconstruction error", _error, "{:.3f}".format, -1, True),
    *(
        _Figure(
            f"nearest vectors, {codes} same",
            _agreement("neighbour_agreement", codes, "share"),
            percent,
            1,
            True,
        )
        for codes in (1, 2, 3)
    ),
    *(
        _Figure(
            f"chosen next, {codes} same",
            _agreement("co_consumption", codes, "lift"),
            _times,
            1,
            True,
        )
        for codes in (1, 2, 3)
    ),
    _Figure(
        "first code and category, information",
        _inside("category_agreement", "normalised_mutual_information"),
        "{:.3f}".format,
        1,
        True,
    ),
    *(
        _Figure(
            f"forecast: {name}",
            _inside("forecast", key),
            "{:.4f}".format,
            1,
            error=_inside("forecast", f"{key}_error"),
        )
        for name, key in (("recall@10", "recall@10"), ("NDCG@10", "ndcg@10"))
    ),
    _Figure("forecast: bits for the next item", _inside("forecast", "bits"), "{:.3f}".format, -1),
    _Figure("bits saved by what codes mean", _bits_saved, "{:.3f}".format, 1, True),
)
