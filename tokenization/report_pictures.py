"""The pictures of the report: use of codes, the tree of IDs, a map of the items."""

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from genrec.tokenization.code_tree import CodeTree

# More bars, and more slices in each ring, nobody can read, and a phone cannot draw.
MOST_BARS = 512
MOST_SLICES = (48, 160, 96)
TITLES_SHOWN = 5
LONGEST_TITLE = 70
OTHERS = "rgba(128, 128, 128, 0.15)"
GRID = "rgba(128, 128, 128, 0.25)"
BAR = "#4c86c6"
EVEN_LINE = "#c8702c"

Ints = NDArray[np.int64]


def colour_of(code: int) -> str:
    """Return the colour of a first code; codes next to each other get unlike colours."""
    # Steps of the golden angle never come near each other again.
    return f"hsl({code * 137.508 % 360:.0f}, 52%, {(62, 48, 55)[code % 3]}%)"


def shown(title: str) -> str:
    """Return a title as plotly may show it: shortened, and nothing in it read as markup."""
    short = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1].rstrip() + "…"
    return html.escape(short, quote=False)


def usage_picture(codes: NDArray[np.int32], level_sizes: Sequence[int]) -> go.Figure:
    """Draw how many items each code of each level has, most used first, one panel a level."""
    counts = [
        np.bincount(codes[:, level], minlength=size) for level, size in enumerate(level_sizes)
    ]
    names = [
        f"Level {level + 1}: {int((count > 0).sum()):,} of {len(count):,} codes used"
        for level, count in enumerate(counts)
    ]
    levels = len(counts)
    figure = make_subplots(
        rows=levels, cols=1, subplot_titles=names, vertical_spacing=min(0.35 / levels, 0.2)
    )
    for row, count in enumerate(counts, start=1):
        heights, hover = _bars(count)
        figure.add_trace(
            go.Bar(
                y=heights,
                hovertext=hover,
                hoverinfo="text",
                marker={"color": BAR, "line": {"width": 0}},
            ),
            row=row,
            col=1,
        )
        figure.add_hline(
            y=len(codes) / len(count), line_dash="dot", line_color=EVEN_LINE, row=row, col=1
        )
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False)
    figure.update_yaxes(rangemode="tozero", nticks=4, gridcolor=GRID, zerolinecolor=GRID)
    # Titles stand over the left end, where narrow screens show them whole.
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    figure.update_layout(
        showlegend=False,
        bargap=0,
        height=70 + 150 * levels,
        margin={"l": 44, "r": 8, "t": 30, "b": 12},
    )
    return figure


def _bars(count: Ints) -> tuple[list[float], list[str]]:
    order = np.argsort(-count, kind="stable")
    parts = np.array_split(order, min(len(order), MOST_BARS))
    hover = [
        f"code {part[0]}: {count[part[0]]:,} items"
        if len(part) == 1
        else f"{len(part)} codes: {count[part].mean():,.1f} items each"
        for part in parts
    ]
    return [float(count[part].mean()) for part in parts], hover


@dataclass
class _Slices:
    """The slices of the rings; entry i of each list belongs to slice i."""

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    hover: list[str] = field(default_factory=list)
    colours: list[str] = field(default_factory=list)

    def add(self, name: str, label: str, parent: str, items: int, hover: str, colour: str) -> None:
        self.ids.append(name)
        self.labels.append(label)
        self.parents.append(parent)
        self.items.append(items)
        self.hover.append(hover)
        self.colours.append(colour)

    def close_rings(self) -> None:
        """Close each ring that has a slice with one for the items of all that are not shown."""
        inside = Counter[str]()
        for parent, items in zip(self.parents, self.items, strict=True):
            inside[parent] += items
        for name, items in list(zip(self.ids, self.items, strict=True)):
            rest = items - inside[name]
            if inside[name] and rest:
                self.add(f"{name} others", " ", name, rest, f"{rest:,} other items", OTHERS)


