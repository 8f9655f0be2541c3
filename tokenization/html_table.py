"""Tables of the report as HTML; whatever stands in a cell is shown as text."""

import html
from collections.abc import Collection, Sequence


def html_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Collection[int] = (0,),
    best: Collection[tuple[int, int]] = (),
) -> str:
    """Return a table that scrolls sideways where the screen is narrow.

    Args:
        header: Name of each column.
        rows: Cells of each row.
        words: Columns that hold words; the others hold figures and stand to the right.
        best: Row and column of each cell to be marked as the best of its row.

    Example:
        >>> print(html_table(["item", "n"], [["<b>", "3"]]))
        <div class="wide" tabindex="0"><table>
        <thead><tr><th scope="col">item</th><th scope="col" class="n">n</th></tr></thead>
        <tbody>
        <tr><td>&lt;b&gt;</td><td class="n">3</td></tr>
        </tbody></table></div>
    """
    classes = ["" if column in words else ' class="n"' for column in range(len(header))]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(name)}</th>'
        for name, kind in zip(header, classes, strict=True)
    )
    body = "\n".join(
        f"<tr>{_cells(cells, classes, row, best)}</tr>" for row, cells in enumerate(rows)
    )
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cells(
    cells: Sequence[str], classes: Sequence[str], row: int, best: Collection[tuple[int, int]]
) -> str:
    parts = []
    for column, (cell, kind) in enumerate(zip(cells, classes, strict=True)):
        text = html.escape(cell)
        if (row, column) in best:
            text = f"<strong>{text}<span class='best'> best</span></strong>"
        parts.append(f"<td{kind}>{text}</td>")
    return "".join(parts)
