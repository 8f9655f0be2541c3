"""The report of an index as one HTML file that opens without a network."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from genrec.errors import DataError
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.compare import Comparison
from genrec.tokenization.item_map import item_map
from genrec.tokenization.report_pictures import map_picture, tree_picture, usage_picture
from genrec.tokenization.report_sections import (
    agreement_section,
    comparison_section,
    examples_section,
    forecast_section,
    groups_section,
    head,
    map_section,
    tree_section,
    usage_section,
    verdict_section,
)
from genrec.tokenization.report_style import SCRIPT, STYLE
from genrec.whole_file import replacing


def write_page(
    quality: dict[str, Any],
    index: ItemIndex,
    titles: Sequence[str],
    path: Path,
    *,
    name: str,
    vectors: NDArray[np.float32] | None = None,
    comparison: Comparison | None = None,
    notes: Sequence[str] = (),
    seed: int = 42,
    quiet: bool = True,
) -> None:
    """Write the report of an index for people: verdicts, pictures, examples, worst groups.

    The page asks for nothing from anywhere: style, script and pictures are in it (about 5 MB), and
    it forbids the browser to load or run anything else. Titles are shown as text, whatever is in
    them.

    Args:
        quality: What ``quality.measure`` returned for the index, with ``forecast`` under that key
            where one was made.
        index: The codes and how they were made.
        titles: Title of each item.
        path: HTML file to write.
        name: Name of the catalogue or run, for the head.
        vectors: float32[n, d], for the map and for typical examples; may be memory-mapped.
        comparison: Other indices beside this one.
        notes: Sentences for the head: what to know before reading on.
        seed: Draws the items of the map.
        quiet: No progress display.

    Raises:
        DataError: When titles or vectors are not one for each item of the index.
    """
    for what, table in (("titles", titles), ("vectors", vectors)):
        if table is not None and len(table) != len(index):
            raise DataError(f"there are {len(table)} {what} for {len(index)} items of the index.")
    tree = CodeTree.of(index.codes, index.level_sizes)
    pictures = {
        "usage": usage_picture(index.codes, index.level_sizes),
        "tree": tree_picture(tree, titles, vectors),
    }
    places = None if vectors is None else item_map(vectors, seed=seed, quiet=quiet)
    if places is not None:
        rows, plane = places
        chosen = [titles[row] for row in rows]
        pictures["map"] = map_picture(plane, index.codes[rows], chosen)
    sections = [
        verdict_section(quality),
        usage_section(quality),
        tree_section(quality),
        map_section(None if places is None else len(places[0]), len(index)),
        agreement_section(quality),
        forecast_section(quality.get("forecast")),
        examples_section(quality["neighbours"]),
        groups_section(quality),
        comparison_section(comparison),
    ]
    shown = [(anchor, title, body) for anchor, title, body in sections if body]
    page = _page(name, head(name, quality, index, notes), shown, pictures)
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _page(
    name: str,
    header: str,
    sections: Sequence[tuple[str, str, str]],
    pictures: Mapping[str, go.Figure],
) -> str:
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in sections)
    body = "\n".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{title}</h2>\n{content}</section>'
        for anchor, title, content in sections
    )
    library = get_plotlyjs().replace("\r\n", "\n")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(library, SCRIPT)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Semantic IDs: {html.escape(name)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#verdicts">To the verdicts</a>
<header>{header}</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
<noscript><p>The pictures need JavaScript; all figures are in the tables as well.</p></noscript>
{body}
</main>
<footer><p>Written by genrec. The file is complete: it loads nothing, sends nothing.</p></footer>
<script type="application/json" id="figures">{_as_json(pictures)}</script>
<script>{library}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _policy(*scripts: str) -> str:
    """Allow these very scripts and nothing from elsewhere."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
        for script in scripts
    ]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _as_json(pictures: Mapping[str, go.Figure]) -> str:
    """Write the pictures so that nothing in them can end the script element they stand in."""
    body = {name: json.loads(str(picture.to_json())) for name, picture in pictures.items()}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