def tree_picture(
    tree: CodeTree, titles: Sequence[str], vectors: NDArray[np.float32] | None
) -> go.Figure:
    """Draw the top of the tree of IDs as rings; a click on a slice makes it the whole.

    Args:
        tree: The prefixes of the index.
        titles: Title of each item.
        vectors: float32[n, d]; the examples of a slice are those nearest to its mean. None takes
            the first rows.
    """
    slices = _Slices()
    slices.add("all", "all items", "", len(tree.node), "all items", OTHERS)
    chosen = _largest_nodes(tree)
    for level, node in chosen:
        path = _path(tree, level, node)
        rows = np.flatnonzero(tree.node[:, level] == node)
        lines = [f"<b>codes {', '.join(map(str, path))}</b>: {len(rows):,} items"]
        lines += [shown(titles[row]) for row in _typical(rows, vectors)]
        slices.add(
            _name(path),
            str(path[-1]),
            _name(path[:-1]),
            len(rows),
            "<br>".join(lines),
            colour_of(path[0]),
        )
    slices.close_rings()
    figure = go.Figure(
        go.Sunburst(
            ids=slices.ids,
            labels=slices.labels,
            parents=slices.parents,
            values=slices.items,
            hovertext=slices.hover,
            marker={
                "colors": slices.colours,
                "line": {"width": 1, "color": "rgba(255, 255, 255, 0.55)"},
            },
            branchvalues="total",
            # The centre and two rings; a click brings the third.
            maxdepth=3,
            hoverinfo="text",
            leaf={"opacity": 1},
            rotation=90,
            insidetextorientation="radial",
        )
    )
    figure.update_layout(height=560, margin={"l": 4, "r": 4, "t": 4, "b": 4})
    return figure


def _largest_nodes(tree: CodeTree) -> list[tuple[int, int]]:
    """Return level and node of the largest prefixes, ring by ring, under those drawn before."""
    nodes: list[tuple[int, int]] = []
    inside = np.zeros(1, dtype=np.int64)
    for level, most in enumerate(MOST_SLICES[: tree.levels]):
        items = tree.items_below(level)
        # Below the first ring a slice of one item is no group.
        fit = np.isin(tree.parent[level], inside) & ((items > 1) | (level == 0))
        found = np.flatnonzero(fit)
        inside = found[np.argsort(-items[found], kind="stable")[:most]]
        nodes += [(level, node) for node in inside.tolist()]
    return nodes


def _path(tree: CodeTree, level: int, node: int) -> list[int]:
    path: list[int] = []
    for above in reversed(range(level + 1)):
        path.append(int(tree.code[above][node]))
        node = int(tree.parent[above][node])
    return path[::-1]


def _name(path: Sequence[int]) -> str:
    return "-".join(["all", *map(str, path)])


def _typical(rows: Ints, vectors: NDArray[np.float32] | None) -> Ints:
    if vectors is None or len(rows) <= TITLES_SHOWN:
        return rows[:TITLES_SHOWN]
    own = vectors[rows].astype(np.float64)
    distance = ((own - own.mean(axis=0)) ** 2).sum(axis=1)
    return rows[np.argsort(distance, kind="stable")[:TITLES_SHOWN]]


def map_picture(
    places: NDArray[np.float32], codes: NDArray[np.int32], titles: Sequence[str]
) -> go.Figure:
    """Draw items as points, in the colour of their first code.

    Args:
        places: float32[r, 2].
        codes: int32[r, L] of the same items.
        titles: Their titles.
    """
    hover = [
        f"<b>{shown(title)}</b><br>codes {', '.join(map(str, row))}"
        for title, row in zip(titles, codes.tolist(), strict=True)
    ]
    figure = go.Figure(
        go.Scatter(
            x=places[:, 0],
            y=places[:, 1],
            mode="markers",
            hovertext=hover,
            hoverinfo="text",
            marker={
                "size": 6,
                "opacity": 0.85,
                "color": [colour_of(code) for code in codes[:, 0].tolist()],
            },
        )
    )
    hidden = {"visible": False}
    figure.update_layout(
        height=560, xaxis=hidden, yaxis=hidden, margin={"l": 4, "r": 4, "t": 4, "b": 4}
    )
    return figure
