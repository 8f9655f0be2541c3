"""The parts of the report in words and tables; each returns its anchor, its title and its HTML."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.compare import Comparison
from genrec.tokenization.html_table import html_table
from genrec.tokenization.quality_tables import (
    STATES,
    agreement_table,
    forecast_table,
    forecast_words,
    level_table,
)
from genrec.tokenization.verdicts import verdicts

Section = tuple[str, str, str]

METHODS = {
    "residual_kmeans": "residual k-means",
    "rq_vae": "an RQ-VAE",
    "product": "product quantization",
    "random": "random numbers",
    "independent": "giving each item a code of its own",
    "title": "the words of the titles",
    "sequential": "numbering the items in the order people choose them",
    "collaborative": "grouping items that are chosen one after the other",
    "semantic": "the category tree",
    "hybrid": "a group's codes and a code of each item's own",
}
VECTORS = {
    "text": "text vectors",
    "cf": "collaborative vectors",
    "concatenation": "text and collaborative vectors side by side",
    "aligned": "text and collaborative vectors brought into agreement",
    "multimodal": "text and image vectors side by side",
}
POLICIES = {
    "nearest_free": "Of items with equal codes, all but the best fitting moved to the nearest free "
    "last code.",
    "sinkhorn": "Items with equal codes were spread evenly over the last codes, then moved to free "
    "ones.",
    "extra_digit": "Items with equal codes are told apart by one digit more.",
    "shared": "Items may share their codes; they are then ranked by popularity.",
}


def head(name: str, quality: dict[str, Any], index: ItemIndex, notes: Sequence[str] = ()) -> str:
    """Return the head of the page: what the index is, in words, and how the verdicts stand."""
    states = [verdict.state for verdict in verdicts(quality)]
    tally = " ".join(
        f'<span class="chip {state}">{states.count(state)} {words}</span>'
        for state, words in STATES.items()
        if state in states
    )
    facts = "".join(
        f"<p>{html.escape(line)}</p>" for line in (*_facts(quality, index.facts), *notes)
    )
    return (
        '<div><p class="eyebrow">Semantic IDs: report</p>\n'
        f"<h1>{html.escape(name)}</h1>\n"
        f'<div class="lede">{facts}<p class="tally">{tally}</p></div></div>'
    )


def _facts(quality: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    sizes = quality["level_sizes"]
    lines = [
        f"{quality['items']:,} items; each has {len(sizes)} codes, of "
        f"{' × '.join(f'{size:,}' for size in sizes)}."
    ]
    if facts.get("method"):
        made = f"Made by {_in_words(str(facts['method']), METHODS)}"
        if facts.get("vectors"):
            made += f" from {_in_words(str(facts['vectors']), VECTORS)}"
        lines.append(f"{made}.")
    policy = str(facts.get("collision_policy", ""))
    if policy:
        lines.append(POLICIES.get(policy, f"Items with equal codes: {policy.replace('_', ' ')}."))
    return lines


def _in_words(value: str, words: dict[str, str]) -> str:
    return words.get(value, value.replace("_", " "))


def verdict_section(quality: dict[str, Any]) -> Section:
    """Show a card for every figure."""
    cards = "\n".join(
        f'<article class="verdict"><h3>{html.escape(verdict.name)}</h3>'
        f'<div class="value">{html.escape(verdict.value)}</div>'
        f'<span class="chip {verdict.state}">{STATES[verdict.state]}</span>'
        f"<p>{html.escape(verdict.words)}</p></article>"
        for verdict in verdicts(quality)
    )
    return "verdicts", "At a glance", f'<div class="grid">{cards}</div>'


def usage_section(quality: dict[str, Any]) -> Section:
    """Show how many items each code has."""
    return (
        "usage-part",
        "Use of codes",
        _intro(
            "One bar a code, most used first. The dotted line is where all bars would end if every "
            "code had as many items; a steep fall means a few crowded codes, an empty right end "
            "means dead ones."
        )
        + _picture("usage", "Items of each code, level by level")
        + _details("The levels in figures", html_table(*level_table(quality))),
    )


def tree_section(quality: dict[str, Any]) -> Section:
    """Show the top of the tree of IDs."""
    return (
        "tree-part",
        "The tree of IDs",
        _intro(
            "The inner ring is the first code, the next ring the second, and so on; a slice is as "
            "wide as it has items. Point at a slice for typical titles, click it to look inside, "
            "click the centre to come back. Only the largest groups are drawn; grey is the rest."
        )
        + _picture("tree", "Groups of items by their first codes")
        + _details("The most crowded groups as a list", _groups(quality["crowded_prefixes"])),
    )


def map_section(drawn: int | None, items: int) -> Section:
    """Show the map; nothing when there is none."""
    if drawn is None:
        return "map-part", "Map", ""
    which = "All items" if drawn == items else f"{drawn:,} of the {items:,} items, drawn by chance,"
    return (
        "map-part",
        "Map",
        _intro(
            f"{which} laid out so that like vectors lie together, in the colour of their first "
            "code. Patches of one colour are good: what lies together begins with the same code. "
            "Distances between patches mean little."
        )
        + _picture("map", "Items in the plane, coloured by their first code"),
    )


def agreement_section(quality: dict[str, Any]) -> Section:
    """Show how far codes agree with vectors and with what people choose."""
    header, rows = agreement_table(quality)
    if not rows:
        return "agreement", "Agreement", ""
    body = _intro(
        "How often two items begin with the same codes: an item and its nearest vectors, an item "
        "and the one people chose next; beside what chance would give."
    )
    return "agreement", "Agreement", f'{body}<div class="card">{html_table(header, rows)}</div>'


def forecast_section(forecast: dict[str, Any] | None) -> Section:
    """Show the forecast; nothing when there is none."""
    if not forecast:
        return "forecast", "Forecast", ""
    header, rows = forecast_table(forecast)
    body = f'<div class="card">{html_table(header, rows)}</div>'
    return "forecast", "Forecast", _intro(forecast_words(forecast)) + body


def examples_section(entries: Sequence[dict[str, Any]]) -> Section:
    """Show neighbours of a few items as titles."""
    if not entries:
        return "examples", "Neighbours", ""
    intro = _intro(
        "A few items drawn by chance with those nearest to them. If a list looks wrong to you, a "
        "model will learn wrong likenesses. Titles in bold stand in both lists."
    )
    cards = "\n".join(_example(entry) for entry in entries)
    return "examples", "Neighbours", f'{intro}<div class="grid examples">{cards}</div>'


def _example(entry: dict[str, Any]) -> str:
    by_codes = [row["title"] for row in entry["by_codes"]]
    by_vectors = entry["by_vectors"] or []
    both = set(by_codes) & set(by_vectors)
    shared = [f" ({row['shared']} shared)" for row in entry["by_codes"]]
    lists = _list("By codes", by_codes, both, shared)
    if entry["by_vectors"] is not None:
        lists = _list("By vectors", by_vectors, both, [""] * len(by_vectors)) + lists
    return (
        f'<article class="card"><h3>{html.escape(entry["title"])}</h3>'
        f'<div class="codes">{_codes(entry["codes"])}</div>'
        f'<div class="pair">{lists}</div></article>'
    )


def _list(name: str, titles: Sequence[str], both: set[str], after: Sequence[str]) -> str:
    items = "".join(
        f'<li class="{"both" if title in both else ""}">{html.escape(title)}'
        f'<span class="codes">{more}</span></li>'
        for title, more in zip(titles, after, strict=True)
    )
    return f"<div><h4>{name}</h4><ol>{items}</ol></div>"


def groups_section(quality: dict[str, Any]) -> Section:
    """Show the groups to look at first."""
    parts = []
    if quality["crowded_prefixes"]:
        parts.append(
            "<h3>Most crowded</h3>"
            + _intro("Most items that differ in nothing but their last code.")
            + _groups(quality["crowded_prefixes"])
        )
    if quality["loose_codes"]:
        parts.append(
            "<h3>Least alike</h3>"
            + _intro(
                "First codes whose items lie farthest apart; a spread of 1 is no closer than the "
                "whole catalogue."
            )
            + _groups(quality["loose_codes"])
        )
    body = "".join(f'<div class="card" style="margin-top:.8rem">{part}</div>' for part in parts)
    return "groups", "Worst groups", body


def comparison_section(comparison: Comparison | None) -> Section:
    """Show several indices side by side; nothing when there are none."""
    if comparison is None:
        return "comparison", "Comparison", ""
    return "comparison", "Comparison", f'<div class="card">{comparison.to_html()}</div>'


def _groups(groups: Sequence[dict[str, Any]]) -> str:
    spread = any("spread" in group for group in groups)
    header = ["codes", "items", *(["spread"] if spread else []), "some titles"]
    rows = [
        [
            _codes(group["codes"]),
            f"{group['items']:,}",
            *([f"{group['spread']:.3f}"] if spread else []),
            "; ".join(group["titles"]),
        ]
        for group in groups
    ]
    return html_table(header, rows, words=(0, len(header) - 1))


def _codes(codes: Iterable[int]) -> str:
    return "\u00a0·\u00a0".join(str(code) for code in codes)


def _intro(words: str) -> str:
    return f'<p class="intro">{html.escape(words)}</p>\n'


def _picture(name: str, words: str) -> str:
    return (
        f'<div class="card"><div class="picture" id="{name}" role="img" '
        f'aria-label="{html.escape(words)}"></div></div>\n'
    )


def _details(name: str, body: str) -> str:
    return f"<details><summary>{html.escape(name)}</summary>{body}</details>\n"
